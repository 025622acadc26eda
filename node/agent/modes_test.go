package agent

import (
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/esp"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/node/probe"
	"github.com/meshcrypt/meshcrypt/node/protocol"
	"github.com/meshcrypt/meshcrypt/slicing"
)

func TestModeOfARoute(t *testing.T) {
	for _, c := range []struct {
		word registry.Mode
		auto bool
		mode slicing.Mode // at first
	}{
		{registry.ModeAuto, true, slicing.Pin},
		{"", true, slicing.Pin},
		{"a mode of a later version", true, slicing.Pin},
		{registry.ModeBurst, false, slicing.Burst},
		{registry.ModePin, false, slicing.Pin},
		{registry.ModeFlowlet, false, slicing.Flowlet},
		{registry.ModePacket, false, slicing.Burst}, // its letter is about the way up
	} {
		v := newViewState()
		v.learnMode(protocol.RouteRow{Mode: c.word})
		if m := v.modes[registry.SessionID{}]; m.auto != c.auto || m.mode() != c.mode || m.own() != c.auto {
			t.Errorf("%q: auto %v, %v, own slices only %v", c.word, m.auto, m.mode(), m.own())
		}
	}
}

// TestModeIsAsCalmAsThePaths: the egress goes by what the client measured.
func TestModeIsAsCalmAsThePaths(t *testing.T) {
	s := newAutoSession(t)
	row := *s.Agent.view.routes[registry.SessionID(s.grant.Session)]
	for _, c := range []struct {
		skew uint32
		want slicing.Mode
	}{{0, slicing.Burst}, {20, slicing.Burst}, {40, slicing.Flowlet}, {5, slicing.Burst}} {
		row.Mode, row.Flow = registry.ModeBurst, protocol.Flow{Skew: c.skew, Gap: 2 * c.skew}
		s.hear(&protocol.Node{View: &protocol.View{Routes: []protocol.RouteRow{row}}})
		s.holds(c.want, 5, 6, 7)
		if gap := s.engineTable().Routes.Get(s.grant.Leases[0]).Set.Gap; gap != time.Duration(2*c.skew)*time.Millisecond {
			t.Errorf("gap %v of a skew of %d ms", gap, c.skew)
		}
	}
}

// TestModeMayChange: the operator's word counts at once, and auto goes on from
// where it was.
func TestModeMayChange(t *testing.T) {
	v := newViewState()
	row := protocol.RouteRow{Mode: registry.ModeAuto}
	v.learnMode(row)
	m := v.modes[row.Session]
	m.step = stepSpray
	for _, c := range []struct {
		word registry.Mode
		want slicing.Mode
	}{{registry.ModePin, slicing.Pin}, {registry.ModeAuto, slicing.Burst}, {registry.ModePacket, slicing.Burst}} {
		row.Mode = c.word
		if v.learnMode(row); v.modes[row.Session] != m || m.mode() != c.want {
			t.Errorf("%s: %v", c.word, m.mode())
		}
	}
}

// autoSession is an egress with a session of mode auto: slice 0 is its own,
// the others are those of nodes 2 and 3.
type autoSession struct {
	*customer
	load  float64                    // this node's
	peers map[identity.Index]float64 // those that answer, and theirs
}

func newAutoSession(t *testing.T) *autoSession {
	f := newFixture(t).ready()
	s := &autoSession{customer: f.customer(f.offered()[0], nil).up(), peers: map[identity.Index]float64{2: 0, 3: 0}}
	f.Agent.config.Load = func() protocol.Load { return protocol.Load{Used: s.load} }
	f.hear(&protocol.Node{View: &protocol.View{Routes: []protocol.RouteRow{{
		Session: registry.SessionID(s.grant.Session), Leases: s.grant.Leases, Mode: registry.ModeAuto,
		Slices: []protocol.RouteSlice{
			{Number: 0, Epoch: 1, Agent: own, SPI: s.grant.SPI, Weight: 5},
			{Number: 1, Epoch: 1, Agent: 2, SPI: esp.MakeSPI(2, 1), Weight: 6},
			{Number: 2, Epoch: 1, Agent: 3, SPI: esp.MakeSPI(3, 1), Weight: 7},
		},
	}}}})
	s.lapse(time.Second)
	return s
}

