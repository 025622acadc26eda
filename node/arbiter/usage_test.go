package arbiter

import (
	"reflect"
	"testing"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/node/protocol"
	"github.com/meshcrypt/meshcrypt/node/session"
)

// TestUsageByChange: a report of changes leaves the rest as it was, one of everything
// does not, and a slice that is gone has none.
func TestUsageByChange(t *testing.T) {
	s := newCrasher(t)
	if !s.a.book.whole(s.peer.node).Changes {
		t.Error("nodes are not told that changes are taken")
	}
	say := func(m *protocol.Node) { nodeSaid{s.peer, m}.apply(s.a) }
	var sessions [3]registry.SessionID
	for n := range sessions {
		sessions[n] = s.session(s.a, byte(n+1), s.peer.node).ID
	}
	ref := func(n byte) protocol.SliceRef { return protocol.SliceRef{Session: sessions[n], Epoch: 1} }
	used := func(n byte, in uint64) protocol.SliceUsage { return protocol.SliceUsage{Slice: ref(n), In: in} }
	expect := func(what string, want ...uint64) {
		t.Helper()
		for n, in := range want {
			if got := s.peer.usage[keyOf(ref(byte(n)))]; got.in != in {
				t.Errorf("%s: slice %d moved %d, want %d", what, n, got.in, in)
			}
		}
	}
	say(&protocol.Node{Usage: &protocol.Usage{Slices: []protocol.SliceUsage{used(0, 1), used(1, 2), used(2, 3)}}})
	say(&protocol.Node{Usage: &protocol.Usage{Changes: true, Slices: []protocol.SliceUsage{used(1, 7)}}})
	expect("changes", 1, 7, 3)
	gone := ref(0)
	say(&protocol.Node{Gone: &gone})
	expect("one is gone", 0, 7, 3)
	say(&protocol.Node{Usage: &protocol.Usage{Slices: []protocol.SliceUsage{used(2, 9)}}})
	expect("all anew", 0, 0, 9)
	if len(s.peer.usage) != 1 {
		t.Errorf("%d slices are kept", len(s.peer.usage))
	}
}

// TestUpIsHeard: an agent that says that a slice came up has told of its client, and of what the
// slice moved as much as before; of a slice that is another's its word is nothing.
func TestUpIsHeard(t *testing.T) {
	s := newCrasher(t)
	mine, other := s.session(s.a, 1, s.peer.node), s.session(s.a, 2, identity.NodeID{9})
	ref := func(of *registry.Session) *protocol.SliceRef { return &protocol.SliceRef{Session: of.ID, Epoch: 1} }
	say := func(m *protocol.Node) { nodeSaid{s.peer, m}.apply(s.a) }
	for in := range uint64(2) {
		say(&protocol.Node{Up: ref(mine)})
		if got := s.peer.usage[keyOf(*ref(mine))]; got.quiet != 1 || got.in != in {
			t.Errorf("after it came up: silent for %d s, moved %d, want 1 and %d", got.quiet, got.in, in)
		}
		said := protocol.SliceUsage{Slice: *ref(mine), In: in + 1, Quiet: 20}
		say(&protocol.Node{Usage: &protocol.Usage{Changes: true, Slices: []protocol.SliceUsage{said}}})
	}
	say(&protocol.Node{Up: ref(other)})
	if len(s.peer.usage) != 1 {
		t.Errorf("%d rows, one of them is another's", len(s.peer.usage))
	}
}

// TestUsageOfSlicesThereAre: an agent that makes up epochs of a session that it has a slice of
// has no rows kept for them (I10). One that retires has its own.
func TestUsageOfSlicesThereAre(t *testing.T) {
	s := newCrasher(t)
	live := s.session(s.a, 1, s.peer.node)
	retiring := live.Slices[0]
	retiring.Epoch = 3
	live.Retiring = append(live.Retiring, retiring)
	s.store.View(func(r *registry.State) { r.Sessions.Put(live.ID, live) })
	var said []protocol.SliceUsage
	for n := range uint32(1000) {
		said = append(said, protocol.SliceUsage{Slice: protocol.SliceRef{Session: live.ID, Number: uint8(n / 500), Epoch: n % 500}, In: 1})
	}
	nodeSaid{s.peer, &protocol.Node{Usage: &protocol.Usage{Changes: true, Slices: said}}}.apply(s.a)
	if len(s.peer.usage) > 2 {
		t.Errorf("%d rows are kept", len(s.peer.usage))
	}
	if end := s.a.accounted(registry.Command{EndSession: &registry.EndSession{Session: live.ID}}).EndSession; end.Bytes != 2 {
		t.Errorf("both that there are moved %d", end.Bytes)
	}
}

