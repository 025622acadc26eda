package session

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
)

// TestWhoLeftIsNotDrained: a node that left was drained before. A later arbiter, which
// finds its row, says no more of it.
func TestWhoLeftIsNotDrained(t *testing.T) {
	w := newWorld(3, registry.Policy{Overload: registry.OverloadAbsorb, Mode: registry.ModeBurst}, 1000)
	var said strings.Builder
	w.log = func(format string, args ...any) { fmt.Fprintf(&said, format+"\n", args...) }
	for _, n := range w.nodes {
		w.nodeUp(n, 1)
	}
	drained := func() int {
		w.settle()
		w.run(time.Second, 100*time.Millisecond)
		return strings.Count(said.String(), "drained "+w.nodes[2].name+"\n")
	}
	w.queue = append(w.queue, Drain{w.nodes[2].id(), true})
	if n := drained(); n != 1 {
		t.Fatalf("said %d times:\n%s", n, &said)
	}
	w.must(registry.Command{RemoveNode: &registry.RemoveNode{ID: w.nodes[2].id()}})
	w.newTerm(w.nodes[0])
	if n := drained(); n != 1 {
		t.Errorf("said %d times:\n%s", n, &said)
	}
}

// TestHasCountsWhatIsThere: a slice that was given up without another in its place still
// names its agent, and is not there.
func TestHasCountsWhatIsThere(t *testing.T) {
	w, _ := newWorldOfTwo()
	leaver := w.nodes[1].id()
	if n := w.arb.Has(w.state, leaver); n != 1 {
		t.Fatalf("it has %d sessions", n)
	}
	w.queue = append(w.queue, Drain{leaver, true})
	w.run(30*time.Second, 100*time.Millisecond)
	if n := w.arb.Has(w.state, leaver); n != 0 || len(w.arb.on[leaver]) == 0 {
		t.Errorf("it has %d sessions, and %d are entered", n, len(w.arb.on[leaver]))
	}
}
