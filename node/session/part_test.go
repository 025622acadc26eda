package session

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// TestEgressIsWhereItsAddressIs: egress and second of a part are nodes that are
// asked for its moving address; one behind a router is neither, whoever dies.
func TestEgressIsWhereItsAddressIs(t *testing.T) {
	for name, c := range map[string]struct {
		networks [4]string // of n1 to n4; empty: not told
		down     string
		egress   string
		second   string
	}{
		"two of four":                      {[4]string{"10.20.0.0/24", "10.20.0.0/24", "10.21.0.0/24", "10.21.0.0/24"}, "", "n2", "n1"},
		"the egress dies":                  {[4]string{"10.20.0.0/24", "10.20.0.0/24", "10.21.0.0/24", "10.21.0.0/24"}, "n2", "n1", ""},
		"the egress was behind a router":   {[4]string{"10.20.0.0/24", "10.21.0.0/24", "10.20.0.0/24", "10.20.0.0/24"}, "", "n3", "n4"},
		"nobody is there":                  {[4]string{"10.21.0.0/24", "10.21.0.0/24", "10.21.0.0/24", "10.21.0.0/24"}, "", "n2", "n3"},
		"nobody of those who are there":    {[4]string{"10.21.0.0/24", "10.20.0.0/24", "10.21.0.0/24", "10.21.0.0/24"}, "n2", "n2", ""},
		"not told, and another family":     {[4]string{"", "", "fd20::/64", "10.21.0.0/24"}, "n2", "n3", "n1"},
		"an older mesh, which tells never": {[4]string{}, "n2", "n3", "n4"},
	} {
		t.Run(name, func(t *testing.T) {
			w := ready(t, 4)
			w.state.Parts[0].Inside = netip.MustParseAddr("10.20.0.201")
			for i, n := range w.nodes {
				if p, err := netip.ParsePrefix(c.networks[i]); err == nil {
					w.must(registry.Command{UpdateNode: &registry.UpdateNode{
						ID: n.id(), Boot: n.bootID(), Inside: w.state.Nodes[n.id()].Inside, Networks: []netip.Prefix{p},
					}})
				}
			}
			w.run(time.Second, 100*time.Millisecond)
			if c.down != "" {
				w.nodeDown(w.byName(c.down))
			}
			w.run(EgressGrace+time.Second, 100*time.Millisecond)
			part := w.state.Parts[0]
			if got, want := part.Egress, w.byName(c.egress).id(); got != want {
				t.Errorf("egress %s", named(w, got))
			}
			if c.second == "" && !part.Second.IsZero() || c.second != "" && part.Second != w.byName(c.second).id() {
				t.Errorf("second %s", named(w, part.Second))
			}
		})
	}
}

func named(w *world, id identity.NodeID) string {
	if id.IsZero() {
		return "nobody"
	}
	return w.node(id).name
}

// TestMoveOfUnknownOutcome is decided anew: who was to have the part does not forward any
// more. Where the move was committed after all, the same one follows by the next epoch.
func TestMoveOfUnknownOutcome(t *testing.T) {
	for name, lost := range map[string]bool{"never committed": true, "committed after all": false} {
		t.Run(name, func(t *testing.T) {
			w := ready(t, 4)
			w.run(time.Second, 100*time.Millisecond)
			was := w.state.Parts[0]
			w.unknown, w.lost = 1, lost
			w.nodeDown(w.node(was.Egress))
			for w.unknown > 0 {
				w.run(100*time.Millisecond, 100*time.Millisecond)
			}
			w.queue = append(w.queue, Condition{was.Second, Broken})
			w.run(2*RetryEvery+EgressGrace, 100*time.Millisecond)
			if p := w.state.Parts[0]; p.Egress == was.Egress || p.Egress == was.Second || p.Epoch == was.Epoch {
				t.Errorf("egress %s at epoch %d, was at %d", named(w, p.Egress), p.Epoch, was.Epoch)
			}
			for _, wrong := range w.wrong {
				t.Error(wrong)
			}
			if n := len(w.arb.proposals); n > 0 {
				t.Errorf("%d proposals left over", n)
			}
		})
	}
}

// TestEgressThatBeganAnewInANewTerm: an arbiter that never heard of the egress before knows
// by the registry that it is another process; its second keeps the part, in whichever order
// they come. One that was connected all along, or is broken, is no such case.
func TestEgressThatBeganAnewInANewTerm(t *testing.T) {
	for name, c := range map[string]struct {
		boot        int
		egressFirst bool
		sound       Soundness
		moves       bool
	}{
		"the egress first": {2, true, Whole, true}, "the second first": {2, false, Whole, true},
		"the same process": {1, true, Whole, false}, "a broken second": {2, true, Broken, false},
	} {
		w := ready(t, 4)
		p := w.state.Parts[0]
		egress, second := w.node(p.Egress), w.node(p.Second)
		w.must(registry.Command{UpdateNode: &registry.UpdateNode{
			ID: egress.id(), Boot: egress.bootID(), Mbit: 1000, Inside: w.state.Nodes[egress.id()].Inside}})
		w.newTerm(w.nodes[3])
		for _, n := range w.nodes {
			if n != egress && n != second {
				w.nodeUp(n, n.boot)
			}
		}
		comes := []func(){
			func() { w.nodeUp(egress, c.boot); w.settle() },
			func() {
				w.nodeUp(second, second.boot)
				w.queue = append(w.queue, Condition{second.id(), c.sound}, Takeover{Node: second.id(), Part: p.Prefix})
				w.settle()
			},
		}
		if !c.egressFirst {
			slices.Reverse(comes)
		}
		for _, come := range comes {
			come()
			w.run(200*time.Millisecond, 100*time.Millisecond)
		}
		if moved := w.state.Parts[0].Egress == second.id(); moved != c.moves {
			t.Errorf("%s: the second has the part: %v", name, moved)
		}
	}
}
