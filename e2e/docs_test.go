package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestDependencies: docs/dependencies.md gives a reason for each direct
// requirement of go.mod, and for nothing else.
func TestDependencies(t *testing.T) {
	edit := exec.Command("go", "mod", "edit", "-json")
	edit.Dir = ".."
	out, err := edit.Output()
	if err != nil {
		t.Fatal(err)
	}
	var mod struct {
		Require []struct {
			Path     string
			Indirect bool
		}
	}
	if err := json.Unmarshal(out, &mod); err != nil {
		t.Fatal(err)
	}
	explained := make(map[string]bool)
	for _, row := range table(t, "docs/dependencies.md") {
		explained[strings.Trim(row[0], "`")] = len(row) >= 3 && row[2] != ""
	}
	for _, r := range mod.Require {
		if !r.Indirect && !explained[r.Path] {
			t.Errorf("docs/dependencies.md gives no reason for %s", r.Path)
		}
		if r.Indirect && explained[r.Path] {
			t.Errorf("docs/dependencies.md lists %s, which nothing here imports (or go.mod wants `go mod tidy`)", r.Path)
		}
		delete(explained, r.Path)
	}
	for path := range explained {
		t.Errorf("docs/dependencies.md lists %s, which go.mod does not require", path)
	}
}

// TestFeatures: every id of the patent and of what users expect stands once in
// docs/features.md, with something that shows it or the words "not yet".
func TestFeatures(t *testing.T) {
	seen := make(map[string]int)
	for _, row := range table(t, "docs/features.md") {
		seen[row[0]]++
		wantEvidence(t, "docs/features.md", row)
		state, evidence := row[2], row[3]
		if !slices.Contains([]string{"shown", "part", "not yet"}, state) || (state == "not yet") != (evidence == "not yet") {
			t.Errorf("docs/features.md: %s is %q and shown by %q", row[0], state, evidence)
		}
	}
	for prefix, last := range map[string]int{"F": 51, "C": 10, "U": 45} {
		for i := range last {
			id := fmt.Sprint(prefix, i+1)
			if seen[id] != 1 {
				t.Errorf("docs/features.md has %s %d times, want once", id, seen[id])
			}
			delete(seen, id)
		}
	}
	for id := range seen {
		t.Errorf("docs/features.md has %q, which is no feature, claim or expectation", id)
	}
}

// TestAttacks: every attack of the list stands once in docs/attacks.md, with
// what happens and a test that tries it; none may be "not yet".
func TestAttacks(t *testing.T) {
	seen := make(map[string]int)
	for _, row := range table(t, "docs/attacks.md") {
		if len(row) != 4 || row[1] == "" || row[2] == "" || row[3] == "not yet" {
			t.Errorf("docs/attacks.md: row %q does not name attack, effect and test", row)
			continue
		}
		seen[row[0]]++
		wantEvidence(t, "docs/attacks.md", row)
	}
	for _, span := range [][2]int{{1, 16}, {17, 29}, {34, 34}, {37, 40}, {49, 50}} {
		for n := span[0]; n <= span[1]; n++ {
			if seen[fmt.Sprint(n)] != 1 {
				t.Errorf("docs/attacks.md has %d %d times, want once", n, seen[fmt.Sprint(n)])
			}
		}
	}
}

// TestPatent: each departure from the patent's letter names what shows that
// the purpose holds, or says "not yet".
func TestPatent(t *testing.T) {
	rows := table(t, "docs/patent.md")
	if len(rows) < 12 {
		t.Errorf("docs/patent.md has %d rows", len(rows))
	}
	for _, row := range rows {
		wantEvidence(t, "docs/patent.md", row)
	}
}

// TestNamedTestsExist: whatever test a document names can be found.
func TestNamedTestsExist(t *testing.T) {
	for _, path := range []string{"README.md", "docs/architecture.md", "node/DESIGN.md", "mesh/DESIGN.md",
		"consensus/DESIGN.md", "crypto/DESIGN.md", "slicing/DESIGN.md"} {
		for _, m := range testName.FindAllStringSubmatch(document(t, path), -1) {
			if !hasTest(t, m[1], m[2]) {
				t.Errorf("%s names %s.%s, which does not exist", path, m[1], m[2])
			}
		}
	}
}

var (
	testName   = regexp.MustCompile("`((?:node|mesh|consensus|crypto|slicing|cmd|e2e)[a-z0-9/]*)\\.((?:Test|Fuzz|Benchmark)\\w+)`")
	makeTarget = regexp.MustCompile("`make ([a-z0-9]+)`")
)

// wantEvidence checks the last column: the tests and make targets it names
// must exist; with none of them it says "not yet".
func wantEvidence(t *testing.T, file string, row []string) {
	t.Helper()
	evidence := row[len(row)-1]
	tests, targets := testName.FindAllStringSubmatch(evidence, -1), makeTarget.FindAllStringSubmatch(evidence, -1)
	for _, m := range tests {
		if !hasTest(t, m[1], m[2]) {
			t.Errorf("%s: %s names %s.%s, which does not exist", file, row[0], m[1], m[2])
		}
	}
	for _, m := range targets {
		if !strings.Contains(document(t, "Makefile"), "\n"+m[1]+":") {
			t.Errorf("%s: %s names make %s, which does not exist", file, row[0], m[1])
		}
	}
	if named := strings.Count(evidence, "`"); len(tests)+len(targets) == 0 && evidence != "not yet" || named != 2*(len(tests)+len(targets)) {
		t.Errorf("%s: %s is shown by %q: name tests as `package.TestName`, targets as `make target`, or say not yet", file, row[0], evidence)
	}
}

func hasTest(t *testing.T, dir, name string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	declaration := regexp.MustCompile(`(?m)^func ` + name + `\(`)
	return slices.ContainsFunc(files, func(file string) bool {
		text, err := os.ReadFile(file)
		return err == nil && declaration.Match(text)
	})
}

// table returns the rows of all tables of a document, without their heads.
func table(t *testing.T, path string) [][]string {
	t.Helper()
	var rows [][]string
	head := true
	for _, line := range strings.Split(document(t, path), "\n") {
		if !strings.HasPrefix(line, "|") {
			head = true
			continue
		}
		if strings.HasPrefix(line, "|-") {
			head = false
			continue
		}
		if head {
			continue
		}
		var cells []string
		for _, cell := range strings.Split(strings.Trim(line, "|"), "|") {
			cells = append(cells, strings.TrimSpace(cell))
		}
		rows = append(rows, cells)
	}
	return rows
}
