package session

import (
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// TestSlotsStandWithTheirSession: a term knows some of each session, and what is small keeps the
// memory of what a crowd made beside it.
func TestSlotsStandWithTheirSession(t *testing.T) {
	var l *live
	if pieces := testing.AllocsPerRun(10, func() {
		l = newLive(registry.SessionID{1}, 0)
		l.add(0)
		l.add(1)
	}); pieces != 1 {
		t.Errorf("a session of two slots is %v pieces of memory", pieces)
	}
	first := l.slot(0)
	third := l.add(7)
	third.failures, first.failures = 3, 1
	for number, want := range map[uint8]int{0: 1, 1: 0, 7: 3} {
		if sl := l.slot(number); sl == nil || sl.number != number || sl.failures != want {
			t.Errorf("slot %d is %+v", number, sl)
		}
	}
}

// TestLookAtRestMakesNothing: each session is looked at again and again.
func TestLookAtRestMakesNothing(t *testing.T) {
	a := &Arbitrator{on: map[identity.NodeID]map[registry.SessionID]struct{}{}}
	l := newLive(registry.SessionID{1}, 0)
	s := &registry.Session{Slices: []registry.Slice{{Agent: identity.NodeID{1}}, {Agent: identity.NodeID{2}}}}
	a.enter(s, l)
	if pieces := testing.AllocsPerRun(10, func() { a.enter(s, l) }); pieces != 0 {
		t.Errorf("to find it where it was makes %v pieces of memory", pieces)
	}
	s.Slices[1].Agent = identity.NodeID{3}
	if a.enter(s, l); len(a.on) != 2 || a.on[identity.NodeID{2}] != nil || len(a.on[identity.NodeID{3}]) != 1 {
		t.Errorf("after a handover it is on %v", a.on)
	}
}

// TestHeardAgainIsNoFailure: a slice that stays where it is, and falls silent and is heard again
// while it does, is avoided no longer than one that was silent once when it is given away.
func TestHeardAgainIsNoFailure(t *testing.T) {
	w := ready(t, 5)
	c := w.client("c")
	w.ask(c, 1_500_000_000, w.nodes[0].id())
	w.run(time.Second, 50*time.Millisecond)
	say := func(e func(registry.SessionID, uint8, uint32) Event) {
		sl := w.state.Sessions.Get(c.session).Slices[0]
		w.queue = append(w.queue, e(c.session, sl.Number, sl.Epoch))
		w.run(100*time.Millisecond, 50*time.Millisecond)
	}
	silent := func(id registry.SessionID, n uint8, epoch uint32) Event { return SliceSilent{id, n, epoch, false} }
	up := func(id registry.SessionID, n uint8, epoch uint32) Event { return SliceUp{id, n, epoch, true} }
	say(silent)
	known := w.arb.slot(c.session, w.state.Sessions.Get(c.session).Slices[0].Number)
	before := known.epoch
	for range 8 {
		say(silent)
		say(up)
	}
	if known.epoch != before || known.condemned || known.failures != 0 || len(known.tried) > 0 {
		t.Errorf("epoch %d, then %d, condemned %t, %d failures: %v", before, known.epoch, known.condemned, known.failures, known.tried)
	}
}
