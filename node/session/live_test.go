package session

import (
	"testing"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
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
