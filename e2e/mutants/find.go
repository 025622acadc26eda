package main

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path"
	"slices"
	"strings"
)

// Kinds of mutants.
const (
	kindGuard   = "guard"      // a refusal that never comes
	kindCompare = "comparison" // a boundary moved by one, or an equality turned round
	kindWipe    = "wipe"       // a secret that stays, or a key that does not stop
	kindNamed   = "named"      // of named.txt
)

// mutant is one change of one file.
type mutant struct {
	file   string // from the project's root
	kind   string
	where  string // function, or the name of a named one
	number int    // among those of the same file, kind, function and text
	line   int
	from   int // offsets of the bytes that are replaced
	to     int
	before string
	after  string
	tests  []string // further packages whose tests may notice; of named ones
	by     []string // those alone that have to; of named ones
}

// name says which mutant it is without a line number, for lines move.
func (m mutant) name() string {
	if m.kind == kindNamed {
		return m.file + " named " + m.where
	}
	text := strings.Join(strings.Fields(m.before), " ")
	if m.number > 0 {
		text += fmt.Sprintf(" #%d", m.number+1)
	}
	return fmt.Sprintf("%s %s %s: %s", m.file, m.where, m.kind, text)
}

func (m mutant) diff() string {
	return fmt.Sprintf("%s:%d\n    - %s\n    + %s", m.file, m.line, strings.TrimSpace(m.before), strings.TrimSpace(m.after))
}

func (m mutant) dir() string { return path.Dir(m.file) }

// applied is the file with the change in it.
func (m mutant) applied(text []byte) []byte {
	return slices.Concat(text[:m.from], []byte(m.after), text[m.to:])
}

// find lists what can be turned off in one file, in its order.
func find(file string, text []byte) ([]mutant, error) {
	fset := token.NewFileSet()
	syntax, err := parser.ParseFile(fset, file, text, 0)
	if err != nil {
		return nil, err
	}
	f := finder{fset: fset, file: file, text: text, seen: make(map[string]int)}
	for _, d := range syntax.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok && fn.Body != nil {
			f.where, f.results = functionName(fn), fn.Type.Results
			ast.Inspect(fn.Body, f.visit)
		}
	}
	slices.SortStableFunc(f.all, func(a, b mutant) int { return cmp.Compare(a.from, b.from) })
	return f.all, nil
}

func functionName(fn *ast.FuncDecl) string {
	if fn.Recv == nil {
		return fn.Name.Name
	}
	of := fn.Recv.List[0].Type
	if star, ok := of.(*ast.StarExpr); ok {
		of = star.X
	}
	if name, ok := of.(*ast.Ident); ok {
		return name.Name + "." + fn.Name.Name
	}
	return fn.Name.Name
}

// finder collects the mutants of one file.
type finder struct {
	fset    *token.FileSet
	file    string
	text    []byte
	where   string         // function being read
	results *ast.FieldList // and what it gives
	all     []mutant
	seen    map[string]int
}

func (f *finder) visit(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.FuncLit: // a function of its own, with results of its own
		outer := f.results
		f.results = n.Type.Results
		ast.Inspect(n.Body, f.visit)
		f.results = outer
		return false
	case *ast.IfStmt:
		if n.Else == nil && f.refuses(n.Body.List) {
			f.replace(kindGuard, n.Cond, "false && (%s)")
		}
	case *ast.SwitchStmt:
		if n.Tag == nil {
			f.cases(n.Body)
		}
	case *ast.BinaryExpr:
		if other, ok := turned[n.Op]; ok {
			f.operator(n, other)
		}
	case *ast.ExprStmt:
		if wipes(n.X) {
			f.replace(kindWipe, n, "if false { %s }")
		}
	case *ast.DeferStmt:
		if wipes(n.Call) {
			f.replace(kindWipe, n, "if false { %s }")
		}
	}
	return true
}

// cases are the guards of a switch without a tag.
func (f *finder) cases(body *ast.BlockStmt) {
	for _, s := range body.List {
		if c := s.(*ast.CaseClause); len(c.List) == 1 && f.refuses(c.Body) {
			f.replace(kindGuard, c.List[0], "false && (%s)")
		}
	}
}

