package e2e

import (
	"go/ast"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const (
	maxFunctionLines = 70
	maxFileLines     = 600
	maxCommentWidth  = 100
)

// longFunctions may not grow past the length written here; a new name is not
// welcome. Shorten one, and its entry goes.
var longFunctions = map[string]int{}

func TestFunctionsAndFilesStayShort(t *testing.T) {
	for _, s := range sources(t) {
		if n := strings.Count(s.text, "\n"); n > maxFileLines {
			t.Errorf("%s has %d lines, limit %d: split it along the ownership of its state", s.path, n, maxFileLines)
		}
		for _, d := range s.syntax.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			n := s.fset.Position(f.End()).Line - s.line(f) + 1
			if limit := max(maxFunctionLines, longFunctions[s.dir()+"."+f.Name.Name]); n > limit {
				t.Errorf("%s:%d %s has %d lines, limit %d: name its steps", s.path, s.line(f), f.Name.Name, n, limit)
			}
		}
	}
}

// banned calls, each with what to use instead. where says in which files.
var banned = []struct {
	call    string
	where   func(source) bool
	instead string
}{
	{"time.Sleep", func(s source) bool { return s.test() && !under(s.dir(), "e2e/netns") },
		"testing/synctest and a timer, or wait for the event itself"},
	{"time.Sleep", func(s source) bool { return !s.test() && !under(s.dir(), "cmd", "e2e") },
		"a timer in a select with the end of the context"},
	{"time.Tick", anywhere, "time.NewTicker, and stop it"},
	{"log.Print", anywhere, "the *slog.Logger you were given"},
	{"log.Printf", anywhere, "the *slog.Logger you were given"},
	{"log.Println", anywhere, "the *slog.Logger you were given"},
	{"log.Fatal", anywhere, "return the error; only main exits"},
	{"log.Fatalf", anywhere, "return the error; only main exits"},
	{"slog.Default", anywhere, "the *slog.Logger you were given"},
	{"fmt.Print", library, "return it, or write to the io.Writer you were given"},
	{"fmt.Printf", library, "return it, or write to the io.Writer you were given"},
	{"fmt.Println", library, "return it, or write to the io.Writer you were given"},
	{"os.Exit", func(s source) bool { return !under(s.dir(), "cmd", "e2e") && !s.test() }, "return the error; only main exits"},
	{"t.Skip", anywhere, "means the test makes itself, or the tag e2e: a test that may not run proves nothing"},
	{"t.Skipf", anywhere, "means the test makes itself, or the tag e2e: a test that may not run proves nothing"},
	{"t.SkipNow", anywhere, "means the test makes itself, or the tag e2e: a test that may not run proves nothing"},
	{"testing.Short", anywhere, "one length for everybody, a short one"},
}

func anywhere(source) bool  { return true }
func library(s source) bool { return !s.test() && !under(s.dir(), "cmd", "e2e") }

func TestBannedCalls(t *testing.T) {
	for _, s := range sources(t) {
		ast.Inspect(s.syntax, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			name := callName(call)
			for _, b := range banned {
				if b.call == name && b.where(s) {
					t.Errorf("%s:%d calls %s: use %s", s.path, s.line(n), name, b.instead)
				}
			}
			if name == "panic" && under(s.dir(), "node") && !pure(s.dir()) && len(call.Args) == 1 && callsFmt(call.Args[0]) {
				t.Errorf("%s:%d panics with what it was given: a node returns an error; a constant text is for the impossible", s.path, s.line(n))
			}
			if (name == "strings.Contains" || name == "strings.HasPrefix") && callName(call.Args[0]) == ".Error" && !s.test() {
				t.Errorf("%s:%d reads an error's text: use errors.Is or errors.As", s.path, s.line(n))
			}
			return true
		})
	}
}

