package session

import (
	"testing"

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