// TestWhoHeldASliceHears: while its keys may run, though it has no slice any more.
func TestWhoHeldASliceHears(t *testing.T) {
	for name, is := range map[string]func(*registry.Session, identity.NodeID){
		"one that retires": func(live *registry.Session, n identity.NodeID) {
			live.Retiring = []registry.Slice{{Agent: n, Epoch: 1}}
		},
		"one that has not said that its keys ended": func(live *registry.Session, n identity.NodeID) {
			live.Holders = []registry.Holder{{Session: live.ID, Agent: n}}
		},
		"another": func(*registry.Session, identity.NodeID) {},
	} {
		s := newCrasher(t)
		live := s.session(s.a, 1, identity.NodeID{9})
		is(live, s.peer.node)
		s.store.View(func(r *registry.State) { r.Sessions.Put(live.ID, live) })
		held := s.a.keepHeld(s.peer, []protocol.SliceUsage{{Slice: protocol.SliceRef{Session: live.ID, Epoch: 1}}})
		if len(held) == 0 != (name == "another") {
			t.Errorf("%s: %d are heard", name, len(held))
		}
	}
}

// TestUsageIsSmall: the arbiter has a row of it for each slice of all agents.
func TestUsageIsSmall(t *testing.T) {
	if row := reflect.TypeFor[sliceKey]().Size() + reflect.TypeFor[moved]().Size(); row > 64 {
		t.Errorf("a row takes %d bytes", row)
	}
}

// TestWhatASessionMovedNeverFalls: not when the agent dies that told of it, nor with what its
// client says, and nothing is kept of one that is over.
func TestWhatASessionMovedNeverFalls(t *testing.T) {
	l := newLot(t)
	sl := l.live()[0].Slices[0]
	is := func(when string, want uint64) {
		t.Helper()
		if got := l.a.reportMoved()[l.id]; got != want {
			t.Errorf("%s: moved %d, want %d", when, got, want)
		}
	}
	says := func(bytes uint64) {
		clientSaid{c: l.c, m: &protocol.Client{Alive: &protocol.Alive{Bytes: bytes}}}.apply(l.a)
	}
	is("at first", 0)
	nodeSaid{l.peer, &protocol.Node{Usage: &protocol.Usage{Slices: []protocol.SliceUsage{
		{Slice: protocol.SliceRef{Session: l.id, Number: sl.Number, Epoch: sl.Epoch}, In: 30, Out: 40}}}}}.apply(l.a)
	is("an agent said so", 70)
	says(60)
	nodeClosed{l.peer}.apply(l.a)
	is("it died", 70)
	says(90)
	is("the client moved more", 90)
	says(45)
	is("it has fewer slices", 90)
	l.a.step(session.End{Session: l.id, Reason: "kicked"})
	l.settle()
	l.a.nodes[l.peer.node] = l.peer // is back, and has not said yet that the slice is gone
	says(100)
	if len(l.a.reportMoved()) != 0 {
		t.Error("it is over, and counted still")
	}
}

// TestWhatAnEndedSessionMoved: whoever ends it, it is listed with the most that anybody
// knows it to have moved: its agents, its client while it had a connection, or at its end.
func TestWhatAnEndedSessionMoved(t *testing.T) {
	for name, c := range map[string]struct{ agents, client, goodbye, want uint64 }{
		"agents know more": {70, 50, 0, 70}, "its client did": {70, 90, 0, 90},
		"it says so": {70, 90, 95, 95}, "nobody knows": {},
	} {
		l := newLot(t)
		for _, bytes := range []uint64{c.client, c.client / 2} { // its count falls when a slice moves
			clientSaid{c: l.c, m: &protocol.Client{Alive: &protocol.Alive{Bytes: bytes}}}.apply(l.a)
		}
		if c.goodbye == 0 {
			clientClosed{l.c}.apply(l.a)
		}
		var of []protocol.SliceUsage
		for i, sl := range l.live()[0].Slices {
			ref := protocol.SliceRef{Session: l.id, Number: sl.Number, Epoch: sl.Epoch}
			of = append(of, protocol.SliceUsage{Slice: ref, Quiet: 1})
			if i == 0 {
				of[0].In, of[0].Out = c.agents/7, c.agents/7*6
			}
		}
		nodeSaid{l.peer, &protocol.Node{Usage: &protocol.Usage{Slices: of}}}.apply(l.a)
		l.a.step(session.End{Session: l.id, Reason: "kicked", Bytes: c.goodbye})
		l.settle()
		if got := l.store.state.Sessions.Get(l.id); got.State != registry.SessionEnded || got.Bytes != c.want {
			t.Errorf("%s: %s, moved %d, want %d", name, got.State, got.Bytes, c.want)
		}
	}
}
