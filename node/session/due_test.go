package session

import (
	"encoding/binary"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/e2e/cost"
)

// TestDueIsWhatAScanFinds: a tick that looks at what is due does what one does that
// looks at every session, part and node, as without the registry's feed it must: the
// same actions at the same moments, over random histories.
func TestDueIsWhatAScanFinds(t *testing.T) {
	for seed := range uint64(seeds) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			due, scan := newChaos(seed), newChaos(seed)
			scan.w.state.Feed = nil
			for step := range 150 {
				due.step()
				scan.step()
				if at, differ := firstOther(due.lines, scan.lines); differ {
					t.Fatalf("step %d, line %d:\n%s", step, at, beside(due.lines, scan.lines, at))
				}
			}
			due.heal()
			scan.heal()
			if at, differ := firstOther(due.lines, scan.lines); differ {
				t.Fatalf("healing, line %d:\n%s", at, beside(due.lines, scan.lines, at))
			}
			if due.w.arb.looks >= scan.w.arb.looks {
				t.Errorf("%d looks at sessions, a scan has %d", due.w.arb.looks, scan.w.arb.looks)
			}
		})
	}
}

func firstOther(x, y []string) (at int, differ bool) {
	for at = range min(len(x), len(y)) {
		if x[at] != y[at] {
			return at, true
		}
	}
	return min(len(x), len(y)), len(x) != len(y)
}

func beside(due, scan []string, at int) string {
	from := max(0, at-5)
	return fmt.Sprintf("due:  %q\nscan: %q", due[from:min(at+3, len(due))], scan[from:min(at+3, len(scan))])
}

// crowd is a mesh with so many sessions of slices that are up, each with its client.
func crowd(nodes, sessions int) *world {
	w := newWorld(nodes, registry.Policy{Overload: registry.OverloadAbsorb, Slices: 4}, 1000)
	for _, n := range w.nodes {
		w.nodeUp(n, 1)
	}
	w.run(300*time.Millisecond, 100*time.Millisecond)
	w.ask(w.addClient("c"), 0, w.nodes[0].id())
	w.settle()
	base := w.state.ActiveSessions()[0]
	for i := range sessions - 1 {
		s := *base
		binary.BigEndian.PutUint32(s.ID[12:], uint32(i+1))
		s.Slices = slices.Clone(base.Slices)
		w.state.Sessions.Put(s.ID, &s)
		l := w.arb.live(s.ID)
		w.arb.attach(l, registry.RequestID(s.ID))
		l.answered, l.growAt = true, w.now+time.Duration(i)*time.Millisecond%GrowEvery
	}
	w.state.Feed.Replaced()
	return w
}

// looksIn counts the looks at sessions while time passes.
func (w *world) looksIn(d time.Duration) int {
	before := w.arb.looks
	w.run(d, 100*time.Millisecond)
	return w.arb.looks - before
}

// TestNothingDueLooksAtNothing: sessions of which nothing is to be done cost no look,
// an event about one costs that one's, and a node's the looks of those on it.
func TestNothingDueLooksAtNothing(t *testing.T) {
	const sessions = 500
	w := crowd(6, sessions)
	if n := w.looksIn(3 * GrowEvery); n < sessions || n > 6*sessions {
		t.Errorf("%d looks at %d sessions that are new", n, sessions)
	}
	if n := w.looksIn(time.Minute); n != 0 {
		t.Errorf("%d looks in a minute in which nothing is to be done", n)
	}
	one := w.state.ActiveSessions()[7]
	w.queue = append(w.queue, SliceUp{one.ID, 0, one.Slices[0].Epoch, false})
	if n := w.looksIn(time.Minute); n < 1 || n > 6 {
		t.Errorf("%d looks for an event about one session", n)
	}
	w.must(registry.Command{MarkSlice: &registry.MarkSlice{
		Session: one.ID, Number: 0, Epoch: one.Slices[0].Epoch, State: registry.SliceUp}})
	if n := w.looksIn(time.Minute); n < 1 || n > 6 {
		t.Errorf("%d looks for a command about one session", n)
	}
	for _, n := range w.nodes {
		w.queue = append(w.queue, Load{Node: n.id(), Used: 0.3}, Load{Node: n.id(), Used: 0.6})
	}
	if w.looksIn(2 * GrowEvery); w.looksIn(time.Minute) != 0 {
		t.Error("looks though the load stays")
	}
}

// TestWhoIsAwayWaitsForNoNode: sessions without keys whose clients are away cost no look when
// nodes become able, or are no more, as with each prekey of a crowd that comes back.
func TestWhoIsAwayWaitsForNoNode(t *testing.T) {
	const sessions = 200
	w := crowd(6, sessions)
	w.newTerm(w.nodes[0])
	for _, n := range w.nodes {
		w.nodeUp(n, 2) // without a slice
	}
	w.run(time.Minute, 100*time.Millisecond)
	if up := slices.ContainsFunc(w.state.ActiveSessions(), func(s *registry.Session) bool { return s.Slices[0].State != registry.SliceVoid }); up {
		t.Fatal("a slice that nobody has is not void")
	}
	const changes = 20
	looks := 0
	for i := range changes {
		w.queue = append(w.queue, Load{Node: w.nodes[3].id(), Used: float64(i % 2)})
		looks += w.looksIn(time.Second)
	}
	// Parts of the pool leave a node that is full, at times, which is looked at in each session.
	if looks > 3*sessions {
		t.Errorf("%d looks at %d sessions for %d changes", looks, sessions, changes)
	}
}

// TestRoomIsNoticed: a session has no slice on a node without room, and one
// as soon as there is room again, though nothing else happens to it.
func TestRoomIsNoticed(t *testing.T) {
	w := ready(t, 4)
	full := w.nodes[3]
	w.queue = append(w.queue, Load{Node: full.id(), Used: 1})
	w.settle()
	c := w.client("c")
	w.ask(c, 0, w.nodes[0].id())
	w.settle()
	w.run(2*time.Minute, 100*time.Millisecond)
	if n := len(w.state.Sessions.Get(c.session).Slices); n != 2 {
		t.Fatalf("%d slices while one of three nodes is full", n)
	}
	w.queue = append(w.queue, Load{Node: full.id(), Used: 0})
	w.run(GrowEvery, 100*time.Millisecond)
	if n := len(w.state.Sessions.Get(c.session).Slices); n != 3 {
		t.Errorf("%d slices when it is free", n)
	}
}

// BenchmarkScale is what a tick costs while nothing is due.
func BenchmarkScale(b *testing.B) {
	for _, size := range []struct{ nodes, sessions int }{{3, 1_000}, {3, 10_000}, {3, 100_000}, {1_000, 1_000}} {
		w := crowd(size.nodes, size.sessions)
		w.run(2*GrowEvery, 100*time.Millisecond)
		b.Run(fmt.Sprintf("a_tick_of_the_arbitrator/nodes=%d/sessions=%d", size.nodes, size.sessions), func(b *testing.B) {
			cost.Measure(b, nil, func(int) {
				w.now += time.Millisecond
				w.arb.Tick(w.now, w.state)
			})
		})
	}
}
