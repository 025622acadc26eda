package e2e

import (
	"fmt"
	"go/ast"
	"go/token"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// declared are the programs that tests may start, each with its package; a
// program that stands with its path counts by its name.
func declared(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{"go": "Go", "gofmt": "Go"}
	for i, line := range strings.Split(document(t, ".ci/programs"), "\n") {
		line, _, _ = strings.Cut(line, "#")
		if strings.TrimSpace(line) == "" {
			continue
		}
		name, programs, ok := strings.Cut(line, ":")
		if !ok || name != strings.TrimSpace(name) || len(strings.Fields(name)) != 1 || len(strings.Fields(programs)) == 0 {
			t.Errorf(".ci/programs:%d: %q is not a package, a colon, and its programs", i+1, line)
		}
		for _, program := range strings.Fields(programs) {
			if other := all[path.Base(program)]; other != "" {
				t.Errorf(".ci/programs:%d: %s stands there twice", i+1, program)
			}
			all[path.Base(program)] = name
		}
	}
	return all
}

// starters are the calls that start a program, and which argument names it. The
// last three are the lab's.
var starters = map[string]int{
	"exec.Command": 0, "exec.CommandContext": 1, "exec.LookPath": 0, "lab.Unprivileged": 0,
	"Command": 1, "Try": 1, "Start": 2,
}

// ownPrograms are the programs without a name of their own: this binary, or the one
// under test.
var ownPrograms = []string{"self", "path", "args[0]", "c.binary", "r.binary", "m.binary", "r.bench.peer", "/proc/self/exe", "meshcrypt"}

// TestProgramsAreDeclared: what a test, a benchmark or the demo starts stands in
// .ci/programs, so that it is installed everywhere. What their shells start, a
// run under .ci/with finds out.
func TestProgramsAreDeclared(t *testing.T) {
	all, found := declared(t), 0
	for _, s := range sources(t) {
		ast.Inspect(s.syntax, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			name, ok := startedBy(call)
			if !ok {
				return true
			}
			found++
			if all[path.Base(name)] == "" && !slices.Contains(ownPrograms, name) {
				t.Errorf("%s:%d starts %s: add the line \"PACKAGE: %[3]s\" to .ci/programs", s.path, s.line(n), name)
			}
			return true
		})
	}
	if found < 40 {
		t.Errorf("%d programs found: are the calls read right?", found)
	}
}

// startedBy is the program that a call starts: the text of a constant, else the
// expression.
func startedBy(call *ast.CallExpr) (string, bool) {
	name := callName(call)
	if s, ok := call.Fun.(*ast.SelectorExpr); ok && !strings.HasPrefix(name, "exec.") && name != "lab.Unprivileged" {
		name = s.Sel.Name
	}
	at, ok := starters[name]
	if !ok || len(call.Args) <= at {
		return "", false
	}
	switch arg := call.Args[at].(type) {
	case *ast.BasicLit:
		text, err := strconv.Unquote(arg.Value)
		return text, err == nil && arg.Kind == token.STRING
	case *ast.Ident, *ast.SelectorExpr, *ast.IndexExpr:
		return expression(arg), !call.Ellipsis.IsValid() || len(call.Args) > at+1
	}
	return "", false // the end of a list, whose beginning is seen where it is made
}

// expression writes a short expression as it stands in the source.
func expression(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return expression(e.X) + "." + e.Sel.Name
	case *ast.IndexExpr:
		return expression(e.X) + "[" + expression(e.Index) + "]"
	case *ast.BasicLit:
		return e.Value
	}
	return fmt.Sprintf("%T", e)
}

// TestOnlyDeclaredPrograms: under .ci/with a program that is declared is found,
// also one outside PATH, and one that is not declared is missing although the
// machine has it.
func TestOnlyDeclaredPrograms(t *testing.T) {
	dir := t.TempDir()
	scripts := filepath.Join(dir, ".ci")
	for _, name := range []string{"with", "deps", "go", "programs"} {
		put(t, filepath.Join(scripts, name), document(t, ".ci/"+name))
	}
	put(t, filepath.Join(dir, "go.mod"), document(t, "go.mod"))
	for _, name := range []string{"asked", "stray", "library/far"} {
		put(t, filepath.Join(dir, name), "#!/bin/sh\n")
	}
	put(t, filepath.Join(scripts, "programs"), document(t, ".ci/programs")+"here: asked\nthere: "+dir+"/library/far\n")
	const script = `for program in go sh ip asked far; do command -v $program; done; ! command -v stray`
	cmd := exec.Command(filepath.Join(scripts, "with"), "sh", "-ec", script)
	cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
	if out, err := cmd.CombinedOutput(); err != nil || strings.Count(string(out), "\n") != 5 {
		t.Errorf("want go, sh, ip, asked and far, without stray: %v\n%s", err, out)
	}
}

// TestMissingPrograms: who may not install is told the line that does.
func TestMissingPrograms(t *testing.T) {
	scripts := filepath.Join(t.TempDir(), ".ci")
	put(t, filepath.Join(scripts, "deps"), document(t, ".ci/deps"))
	put(t, filepath.Join(scripts, "programs"), "one: sh no-such-program another\nshell: sh\ntwo: /no/such/file\n")
	put(t, filepath.Join(scripts, "id"), "#!/bin/sh\necho 1000\n")
	cmd := exec.Command(filepath.Join(scripts, "deps"))
	cmd.Env = append(os.Environ(), "PATH="+scripts+":"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	if want := "sudo apt-get install -y --no-install-recommends one two\n"; err == nil || !strings.HasSuffix(string(out), want) {
		t.Errorf("%v, %q; want it to end with %q", err, out, want)
	}
}

func put(t *testing.T, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}
