package agent

import (
	"net/netip"
	"testing"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// TestHandOnGoesToTheAgent of the slice: at its inside address, by one way for all routes.
func TestHandOnGoesToTheAgent(t *testing.T) {
	f := ruling(t)
	f.hear(&protocol.Node{View: &protocol.View{Parts: []registry.Part{f.part(3, f.self(), idOf(2))}}})
	for range 3 {
		f.pass(TickEvery, 2, 3)
	}
	ways := make(map[netip.AddrPort]any)
	view := f.crowd(20)
	for _, r := range view.Routes {
		for _, s := range r.Slices {
			made, _ := f.routeSlice(r.Session, s)
			if s.Agent == own {
				continue
			}
			at := f.insideOf(f.Agent.view.nodes[s.Agent])
			if made.HandOn == nil || made.HandOn.Remote != at || !at.IsValid() {
				t.Fatalf("what is for node %d is handed on along %+v, not to %v", s.Agent, made.HandOn, at)
			}
			if way, known := ways[at]; known && way != any(made.HandOn) {
				t.Errorf("two ways to %v", at)
			}
			ways[at] = made.HandOn
		}
	}
	if len(ways) == 0 {
		t.Error("nothing is handed on: this test shows nothing")
	}
}

// TestWaysOfGoneNodesAreForgotten: a node that moves, or goes, leaves nothing behind (I10).
func TestWaysOfGoneNodesAreForgotten(t *testing.T) {
	f := ruling(t)
	f.hear(&protocol.Node{View: &protocol.View{Parts: []registry.Part{f.part(3, f.self(), idOf(2))}}})
	f.crowd(20)
	used := len(f.tables.paths)
	row := f.Agent.view.nodes[2]
	for n := range byte(10) {
		row.Inside = netip.AddrFrom4([4]byte{10, 9, 0, n})
		f.hear(&protocol.Node{View: &protocol.View{Nodes: []protocol.NodeRow{row}}})
	}
	if used == 0 || len(f.tables.paths) > used {
		t.Errorf("%d ways, and %d after a node moved ten times", used, len(f.tables.paths))
	}
}