// lapse lets time pass while the peers answer with their loads.
func (s *autoSession) lapse(d time.Duration) {
	for ; d > 0; d -= TickEvery {
		s.advance(TickEvery)
		for ix, load := range s.peers {
			s.reply(probe.Node{From: ix, Asked: probe.TypeNode, Load: probe.LoadOf(load)})
		}
	}
}

// holds checks how runs are spread now, in the table.
func (s *autoSession) holds(mode slicing.Mode, weights ...uint32) {
	s.Helper()
	set := s.engineTable().Routes.Get(s.grant.Leases[0]).Set
	for i, w := range weights {
		if set.Mode != mode || set.Weights[i] != w {
			s.Fatalf("%v %v, want %v %v", set.Mode, set.Weights, mode, weights)
		}
	}
	if s.changes.any() {
		s.Fatal("the packet engine was not told")
	}
}

// TestAutoSpreadsAsFarAsItMust: own slices while this node has room, a slice
// for each flow when it is full and another is not, then spraying; and back,
// step by step, when all have room.
func TestAutoSpreadsAsFarAsItMust(t *testing.T) {
	s := newAutoSession(t)
	s.holds(slicing.Pin, 5, 0, 0)
	s.load = 0.95
	s.lapse(slicing.StepAfter / 2)
	s.holds(slicing.Pin, 5, 0, 0)
	s.lapse(slicing.StepAfter)
	s.holds(slicing.Pin, 5, 6, 7)
	s.lapse(slicing.TrialTime + 2*slicing.StepAfter)
	s.holds(slicing.Burst, 5, 6, 7)
	s.load = 0.1
	s.lapse(slicing.CalmAfter / 2)
	s.holds(slicing.Burst, 5, 6, 7)
	s.lapse(slicing.CalmAfter)
	s.holds(slicing.Pin, 5, 6, 7)
	if s.Agent.view.modes[registry.SessionID(s.grant.Session)].steps == nil {
		t.Error("it has forgotten what it is about")
	}
	s.lapse(slicing.CalmAfter + time.Second)
	s.holds(slicing.Pin, 5, 0, 0)
	if s.Agent.view.modes[registry.SessionID(s.grant.Session)].steps != nil || len(s.Agent.view.restless) > 0 {
		t.Error("a session at rest keeps the ladder that it has come down")
	}
}

// TestLoadOfTheSilentDoesNotCount: what a dead node said last must not make a
// session spread.
func TestLoadOfTheSilentDoesNotCount(t *testing.T) {
	s := newAutoSession(t)
	s.peers[2] = 0.6 // not full, not calm
	s.lapse(5 * time.Second)
	s.peers[2] = 1
	s.lapse(TickEvery)
	delete(s.peers, 2)
	s.lapse(5 * time.Second)
	s.holds(slicing.Pin, 5, 0, 0)
	s.peers[2] = 1 // back, and full
	s.lapse(slicing.StepAfter + time.Second)
	s.holds(slicing.Pin, 5, 6, 7)
}

// TestFixedModeStays whatever the loads are.
func TestFixedModeStays(t *testing.T) {
	s := newAutoSession(t)
	row := *s.Agent.view.routes[registry.SessionID(s.grant.Session)]
	row.Mode = registry.ModePin
	s.hear(&protocol.Node{View: &protocol.View{Routes: []protocol.RouteRow{row}}})
	s.load = 1
	s.lapse(10 * time.Second)
	s.holds(slicing.Pin, 5, 6, 7)
	if step := s.Agent.view.modes[row.Session].step; step != stepOwn {
		t.Errorf("auto went to step %d in secret", step)
	}
}

// TestOwnSliceThatIsSilentIsNotPreferred: when this node's own slice cannot be
// used, a calm session goes to the others.
func TestOwnSliceThatIsSilentIsNotPreferred(t *testing.T) {
	s := newAutoSession(t)
	s.condemn(sliceKey{s.sliceKey().session, 1, 1}, s.sliceKey())
	s.publishIfDirty()
	s.holds(slicing.Pin, 0, 6, 7)
}
