package session

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
)

// forgets is what an owner of an epoch is to be told when that is over.
func forgets(id registry.SessionID, all ...registry.Slice) (said []RevokeSlice) {
	for _, sl := range all {
		said = append(said, RevokeSlice{sl.Agent, id, sl.Number, sl.Epoch})
	}
	return said
}

// TestUnservedResumptionIsTakenBack: what it granted is told to nobody, but what was before is
// over, by the epoch that it had.
func TestUnservedResumptionIsTakenBack(t *testing.T) {
	w, c := left(t, 3)
	w.recovered(1000)
	p, before := w.resumption(c, 50, false), slices.Clone(w.state.Sessions.Get(c.session).Slices)
	result := w.apply(p.Command)
	w.arb.Step(w.now, w.state, ClientGone{request(50)})
	actions := w.arb.Step(w.now, w.state, Committed{Tag: p.Tag, Result: result})
	for _, want := range forgets(c.session, before...) {
		if !slices.Contains(actions, Action(want)) {
			t.Errorf("%+v is not said", want)
		}
	}
	if n := count[RevokeSlice](actions); n != len(before) || n < 2 || count[SendGrant](actions) > 0 {
		t.Errorf("%+v", actions)
	}
}

// TestRetiringEpochIsTakenBack from the agent that had it when its time is over, also where a
// replica reads no commands of many marks.
func TestRetiringEpochIsTakenBack(t *testing.T) {
	for _, older := range []bool{false, true} {
		w := ready(t, 5)
		w.arb.TakesBatches(!older)
		c := w.client("c")
		w.ask(c, 1500e6, w.nodes[0].id())
		w.settle()
		sl := w.state.Sessions.Get(c.session).Slices[0]
		want, said := fmt.Sprintf("revoke %s c/%d@%d", w.node(sl.Agent).name, sl.Number, sl.Epoch), 0
		w.log = func(format string, args ...any) {
			if fmt.Sprintf(format, args...) == want {
				said++
			}
		}
		w.queue = append(w.queue, Drain{sl.Agent, true})
		w.run(300*time.Millisecond, 100*time.Millisecond)
		if s := w.state.Sessions.Get(c.session); len(s.Retiring) == 0 || said > 0 {
			t.Fatalf("older %t: said %d times while it retires: %+v", older, said, s.Retiring)
		}
		if w.run(10*time.Second, 100*time.Millisecond); said != 1 {
			t.Errorf("older %t: said %d times", older, said)
		}
	}
}
