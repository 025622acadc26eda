package agent

import (
	"slices"
	"testing"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/node/probe"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// between is a node that is neither egress nor second, in a mesh of four.
func between(t *testing.T) *fixture {
	t.Helper()
	f := newFixture(t)
	f.obey(5)
	v := f.view(4)
	v.Parts = []registry.Part{f.part(3, idOf(2), idOf(3))}
	f.hear(&protocol.Node{View: v})
	return f
}

// TestClaimsArePassedOn: to whom they are about, once, and to nobody else.
func TestClaimsArePassedOn(t *testing.T) {
	f := between(t)
	there := map[identity.Index]func() []probe.Claim{}
	for _, index := range []identity.Index{2, 3, 4} {
		socket := f.nodeAt(index)
		there[index] = func() []probe.Claim { return claimsAt(socket) }
	}
	right := probe.Right{Incarnation: 1, Epoch: 3, Given: true}
	passed := func(when string, by, from identity.Index, kind probe.ClaimKind, to ...identity.Index) {
		t.Helper()
		f.claimsBy(by, from, kind, right)
		for index, claims := range there {
			all := claims()
			if want := slices.Contains(to, index); len(all) > 1 || want != (len(all) == 1) {
				t.Errorf("%s: node %d hears %+v", when, index, all)
			}
			if len(all) == 1 && all[0] != (probe.Claim{From: from, Address: moving(), Kind: kind, Right: right}) {
				t.Errorf("%s: node %d hears %+v", when, index, all[0])
			}
		}
	}
	passed("the egress holds", 2, 2, probe.ClaimHolds, 3)
	passed("the second holds", 3, 3, probe.ClaimHolds, 2)
	passed("the second asks", 3, 3, probe.ClaimAsks, 2)
	passed("a fourth asks", 4, 4, probe.ClaimAsks, 2, 3)
	passed("the egress answers both", 2, 2, probe.ClaimHolds, 3, 4)
	passed("what was passed on", 4, 2, probe.ClaimHolds)
	passed("what was passed on by the other", 3, 2, probe.ClaimHolds)
	passed("what comes from a stranger's address", 9, 2, probe.ClaimHolds)
	f.hear(&protocol.Node{View: &protocol.View{Parts: []registry.Part{f.part(4, idOf(3), idOf(4))}}})
	passed("the next egress holds", 3, 3, probe.ClaimHolds, 2, 4)
}

// TestHolderPassesNothingOn: it answers, the way that the claim came.
func TestHolderPassesNothingOn(t *testing.T) {
	f := newFixture(t).egressOf3()
	second, third := f.nodeAt(2), f.nodeAt(3)
	for _, c := range []struct {
		by, from   identity.Index
		two, three int
	}{{2, 2, 1, 0}, {3, 2, 0, 1}, {3, 3, 0, 1}} {
		f.claimsBy(c.by, c.from, probe.ClaimAsks, probe.Right{Incarnation: 1, Epoch: 3})
		at2, at3 := claimsAt(second), claimsAt(third)
		if len(at2) != c.two || len(at3) != c.three {
			t.Errorf("node %d asks by way of %d: node 2 hears %+v, node 3 %+v", c.from, c.by, at2, at3)
		}
		for _, said := range append(at2, at3...) {
			if said.From != f.index || said.Kind != probe.ClaimHolds {
				t.Errorf("it says %+v", said)
			}
		}
	}
}

// TestTakeoverIsToldToAll: whoever of them hears the egress passes it on.
func TestTakeoverIsToldToAll(t *testing.T) {
	f := newFixture(t).second()
	f.pass(10*TickEvery, 2, 3)
	third := f.nodeAt(3)
	f.pass((ProbeMisses+2)*TickEvery, 3)
	f.holds("after the takeover", true)
	if all := claimsAt(third); len(all) != 1 || all[0].Kind != probe.ClaimHolds {
		t.Errorf("a third node hears %+v", all)
	}
}

// TestUnheardEgressKeepsItsPart: its second hears by way of a third node that it lives. It
// lets go, does not take over while that is so, and does as soon as it is not.
func TestUnheardEgressKeepsItsPart(t *testing.T) {
	f := takenOver(t)
	f.do(streamLost{f.Agent.stream})
	third := f.nodeAt(3)
	says := func() { f.claimsBy(3, 2, probe.ClaimHolds, probe.Right{Incarnation: 1, Epoch: 3, Given: true}) }
	says()
	f.holds("the egress lives", false)
	claimsAt(third)
	for range 10 {
		f.sound = newSoundness(f.Agent.config.Now()) // no path test came out of this fixture
		f.pass(LoadTicks*TickEvery, 3)
		f.holds("the egress lives still", false)
		asked := claimsAt(third)
		if len(asked) != 1 || asked[0].Kind != probe.ClaimAsks {
			t.Fatalf("asks %+v in %v", asked, LoadTicks*TickEvery)
		}
		says()
	}
	f.pass(ClaimedLately+2*TickEvery, 3)
	f.holds("nobody hears it any more", true)
}

// TestClaimsBeforeADeathDelayNothing: what an egress said until it died is no sign of life.
func TestClaimsBeforeADeathDelayNothing(t *testing.T) {
	f := newFixture(t).second()
	for range 10 {
		f.pass(TickEvery, 2, 3)
		f.claims(2, probe.ClaimHolds, probe.Right{Incarnation: 1, Epoch: 3, Given: true})
	}
	f.pass((ProbeMisses+1)*TickEvery, 3)
	f.holds("at once", true)
}
