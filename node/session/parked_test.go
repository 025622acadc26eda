package session

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
)

// parkedWorld is three nodes and a client that has parked, and what is said from then on.
func parkedWorld(t *testing.T) (w *world, c *fakeClient, said *strings.Builder) {
	t.Helper()
	w = newWorld(3, registry.Policy{Overload: registry.OverloadAbsorb, Mode: registry.ModeBurst, Slices: 2}, 1000)
	for _, n := range w.nodes {
		w.nodeUp(n, 1)
	}
	w.run(5*time.Second, 100*time.Millisecond)
	c = w.addClient("c")
	c.device = registry.DeviceID{1}
	w.ask(c, 0, w.nodes[0].id())
	w.run(10*time.Second, 100*time.Millisecond)
	said = &strings.Builder{}
	w.log = func(format string, args ...any) { fmt.Fprintf(said, format+"\n", args...) }
	w.queue = append(w.queue, Park{c.request})
	if w.settle(); c.told != "parked" {
		t.Fatalf("it is told %q", c.told)
	}
	w.clientGone(c)
	w.settle()
	return w, c, said
}

// says is what an agent hears of a parked client.
func (w *world) hearsParked(c *fakeClient) {
	w.queue = append(w.queue, Heard{Ago: map[registry.SessionID]time.Duration{c.session: 0}, Parked: []registry.SessionID{c.session}})
	w.settle()
}

// TestParkedSessionStays: for as long as agents hear its client say so, and no longer than
// any other after that (I12). Nothing is said to it, and nothing decided.
func TestParkedSessionStays(t *testing.T) {
	w, c, said := parkedWorld(t)
	looks := w.arb.looks
	for range 120 {
		w.hearsParked(c)
		w.run(30*time.Second, time.Second)
	}
	if s := w.state.Sessions.Get(c.session); s.State != registry.SessionActive || said.String() != "client c parked []\n" {
		t.Fatalf("after an hour: %v\n%s", s.State, said)
	}
	if n := w.arb.looks - looks; n > 10 {
		t.Errorf("looked at %d times in an hour", n)
	}
	w.run(headless(w.state)+AbandonAfter-31*time.Second, time.Second)
	if w.state.Sessions.Get(c.session).State != registry.SessionActive {
		t.Error("ended before its time")
	}
	w.run(5*time.Second, time.Second)
	if w.state.Sessions.Get(c.session).State == registry.SessionActive {
		t.Error("nobody hears it, and it goes on")
	}
}

// TestParkedClientThatIsGone: what is sent to it has its agent go on to report it, and for
// how long it was silent. Its session ends as if nothing were sent.
func TestParkedClientThatIsGone(t *testing.T) {
	w, c, _ := parkedWorld(t)
	w.hearsParked(c)
	const every = 30 * time.Second
	for ago := every; ago <= headless(w.state)+AbandonAfter+every; ago += every {
		w.run(every, time.Second)
		w.queue = append(w.queue, Heard{Ago: map[registry.SessionID]time.Duration{c.session: ago}, Parked: []registry.SessionID{c.session}})
		w.settle()
	}
	if w.state.Sessions.Get(c.session).State == registry.SessionActive {
		t.Error("it goes on")
	}
}

// TestParkedClientIsCalled: once, when there is a slice for it; it has that when it comes.
func TestParkedClientIsCalled(t *testing.T) {
	for name, loses := range map[string]func(*world, *fakeNode){
		"its agent dies":   func(w *world, n *fakeNode) { w.nodeDown(n) },
		"its agent leaves": func(w *world, n *fakeNode) { w.queue = append(w.queue, Drain{n.id(), true}) },
		"its slice is silent": func(w *world, n *fakeNode) {
			w.queue = append(w.queue, SliceSilent{w.clients[0].session, w.state.Sessions.Get(w.clients[0].session).Slices[0].Number, 1, false})
		},
	} {
		w, c, said := parkedWorld(t)
		w.hearsParked(c)
		loses(w, w.node(w.state.Sessions.Get(c.session).Slices[0].Agent))
		w.run(30*time.Second, 100*time.Millisecond)
		if n := strings.Count(said.String(), "call c\n"); n != 1 {
			t.Errorf("%s: called %d times\n%s", name, n, said)
			continue
		}
		if strings.Contains(said.String(), "granted") {
			t.Errorf("%s: granted to who is not there\n%s", name, said)
		}
		w.resume(c, true)
		w.run(10*time.Second, 100*time.Millisecond)
		for _, sl := range w.state.Sessions.Get(c.session).Slices {
			if sl.State != registry.SliceUp {
				t.Errorf("%s: slice %d is %v after it came\n%s", name, sl.Number, sl.State, said)
			}
		}
	}
}

