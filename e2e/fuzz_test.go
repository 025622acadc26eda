package e2e

import (
	"go/ast"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// parserName is how functions that read bytes of others are called here.
var parserName = regexp.MustCompile(`^(parse|Parse|decode|Decode|Unmarshal|read[A-Z]|Read[A-Z]|load$|Load[A-Z])`)

// notFuzzed are functions of such names whose input is no stranger's, or that
// only fetch what another parser reads. Each needs a reason.
var notFuzzed = map[string]string{
	"cmd/meshcrypt.readLine":         "the operator's own keyboard",
	"cmd/meshcrypt.readFile":         "fetches; parseConfig reads",
	"cmd/meshcrypt.readAll":          "fetches; parseConfig reads",
	"cmd/meshcrypt.readCertificates": "fetches PEM of the operator's own file; crypto/pki.FuzzClientChain reads",
	"cmd/meshcrypt/demo.readSetting": "the demo's own environment",
	"consensus/registry.ParseRoles":  "a list of known words",
	"crypto/esp.ParseSuite":          "a list of known words",
	"slicing.ParseMode":              "a list of known words",
	"node/host.readJournal":          "fetches; parseJournal reads",
	"node/host.ReadClosed":           "fetches; parseJournal reads",
	"node/host.readSysctl":           "the kernel's own file",
}

// TestParsersAreFuzzed: every function that is named like a parser and takes
// bytes, text or a stream is called, by itself or by others of its package,
// from a fuzz target of that package (I11).
func TestParsersAreFuzzed(t *testing.T) {
	left := maps.Clone(notFuzzed)
	for dir, p := range packagesByName(t) {
		reached := p.reached()
		for name, decl := range p.parsers {
			full := dir + "." + name
			if _, excused := left[full]; excused {
				delete(left, full)
				continue
			}
			if !reached[name] {
				t.Errorf("%s: no fuzz target of its package reaches it: write one, or give the reason in notFuzzed", full)
			}
			_ = decl
		}
	}
	for full := range left {
		t.Errorf("notFuzzed names %s, which is no parser", full)
	}
}

// TestFuzzTargetsHaveSeeds: a target without seeds finds nothing in ten seconds.
func TestFuzzTargetsHaveSeeds(t *testing.T) {
	count := 0
	for dir, p := range packagesByName(t) {
		for name, body := range p.fuzz {
			count++
			corpus, err := filepath.Glob(filepath.Join("..", dir, "testdata", "fuzz", name, "*"))
			if err != nil {
				t.Fatal(err)
			}
			if !names(body)["Add"] && len(corpus) == 0 {
				t.Errorf("%s.%s has no seed", dir, name)
			}
		}
	}
	t.Logf("%d fuzz targets", count)
	script, err := os.ReadFile("../.ci/fuzz")
	if err != nil || !strings.Contains(string(script), "go list ./...") {
		t.Errorf(".ci/fuzz does not look through all packages: %v", err)
	}
}

// namedPackage is what one directory declares, by name: which functions use
// which names, however they come to them.
type namedPackage struct {
	uses    map[string]map[string]bool // names in the body of each function or method
	fuzz    map[string]*ast.FuncDecl
	parsers map[string]*ast.FuncDecl
}

func packagesByName(t *testing.T) map[string]*namedPackage {
	t.Helper()
	all := make(map[string]*namedPackage)
	for _, s := range sources(t) {
		if under(s.dir(), "e2e", "node/tun/tuntest", "mesh/meshtest", "mesh/link/linktest") {
			continue
		}
		p := all[s.dir()]
		if p == nil {
			p = &namedPackage{map[string]map[string]bool{}, map[string]*ast.FuncDecl{}, map[string]*ast.FuncDecl{}}
			all[s.dir()] = p
		}
		for _, d := range s.syntax.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Body != nil {
				p.add(s, f)
			}
		}
	}
	return all
}

func (p *namedPackage) add(s source, f *ast.FuncDecl) {
	name := f.Name.Name
	if p.uses[name] == nil {
		p.uses[name] = map[string]bool{}
	}
	maps.Copy(p.uses[name], names(f))
	switch {
	case s.test() && strings.HasPrefix(name, "Fuzz"):
		p.fuzz[name] = f
	case !s.test() && parserName.MatchString(name) && takesInput(f):
		p.parsers[name] = f
	}
}

// takesInput reports whether a parameter may carry what somebody else wrote.
func takesInput(f *ast.FuncDecl) bool {
	return slices.ContainsFunc(f.Type.Params.List, func(field *ast.Field) bool {
		switch typ := field.Type.(type) {
		case *ast.ArrayType: // []byte, [][]byte, []string
			return typ.Len == nil
		case *ast.Ident:
			return typ.Name == "string"
		case *ast.SelectorExpr:
			return slices.Contains([]string{"Reader", "Conn", "RawMessage"}, typ.Sel.Name)
		}
		return false
	})
}

// names are all identifiers in a function's body.
func names(f *ast.FuncDecl) map[string]bool {
	all := make(map[string]bool)
	ast.Inspect(f.Body, func(n ast.Node) bool {
		if id, ok := n.(*ast.Ident); ok {
			all[id.Name] = true
		}
		return true
	})
	return all
}

// reached are the names that fuzz targets come to within the package.
func (p *namedPackage) reached() map[string]bool {
	seen := make(map[string]bool)
	var visit func(string)
	visit = func(name string) {
		if seen[name] {
			return
		}
		seen[name] = true
		for next := range p.uses[name] {
			visit(next)
		}
	}
	for name := range p.fuzz {
		visit(name)
	}
	return seen
}
