package main

import (
	"bytes"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

const sample = `package sample

func (g *gate) admit(n int) (bool, error) {
	if n < 3 && n != 0 {
		return false, errSmall
	}
	if g == nil {
		return true, nil
	}
	switch {
	case n == 7:
		return false, errSeven
	case n == 8:
		n++
	}
	defer clear(g.secret)
	for range n {
		if g.shut {
			continue
		}
		g.key.Out.Stop()
		g.timer.Stop()
	}
	return func() bool {
		if g.shut {
			return false
		}
		return true
	}(), nil
}
`

// TestFind: what refuses, compares or wipes, and nothing else; each place once.
func TestFind(t *testing.T) {
	found, err := find("a/sample.go", []byte(sample))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range found {
		got = append(got, strings.TrimPrefix(m.name(), "a/sample.go gate.admit ")+" => "+m.after)
	}
	want := []string{
		"guard: n < 3 && n != 0 => false && (n < 3 && n != 0)",
		"comparison: n < 3 => n <= 3",
		"comparison: n != 0 => n == 0",
		"comparison: g == nil => g != nil",
		"guard: n == 7 => false && (n == 7)",
		"comparison: n == 7 => n != 7",
		"comparison: n == 8 => n != 8",
		"wipe: defer clear(g.secret) => if false { defer clear(g.secret) }",
		"guard: g.shut => false && (g.shut)",
		"wipe: g.key.Out.Stop() => if false { g.key.Out.Stop() }",
		"guard: g.shut #2 => false && (g.shut)",
	}
	if !slices.Equal(got, want) {
		t.Errorf("found\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestDraw: a seed and a tree give the same mutants, in the order of their places.
func TestDraw(t *testing.T) {
	found, err := find("a/sample.go", []byte(sample))
	if err != nil {
		t.Fatal(err)
	}
	names := func(seed uint64, n int) string {
		var all []string
		for _, m := range (&plan{found: found}).choose(seed, n, "guard") {
			all = append(all, m.name())
		}
		return strings.Join(all, "\n")
	}
	if first := names(1, 5); names(1, 5) != first || names(2, 5) == first {
		t.Error("the seed does not decide")
	}
	if all := names(1, 1000); strings.Count(all, "\n") != 3 || !strings.Contains(all, "#2") {
		t.Errorf("of all: %s", all)
	}
}

// TestDrawElsewhereStays: a package more takes the place of some, and brings no other.
func TestDrawElsewhereStays(t *testing.T) {
	found, err := find("a/sample.go", []byte(sample))
	if err != nil {
		t.Fatal(err)
	}
	more, err := find("A/sample.go", []byte(sample))
	if err != nil {
		t.Fatal(err)
	}
	const n = 6
	before := make(map[string]bool)
	for _, m := range drawn(found, 1, n) {
		before[m.name()] = true
	}
	stayed := 0
	for _, m := range drawn(slices.Concat(more, found), 1, n) {
		switch {
		case before[m.name()]:
			stayed++
		case m.file == "a/sample.go":
			t.Errorf("%s is drawn only since another package is there", m.name())
		}
	}
	if len(before) != n || stayed == 0 || stayed == n {
		t.Errorf("of %d drawn %d stayed: this tests nothing", len(before), stayed)
	}
}

// TestDataFiles: named mutants still fit their files, and whoever is excused exists.
func TestDataFiles(t *testing.T) {
	p, err := readPlan("../..")
	if err != nil {
		t.Fatal(err)
	}
	names := make(map[string]bool)
	for _, m := range append(p.found, p.named...) {
		if names[m.name()] {
			t.Errorf("two mutants are %s", m.name())
		}
		names[m.name()] = true
	}
	for name := range p.equivalent {
		if !names[name] {
			t.Errorf("equivalent.txt excuses %q, which does not exist", name)
		}
	}
	if len(p.found) < 1000 || len(p.named) == 0 {
		t.Errorf("%d mutants found, %d named", len(p.found), len(p.named))
	}
}

// TestMutantsAreGo: what is written in place of a guard parses.
func TestMutantsAreGo(t *testing.T) {
	p, err := readPlan("../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range p.choose(1, 200, "") {
		text, err := os.ReadFile(filepath.Join("../..", m.file))
		if err != nil {
			t.Fatal(err)
		}
		changed := m.applied(text)
		if _, err := parser.ParseFile(token.NewFileSet(), m.file, changed, 0); err != nil || bytes.Equal(changed, text) {
			t.Errorf("%s: %v", m.name(), err)
		}
	}
}

// tried is a project of one package, whose test notices some of its mutants.
var tried = map[string]string{
	"go.mod": "module tried\n\ngo 1.26\n",
	"gate/gate.go": `package gate

func Admit(n int) bool {
	if n > 9 {
		return false
	}
	return n != 5
}

func Wait(n int) int {
	for n < 3 {
		n++
	}
	return n
}
`,
	"gate/gate_test.go": `package gate

import "testing"

func TestAdmit(t *testing.T) {
	if Admit(10) || !Admit(4) || Wait(3) != 3 {
		t.Error("not so")
	}
}
`,
	"e2e/mutants/packages.txt":   "# the one\ngate\n",
	"e2e/mutants/equivalent.txt": "gate/gate.go Admit comparison: n != 5\tit is, for this test\n",
	"e2e/mutants/named.txt": `name: it never ends
file: gate/gate.go
--- before
		n++
--- after
		n--
---
name: it is no Go
file: gate/gate.go
--- before
	return n != 5
--- after
	return n + 5
---
name: it ends too late
file: gate/gate.go
--- before
	return n
}
--- after
	for {
	}
}
---
`,
}

// TestRun tries mutants of each fate, with the real compiler; the tree stays as it is,
// and a log is gone on with.
func TestRun(t *testing.T) {
	root := t.TempDir()
	for name, text := range tried {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	p, err := readPlan(root)
	if err != nil {
		t.Fatal(err)
	}
	o := options{root: root, log: filepath.Join(root, "log"), jobs: 2, within: time.Minute, grace: 500 * time.Millisecond}
	chosen := p.choose(1, 1000, "")
	for range 2 { // the second time all stands in the log
		r, err := newRunner(o, p.extra)
		if err != nil {
			t.Fatal(err)
		}
		defer r.close()
		if err := r.measure(t.Context(), chosen); err != nil {
			t.Fatal(err)
		}
		fates := make(map[string]string)
		results := r.tryAll(t.Context(), chosen)
		for _, one := range results {
			fates[strings.TrimPrefix(one.Name, "gate/gate.go ")] = one.Fate
		}
		for name, want := range map[string]string{
			"Admit guard: n > 9": killed, "Admit comparison: n > 9": survived, "Admit comparison: n != 5": killed,
			"Wait comparison: n < 3": killed, "named it never ends": survived, "named it is no Go": refused,
			"named it ends too late": timedOut,
		} {
			if fates[name] != want {
				t.Errorf("%s: %s, want %s", name, fates[name], want)
			}
		}
		var table bytes.Buffer
		if sound := report(&table, results, len(chosen), p.equivalent); sound || !strings.Contains(table.String(), "gate/gate.go:4\n    - n > 9\n    + n >= 9") {
			t.Errorf("%v:\n%s", sound, &table)
		}
		o.within = 0
	}
	if text, err := os.ReadFile(filepath.Join(root, "gate/gate.go")); err != nil || string(text) != tried["gate/gate.go"] {
		t.Errorf("the tree was touched: %v", err)
	}
}

// TestOnlyThoseNotice: what a certain package has to find is not left to the others.
func TestOnlyThoseNotice(t *testing.T) {
	r := &runner{extra: map[string][]string{"node/agent": {"node"}}}
	m := mutant{file: "node/agent/stream.go", by: []string{"e2e/sim"}}
	if got := r.tested(m); !slices.Equal(got, []string{"e2e/sim"}) {
		t.Errorf("tested by %v", got)
	}
	m.by = nil
	if got := r.tested(m); !slices.Equal(got, []string{"node/agent", "node"}) {
		t.Errorf("tested by %v", got)
	}
}
