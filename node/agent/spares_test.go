package agent

import (
	"slices"
	"testing"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/node/probe"
	"github.com/meshcrypt/meshcrypt/node/protocol"
	"github.com/meshcrypt/meshcrypt/slicing"
)

// TestSparesCarryWhenNothingElseLives: an agent that dies with the arbiter has nobody who
// grants its slice anew, and the egress knows where the spare is.
func TestSparesCarryWhenNothingElseLives(t *testing.T) {
	f := newFixture(t).ready()
	id := registry.SessionID{1}
	row := protocol.RouteRow{Session: id, Mode: registry.ModeBurst, Slices: []protocol.RouteSlice{
		{Number: 0, Epoch: 1, Agent: 2, SPI: 2 << 20, Weight: 5}, {Number: 1, Epoch: 1, Agent: 3, SPI: 3 << 20},
	}}
	f.hear(&protocol.Node{View: &protocol.View{Routes: []protocol.RouteRow{row}}})
	expect := func(when string, want ...uint32) {
		t.Helper()
		if got := f.route(*f.Agent.view.routes[id]).Set.Weights; !slices.Equal(got, want) {
			t.Errorf("%s: weights %v, want %v", when, got, want)
		}
	}
	hear := func(agents ...identity.Index) {
		for range 2 * ProbeMisses {
			f.advance(TickEvery)
			for _, agent := range agents {
				f.answer(agent, probe.TypeNode)
			}
		}
	}
	hear(2, 3)
	expect("all live", 5, 0)
	hear(3)
	expect("the main agent is silent", 0, 1)
	hear()
	expect("both are silent", 0, 0)
	hear(2, 3)
	expect("both are back", 5, 0)
	f.Agent.condemn(sliceKey{id, 1, 1}, sliceKey{id, 0, 1})
	expect("the client condemned the main slice, by the spare", 0, 1)
}

// TestSpareIsNoneToSpreadOver: an idle spare is no reason for mode auto to step on.
func TestSpareIsNoneToSpreadOver(t *testing.T) {
	s := newAutoSession(t)
	row := *s.Agent.view.routes[registry.SessionID(s.grant.Session)]
	row.Slices[1].Weight, row.Slices[2].Weight = 0, 0
	s.hear(&protocol.Node{View: &protocol.View{Routes: []protocol.RouteRow{row}}})
	s.load = 0.95
	s.lapse(3 * slicing.StepAfter)
	if m := s.Agent.view.modes[row.Session]; m.step != stepOwn {
		t.Errorf("at step %d", m.step)
	}
	s.holds(slicing.Pin, 5, 0, 0)
}
