package session

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// slow is a world whose log takes its time: outcomes come when the test says so.
type slow struct {
	*world
	entries []registry.Command
	due     []Event
}

func (w *slow) step(e Event) {
	for _, action := range w.arb.Step(w.now, w.state, e) {
		switch action := action.(type) {
		case Propose:
			w.entries = append(w.entries, action.Command)
			w.due = append(w.due, Committed{Tag: action.Tag, Result: w.apply(action.Command)})
		case SendGrant:
			w.step(SliceAck{Node: action.Node, Session: action.Session, Number: action.Slice.Number, Epoch: action.Slice.Epoch})
		}
	}
}

// land tells the outcomes of all that was proposed until now.
func (w *slow) land() {
	due := w.due
	w.due = nil
	for _, e := range due {
		w.step(e)
	}
}

// logIn opens sessions, and brings their slices up one after the other.
func (w *slow) logIn(clients int) {
	var opens []Open
	for i := range clients {
		c := w.addClient(fmt.Sprintf("c%d", i))
		w.ask(c, 0, w.nodes[0].id())
		c.open.Request = request(i + 1)
		c.open.Key = identity.PublicKey{1, byte(i)}
		opens = append(opens, c.open)
	}
	w.queue = nil
	for _, e := range opens {
		w.step(e)
	}
	w.land()
	for _, s := range w.state.ActiveSessions() {
		for _, sl := range s.Slices {
			w.step(SliceUp{s.ID, sl.Number, sl.Epoch, false})
		}
	}
	for len(w.due) > 0 {
		w.land()
	}
}

// TestEntriesOfALogin: a login costs one entry of the log for its grants and one for
// what came up, however many slices it has; many at a time share the second.
func TestEntriesOfALogin(t *testing.T) {
	for _, test := range []struct {
		older         bool
		clients, most int
	}{
		{false, 1, 2}, {false, 40, 40 + 2}, {true, 1, 1 + 4},
	} {
		w := &slow{world: ready(t, 5)}
		w.arb.TakesBatches(!test.older)
		w.logIn(test.clients)
		up := 0
		for _, s := range w.state.ActiveSessions() {
			for _, sl := range s.Slices {
				if sl.State == registry.SliceUp {
					up++
				}
			}
		}
		if len(w.entries) != test.most || up != 4*test.clients {
			t.Errorf("%+v: %d entries, %d slices up", test, len(w.entries), up)
		}
		batched := slices.ContainsFunc(w.entries, func(c registry.Command) bool { return c.MarkSlices != nil })
		if batched == test.older {
			t.Errorf("%+v: in a command of many marks: %v", test, batched)
		}
	}
}

// TestSlowSliceHoldsUpNobody: what is up is marked after UpGather, though a slice that
// the client was told of with it is not.
func TestSlowSliceHoldsUpNobody(t *testing.T) {
	w := ready(t, 4)
	c := w.client("c")
	c.dull = true
	w.ask(c, 0, w.nodes[0].id())
	w.settle()
	s := w.state.Sessions.Get(c.session)
	first := func() registry.SliceState { return w.state.Sessions.Get(s.ID).Slices[0].State }
	w.queue = append(w.queue, SliceUp{s.ID, s.Slices[0].Number, s.Slices[0].Epoch, false})
	if w.settle(); first() != registry.SliceGranted {
		t.Fatal("it did not wait for the others")
	}
	if w.run(2*UpGather, UpGather); first() != registry.SliceUp {
		t.Error("it still waits for the others")
	}
}

// TestMarksAtTheLimit: no more marks share a command than the registry takes, and each
// is made, though the first outcome is lost.
func TestMarksAtTheLimit(t *testing.T) { // I10
	w := crowd(6, registry.MaxMarks/4+10)
	w.run(time.Second, 100*time.Millisecond)
	largest := 0
	w.unknown, w.lost = 1, true
	for _, n := range w.nodes {
		w.nodeDown(n)
	}
	for range 50 {
		w.now += 100 * time.Millisecond
		actions := w.arb.Tick(w.now, w.state)
		for _, action := range actions {
			if p, is := action.(Propose); is && p.Command.MarkSlices != nil {
				largest = max(largest, len(p.Command.MarkSlices.Marks))
			}
		}
		w.do(actions)
		w.settle()
	}
	if largest != registry.MaxMarks {
		t.Errorf("at most %d marks in a command, limit %d", largest, registry.MaxMarks)
	}
	for _, s := range w.state.ActiveSessions() {
		for _, sl := range s.Slices {
			if sl.State != registry.SliceVoid {
				t.Fatalf("slice %d of session %s is %s", sl.Number, s.ID.Short(), sl.State)
			}
		}
	}
}
