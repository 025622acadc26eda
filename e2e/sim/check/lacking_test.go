package check

import (
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
)

// openTwo admits a session with slices at two agents.
func (s *story) openTwo() {
	s.commit(registry.Command{OpenSession: &registry.OpenSession{
		Session: registry.Session{ID: sessionID(1), Client: "alice", Request: registry.RequestID{1}, Key: key(20), Identity: hash, Hello: hash},
		Part:    pool, Slices: []registry.Slice{s.slice(1), s.numbered(1, 2)},
	}})
}

// mark says what became of one of them.
func (s *story) mark(number uint8, is registry.SliceState) {
	s.commit(registry.Command{MarkSlice: &registry.MarkSlice{Session: sessionID(1), Number: number, Epoch: 1, State: is}})
}

// lacks holds whether something of the session is lacking at a time.
func (s *story) lacks(at time.Duration, so bool, when string) {
	s.t.Helper()
	if why := s.Lacking(at, s.Registry().Sessions.Get(sessionID(1))); (why != "") != so {
		s.t.Errorf("%s: lacking at %v is %q", when, at, why)
	}
}

// rests is a look at its client, which is parked.
func (s *story) rests(at time.Duration) { s.Rests(at, s.Registry().Sessions.Get(sessionID(1))) }

// TestLacking: a slice may wait while another one carries, and not for ever.
func TestLacking(t *testing.T) {
	s := begin(t)
	s.openTwo()
	s.lacks(second, true, "nothing carries the session")
	s.up(1)
	s.lacks(29*second, false, "a sibling carries")
	s.lacks(32*second, true, "for long")
	s.mark(1, registry.SliceUp)
	s.lacks(31*second, false, "all are up")
}

// TestLackingAtRest: a parked client that nobody can call finds out, comes, and is not there at
// once.
func TestLackingAtRest(t *testing.T) {
	s := begin(t)
	s.openTwo()
	s.rests(FindsOutWithin - second)
	s.lacks(FindsOutWithin-second, false, "nobody can call its client, which has not asked yet")
	s.lacks(FindsOutWithin-1, false, "it comes")
	s.lacks(FindsOutWithin, true, "it comes, and is not there")
	s.rests(FindsOutWithin)
	s.lacks(FindsOutWithin, true, "it finds out never")

	s.now = 40 * second
	s.mark(0, registry.SliceVoid)
	s.rests(50 * second)
	s.lacks(50*second+CalledWithin-1, false, "its last slice was lost, and it came just now")
	s.lacks(50*second+CalledWithin, true, "it came, and is not there")

	s.Tables(60*second, []Table{table(2, s.numberedHas(1))})
	s.rests(60 * second)
	s.lacks(60*second, true, "an agent has it, which calls")
	s.Way(sessionID(1), 1, 1, node(0), 60*second)
	s.Gone(70*second, node(0))
	s.rests(72 * second)
	s.lacks(72*second, false, "a gateway died with the way to its client, which has not asked yet")
	s.Way(sessionID(1), 1, 1, node(0), 74*second)
	s.rests(75 * second)
	s.lacks(75*second, true, "it has asked again, and is not called")
	s.Gone(80*second, node(0))
	s.rests(80*second + FindsOutWithin - 1)
	s.lacks(80*second+FindsOutWithin-1, false, "the gateway died again")
	s.lacks(80*second+FindsOutWithin, true, "it finds that out never")
}