// TestParkedClientHearsOfItsEnd: it is called ahead of what takes its slices.
func TestParkedClientHearsOfItsEnd(t *testing.T) {
	w, c, said := parkedWorld(t)
	w.queue = append(w.queue, End{Session: c.session, Reason: "kicked"})
	w.run(time.Second, 100*time.Millisecond)
	call, revoked := strings.Index(said.String(), "call "), strings.Index(said.String(), "revoke ")
	if call < 0 || revoked < call {
		t.Errorf("%s", said)
	}
}

// TestParkedUnderAnotherArbiter: that hears who is parked from agents, lets their sessions
// be, and calls whom the old one should have called.
func TestParkedUnderAnotherArbiter(t *testing.T) {
	w, c, said := parkedWorld(t)
	gone := w.node(w.state.Sessions.Get(c.session).Slices[0].Agent)
	w.newTerm(w.nodes[0])
	for _, n := range w.nodes {
		if n != gone {
			w.nodeUp(n, 1)
		}
	}
	w.run(time.Minute, time.Second)
	if strings.Contains(said.String(), "call c\n") {
		t.Fatalf("it is not known that it is parked\n%s", said)
	}
	w.hearsParked(c)
	w.run(time.Minute, time.Second)
	if strings.Count(said.String(), "call c\n") != 1 {
		t.Errorf("not called\n%s", said)
	}
}

// TestWhoMayPark: nobody of whom anything is under way, and who is not attached.
func TestWhoMayPark(t *testing.T) {
	for name, disturb := range map[string]func(*world, *fakeClient){
		"a slice is silent": func(w *world, c *fakeClient) { w.queue = append(w.queue, SliceSilent{c.session, 0, 1, false}) },
		"it is to end": func(w *world, c *fakeClient) {
			w.arb.Step(w.now, w.state, End{Session: c.session, Reason: "kicked"}) // and the log is slow
		},
		"a slice is to be moved, and was lately": func(w *world, c *fakeClient) {
			w.arb.slot(c.session, 0).moved, w.arb.slot(c.session, 0).movedAt = true, w.now
			w.queue = append(w.queue, Drain{w.state.Sessions.Get(c.session).Slices[0].Agent, true})
			w.settle()
		},
		"it has gone": func(w *world, c *fakeClient) { w.clientGone(c) },
	} {
		w, c := newWorldOfTwo()
		disturb(w, c)
		w.queue = append(w.queue, Park{c.request})
		if w.settle(); c.told == "parked" {
			t.Errorf("parked though %s", name)
		}
	}
}

// TestWhoCameIsNotParked: what was heard of a client before it came says nothing of it
// after it is gone without a word.
func TestWhoCameIsNotParked(t *testing.T) {
	w, c, said := parkedWorld(t)
	w.resume(c, true)
	w.run(time.Second, 100*time.Millisecond)
	w.hearsParked(c)
	w.clientGone(c)
	w.queue = append(w.queue, SliceSilent{c.session, 0, 1, false})
	w.run(time.Minute, 100*time.Millisecond)
	if strings.Contains(said.String(), "call c\n") {
		t.Errorf("called\n%s", said)
	}
}

// TestParkedSessionGivesWayLater: agents tell of a parked client rarely, and it lives in
// between (I12); the same silence of one that is not parked ends its session.
func TestParkedSessionGivesWayLater(t *testing.T) {
	w, c, _ := parkedWorld(t)
	word := time.Duration(registry.ParkedWord(w.state.Headless())) * time.Second
	for range 3 {
		w.hearsParked(c)
		w.run(word+SilentAfter+10*time.Second, time.Second) // the last word of it was a question old
		if w.arb.makeRoom(w.state, "c") {
			t.Fatal("a living session gives way")
		}
	}
	if in := w.arb.roomIn(w.state, "c"); in <= 0 || in > SilentAfter {
		t.Errorf("it gives way in %v", in)
	}
	w.run(ParkedSilent-SilentAfter, time.Second)
	if !w.arb.makeRoom(w.state, "c") {
		t.Error("a dead one does not")
	}
}

// newWorldOfTwo is a mesh of two nodes, and a client with a slice at each.
func newWorldOfTwo() (w *world, c *fakeClient) {
	w = newWorld(2, registry.Policy{Overload: registry.OverloadAbsorb, Mode: registry.ModeBurst, Slices: 2}, 1000)
	for _, n := range w.nodes {
		w.nodeUp(n, 1)
	}
	w.run(5*time.Second, 100*time.Millisecond)
	c = w.addClient("c")
	w.ask(c, 0, w.nodes[0].id())
	w.run(10*time.Second, 100*time.Millisecond)
	return w, c
}
