package readme

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// block is one marked block of README.md.
type block struct {
	line int
	// mark says how the block is run: "run" in a fresh copy, "host NAME" on
	// that host until it ends, "host NAME, stays" on that host for good,
	// "itself" not at all, because it runs this test, and "sample" is output.
	mark     string
	language string
	text     string
}

// host is the host of a mark; stays says that the block does not end.
func (b block) host() (name string, stays, ok bool) {
	name, ok = strings.CutPrefix(b.mark, "host ")
	name, stays = strings.CutSuffix(name, ", stays")
	return name, stays, ok
}

var fenced = regexp.MustCompile("(?ms)^(?:<!-- test: ([^\n]*) -->\n)?```([a-z]*)\n(.*?)^```$")

func blocks(t *testing.T) (all []block) {
	t.Helper()
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range fenced.FindAllSubmatchIndex(text, -1) {
		part := func(i int) string {
			if m[2*i] < 0 {
				return ""
			}
			return string(text[m[2*i]:m[2*i+1]])
		}
		all = append(all, block{
			line: strings.Count(string(text[:m[0]]), "\n") + 1,
			mark: part(1), language: part(2), text: part(3),
		})
	}
	return all
}

// TestEveryBlockIsMarked: no shell block of the README is left out by mistake,
// and no mark means nothing.
func TestEveryBlockIsMarked(t *testing.T) {
	marks := []string{"run", "itself", "sample"}
	found := 0
	for _, b := range blocks(t) {
		_, _, onHost := b.host()
		switch {
		case b.language == "sh" && b.mark == "":
			t.Errorf("README.md:%d: a shell block without a mark: <!-- test: ... -->", b.line)
		case b.mark != "" && !onHost && !slices.Contains(marks, b.mark):
			t.Errorf("README.md:%d: unknown mark %q", b.line, b.mark)
		case b.mark == "run" || onHost:
			found++
		}
	}
	if found < 3 {
		t.Errorf("%d blocks to run: is README.md read right?", found)
	}
}
