package automaton

import (
	"errors"
	"math/rand/v2"
	"testing"
)

const (
	gateway     = 100
	destination = 200
)

func good(p uint64) []Event {
	return []Event{{Action: Init, Packet: p}, {Action: Receive, Packet: p, Peer: gateway},
		{Action: Decide, Packet: p}, {Action: Send, Packet: p, Peer: destination}}
}

func bad(p uint64) []Event {
	return []Event{{Action: Init, Packet: p}, {Action: Receive, Packet: p, Peer: gateway},
		{Action: Decide, Packet: p, Null: true}, {Action: Discard, Packet: p}}
}

func TestSampleExecutionsOfThePatent(t *testing.T) {
	if err := Check(1, append(good(1), bad(2)...)); err != nil {
		t.Error(err)
	}
}

func TestPacketsInterleave(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	var queues [][]Event
	for p := range uint64(200) {
		if p%3 == 0 {
			queues = append(queues, bad(p))
			continue
		}
		queues = append(queues, good(p))
	}
	c := NewChecker(1)
	for len(queues) > 0 {
		i := r.IntN(len(queues))
		if err := c.Observe(queues[i][0]); err != nil {
			t.Fatal(err)
		}
		if queues[i] = queues[i][1:]; len(queues[i]) == 0 {
			queues = append(queues[:i], queues[i+1:]...)
		}
	}
	if err := c.Quiet(); err != nil {
		t.Error(err)
	}
}

// Every trace that is one edit away from an execution is refused.
func TestEveryWrongOrderIsRefused(t *testing.T) {
	for name, trace := range map[string][]Event{"good": good(1), "bad": bad(1)} {
		for i := range trace {
			left := append(append([]Event(nil), trace[:i]...), trace[i+1:]...)
			if Check(1, left) == nil {
				t.Errorf("%s without event %d is taken for an execution", name, i)
			}
			twice := append(append(append([]Event(nil), trace[:i+1]...), trace[i]), trace[i+1:]...)
			if Check(1, twice) == nil {
				t.Errorf("%s with event %d twice is taken for an execution", name, i)
			}
			for j := range i {
				swapped := append([]Event(nil), trace...)
				swapped[i], swapped[j] = swapped[j], swapped[i]
				if Check(1, swapped) == nil {
					t.Errorf("%s with events %d and %d swapped is taken for an execution", name, j, i)
				}
			}
		}
	}
}

func TestRestrictionsOnOneAgent(t *testing.T) {
	opened, null := good(1), bad(1)
	sendNull := append(append([]Event(nil), null[:3]...), opened[3])
	dropGood := append(append([]Event(nil), opened[:3]...), null[3])
	fromSelf, toSelf := good(1), good(1)
	fromSelf[1].Peer, toSelf[3].Peer = 1, 1
	for name, c := range map[string]struct {
		trace []Event
		want  error
	}{
		"a bad packet is sent":       {sendNull, ErrTransition},
		"a good packet is discarded": {dropGood, ErrTransition},
		"received from itself":       {fromSelf, ErrSelf},
		"sent to itself":             {toSelf, ErrSelf},
		"left undecided":             {opened[:2], ErrPending},
		"unknown action":             {[]Event{{Action: 9}}, ErrTransition},
	} {
		if err := Check(1, c.trace); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func TestSignatureIsDisjointAndComplete(t *testing.T) {
	seen := map[Action]bool{}
	for _, tr := range Transitions() {
		seen[tr.Action] = true
		if tr.Action.Class() == 0 {
			t.Errorf("%v has no class", tr.Action)
		}
		if (tr.To == Quiescent) != (tr.Action.Class() == Output) {
			t.Errorf("%v: exactly outputs end a packet", tr)
		}
	}
	if len(seen) != 5 || Action(9).Class() != 0 {
		t.Errorf("actions in the table: %v", seen)
	}
}

func TestComposition(t *testing.T) { // figures 13 and 14
	for _, n := range []int{-1, 0, 9} {
		if _, err := Compose(n, 8); !errors.Is(err, ErrCount) {
			t.Errorf("Compose(%d, 8) = %v, want ErrCount", n, err)
		}
	}
	c, err := Compose(2, 8)
	if err != nil {
		t.Fatal(err)
	}
	observe(t, c, 0, good(1)[:2]) // agent 0 stalls with a packet on its stack
	for p := uint64(10); p < 20; p++ {
		observe(t, c, 1, good(p)) // and agent 1 does not notice
	}
	if err := c.Quiet(); !errors.Is(err, ErrPending) {
		t.Errorf("Quiet = %v with a packet at agent 0", err)
	}
	observe(t, c, 0, good(1)[2:])
	if err := c.Quiet(); err != nil {
		t.Error(err)
	}
	observe(t, c, 1, good(1)[:1])
	if err := c.Observe(1, good(1)[1]); !errors.Is(err, ErrFeedback) {
		t.Errorf("agent 1 was fed what agent 0 sent: %v", err)
	}
	if err := c.Observe(2, good(3)[0]); !errors.Is(err, ErrAgent) {
		t.Errorf("event of agent 2 of 2: %v", err)
	}
}

func TestLimitOfHeldPackets(t *testing.T) { // I10
	c := NewChecker(1)
	for p := range uint64(MaxHeld) {
		c.state[p] = Held
	}
	if err := c.Observe(Event{Action: Init, Packet: MaxHeld}); !errors.Is(err, ErrHeld) {
		t.Errorf("packet above the limit: %v", err)
	}
	if err := c.Observe(Event{Action: Decide, Packet: 1}); err != nil {
		t.Errorf("packet below the limit: %v", err)
	}
}

func TestLimitOfSentPackets(t *testing.T) { // I10
	c, err := Compose(1, 1)
	if err != nil {
		t.Fatal(err)
	}
	for p := range uint64(MaxSent) {
		c.sender[p] = 0
	}
	trace := good(MaxSent)
	observe(t, c, 0, trace[:3])
	if err := c.Observe(0, trace[3]); !errors.Is(err, ErrSent) {
		t.Errorf("packet above the limit: %v", err)
	}
}

func observe(t *testing.T, c *Composition, agent int, trace []Event) {
	t.Helper()
	for _, e := range trace {
		if err := c.Observe(agent, e); err != nil {
			t.Fatal(err)
		}
	}
}
