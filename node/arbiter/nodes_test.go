package arbiter

import (
	"slices"
	"testing"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/node/protocol"
	"github.com/meshcrypt/meshcrypt/node/session"
)

// TestSupersededStreamIsNotObeyed: what a node's earlier stream still says counts for
// nothing. It may come from a process that another host's has replaced.
func TestSupersededStreamIsNotObeyed(t *testing.T) {
	f := newFixture(t)
	a := f.still()
	id := f.member(a, "n2", dataRoles).node
	older := f.opened(a, id, 1)
	newer := f.opened(a, id, 2)
	proposed(a)
	for _, n := range []*nodeStream{older, newer} {
		before := n.hello.Exposed
		nodeSaid{n, &protocol.Node{Inside: &protocol.Inside{Exposed: !before}}}.apply(a)
		nodeSaid{n, &protocol.Node{Load: &protocol.Load{Used: 0.5}}}.apply(a)
		if obeyed := n.hello.Exposed != before || n.load != 0; obeyed != (n == newer) {
			t.Errorf("boot %v: obeyed %t", n.hello.Boot, obeyed)
		}
	}
}

// TestTakeoverIsOfThePresentEpoch: a second that missed a change of its part's egress
// acted on an older one, and moves nothing.
func TestTakeoverIsOfThePresentEpoch(t *testing.T) {
	f := newFixture(t)
	a := f.still()
	f.connect(a, f.trust.Key.ID())
	id := f.member(a, "n2", dataRoles).node
	f.commit(registry.Command{SetRoles: &registry.SetRoles{ID: id, Is: dataRoles}})
	var actions []session.Action
	f.store.View(func(s *registry.State) { actions = a.judge.Tick(a.config.Now(), s) })
	a.do(actions)
	f.decide(a)
	var part registry.Part
	f.store.View(func(s *registry.State) { part = s.Parts[0] })
	second := a.nodes[part.Second]
	if second == nil || part.Epoch == 0 {
		t.Fatalf("no second: %+v", part)
	}
	for _, epoch := range []uint64{part.Epoch - 1, part.Epoch + 1, part.Epoch} {
		nodeSaid{second, &protocol.Node{TakeOver: &protocol.TakeOver{Prefix: part.Prefix, Epoch: epoch, Asked: true}}}.apply(a)
		moves := slices.ContainsFunc(proposed(a), func(c registry.Command) bool {
			return c.MovePart != nil && c.MovePart.Egress == second.node
		})
		if moves != (epoch == part.Epoch) {
			t.Errorf("epoch %d, present is %d: moves %t", epoch, part.Epoch, moves)
		}
	}
}