// refuses reports whether a block ends what was asked for.
func (f *finder) refuses(body []ast.Stmt) bool {
	if len(body) == 0 {
		return false
	}
	switch last := body[len(body)-1].(type) {
	case *ast.ReturnStmt:
		return f.refusal(last)
	case *ast.BranchStmt:
		return last.Tok == token.CONTINUE
	case *ast.ExprStmt:
		call, ok := last.X.(*ast.CallExpr)
		return ok && slices.Contains([]string{"panic", "count", "drop"}, calledName(call))
	}
	return false
}

// refusal reports whether a return is a no: an error, false, or nothing at all.
func (f *finder) refusal(r *ast.ReturnStmt) bool {
	if f.results == nil || len(r.Results) == 0 {
		return true
	}
	last, ok := r.Results[len(r.Results)-1].(*ast.Ident)
	of := f.results.List[len(f.results.List)-1].Type
	if star, is := of.(*ast.StarExpr); is {
		of = star.X
	}
	name, _ := of.(*ast.Ident)
	switch {
	case name == nil:
		return true
	case name.Name == "error" || name.Name == "Error":
		return !ok || last.Name != "nil"
	case name.Name == "bool":
		return !ok || last.Name != "true"
	}
	return true
}

var turned = map[token.Token]string{
	token.LSS: "<=", token.LEQ: "<", token.GTR: ">=", token.GEQ: ">", token.EQL: "!=", token.NEQ: "==",
}

func calledName(call *ast.CallExpr) string {
	switch fun := call.Fun.(type) {
	case *ast.Ident:
		return fun.Name
	case *ast.SelectorExpr:
		return fun.Sel.Name
	}
	return ""
}

// wipes reports whether a call clears a secret or stops a key.
func wipes(n ast.Expr) bool {
	call, ok := n.(*ast.CallExpr)
	if !ok {
		return false
	}
	switch calledName(call) {
	case "clear", "Wipe", "wipe", "Expire", "forget":
		return true
	case "Stop":
		on, ok := call.Fun.(*ast.SelectorExpr).X.(*ast.SelectorExpr)
		return ok && on.Sel.Name == "Out"
	}
	return false
}

func (f *finder) replace(kind string, n ast.Node, form string) {
	from, to := f.offset(n.Pos()), f.offset(n.End())
	before := string(f.text[from:to])
	f.add(mutant{kind: kind, line: f.fset.Position(n.Pos()).Line, from: from, to: to,
		before: before, after: fmt.Sprintf(form, before)})
}

func (f *finder) operator(n *ast.BinaryExpr, other string) {
	from, to := f.offset(n.Pos()), f.offset(n.End())
	at := f.offset(n.OpPos) - from
	before := f.text[from:to]
	after := slices.Concat(before[:at], []byte(other), before[at+len(n.Op.String()):])
	f.add(mutant{kind: kindCompare, line: f.fset.Position(n.OpPos).Line, from: from, to: to,
		before: string(before), after: string(after)})
}

func (f *finder) add(m mutant) {
	m.file, m.where = f.file, f.where
	key := m.name()
	m.number = f.seen[key]
	f.seen[key]++
	f.all = append(f.all, m)
}

func (f *finder) offset(p token.Pos) int { return f.fset.Position(p).Offset }

// drawn picks n of all by a seed. Each mutant's lot hangs on its own name alone: where
// the tree changes, the draw elsewhere stays as it is, and so does what a log says of it.
func drawn(all []mutant, seed uint64, n int) []mutant {
	lot := func(m mutant) string {
		sum := sha256.Sum256(fmt.Appendf(nil, "%d %s", seed, m.name()))
		return string(sum[:])
	}
	all = slices.Clone(all)
	slices.SortFunc(all, func(a, b mutant) int { return cmp.Compare(lot(a), lot(b)) })
	return all[:min(n, len(all))]
}

func byPlace(all []mutant) {
	slices.SortStableFunc(all, func(a, b mutant) int {
		return cmp.Or(cmp.Compare(a.file, b.file), cmp.Compare(a.from, b.from), cmp.Compare(a.name(), b.name()))
	})
}

// lineAt is the line, from 1, of an offset.
func lineAt(text []byte, offset int) int { return 1 + bytes.Count(text[:offset], []byte("\n")) }