// callName gives "pkg.Func", ".Method" of anything longer, or "func".
func callName(n ast.Node) string {
	call, ok := n.(*ast.CallExpr)
	if !ok {
		return ""
	}
	switch f := call.Fun.(type) {
	case *ast.Ident:
		return f.Name
	case *ast.SelectorExpr:
		if x, ok := f.X.(*ast.Ident); ok && f.Sel.Name != "Error" {
			return x.Name + "." + f.Sel.Name
		}
		return "." + f.Sel.Name
	}
	return ""
}

func callsFmt(n ast.Node) bool { return strings.HasPrefix(callName(n), "fmt.") }

func TestPackages(t *testing.T) {
	documented := make(map[string]bool)
	for _, s := range sources(t) {
		if base := strings.TrimSuffix(path.Base(s.dir()), "_test"); slices.Contains([]string{"util", "utils", "common", "helpers", "types", "manager"}, base) {
			t.Errorf("%s: a package is named for what it owns, by a noun of the glossary", s.dir())
		}
		for _, d := range s.syntax.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Name.Name == "init" && f.Recv == nil {
				t.Errorf("%s:%d init(): build it where it is used, and pass it on", s.path, s.line(f))
			}
		}
		if !s.test() {
			doc := s.syntax.Doc.Text()
			documented[s.dir()] = documented[s.dir()] || strings.HasPrefix(doc, "Package ") || strings.HasPrefix(doc, "Command ")
		}
	}
	for dir, ok := range documented {
		if !ok {
			t.Errorf("%s has no package comment: say what it owns and what it does not", dir)
		}
	}
}

// unfinished is built from halves, so that this file passes its own test.
var unfinished = regexp.MustCompile(`(?i)\b(TO` + `DO|FIX` + `ME|XX` + `X|not yet imple` + `mented|for n` + `ow)\b`)

func TestComments(t *testing.T) {
	for _, s := range sources(t) {
		for _, group := range s.syntax.Comments {
			for _, c := range group.List {
				if m := unfinished.FindString(c.Text); m != "" {
					t.Errorf("%s:%d says %q: finish it, or write an issue", s.path, s.line(c), m)
				}
				for _, line := range strings.Split(c.Text, "\n") {
					if len([]rune(line)) > maxCommentWidth && strings.Contains(line[2:], " ") && alone(s, c) {
						t.Errorf("%s:%d comment is wider than %d columns", s.path, s.line(c), maxCommentWidth)
					}
				}
			}
		}
	}
}

// alone reports whether a comment has its line for itself, and is prose.
func alone(s source, c *ast.Comment) bool {
	lines := strings.Split(s.text, "\n")
	return strings.HasPrefix(strings.TrimSpace(lines[s.line(c)-1]), "//") && !strings.HasPrefix(c.Text, "//go:")
}

// TestReadmeMap: the README's package map names every package there is, and no
// other. A package stands in it as `path` in backticks, under a heading that
// holds the word "map".
func TestReadmeMap(t *testing.T) {
	if _, err := os.Stat("../README.md"); os.IsNotExist(err) {
		return
	}
	section := regexp.MustCompile(`(?ims)^#+ [^\n]*\bmap\b[^\n]*\n(.*?)(\n#|\z)`).FindStringSubmatch(document(t, "README.md"))
	if section == nil {
		t.Fatal("README.md has no heading with the word map")
	}
	named := make(map[string]bool)
	for _, m := range regexp.MustCompile("`((?:cmd|node|mesh|consensus|crypto|slicing|e2e)(?:/[a-z0-9/]+)?)/?`").FindAllStringSubmatch(section[1], -1) {
		named[strings.TrimSuffix(m[1], "/")] = true
	}
	exists := make(map[string]bool)
	for _, p := range packages(t) {
		exists[p.name()] = true
		if !named[p.name()] && !under(p.name(), "e2e") {
			t.Errorf("README's map lacks %s", p.name())
		}
	}
	for name := range named {
		if !exists[name] {
			if _, err := os.Stat("../" + name); err != nil {
				t.Errorf("README's map names %s, which does not exist", name)
			}
		}
	}
}
