package session

import (
	"slices"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
)

// TestGoneResumption: a client that has given up while its new key was on its way to the
// log has no stream here when it is committed: nothing is granted for it, and what was
// granted with its key is told to nobody.
func TestGoneResumption(t *testing.T) {
	for name, older := range map[string]bool{"by one command": false, "by one each": true} {
		w := ready(t, 3)
		w.arb.GrantsOnResume(!older)
		c := w.client("c")
		w.ask(c, 0, w.nodes[0].id())
		w.settle()
		w.clientGone(c)
		w.settle()
		p := w.resumption(c, 50, false)
		w.arb.Step(w.now, w.state, ClientGone{request(50)})
		w.must(p.Command)
		actions := w.arb.Step(w.now, w.state, Committed{Tag: p.Tag})
		for range 20 {
			w.now += 100 * time.Millisecond
			actions = append(actions, w.arb.Tick(w.now, w.state)...)
		}
		given := len(p.Command.ResumeKey.Slices)
		if l := w.arb.lives[c.session]; l.attached || len(w.arb.waiting) != 0 || count[SendGrant](actions)+count[SendClient](actions) != 0 ||
			count[DropPrekey](actions) != given || older != (given == 0) {
			t.Errorf("%s, for nobody: %+v, attached %v, %d wait", name, actions, l.attached, len(w.arb.waiting))
		}
		w.resume(c, false)
		if w.run(time.Second, 100*time.Millisecond); c.told == "" || !w.arb.lives[c.session].attached {
			t.Errorf("%s, back for good it was told %q", name, c.told)
		}
	}
}

// TestGoneResumptionOfARecoveredMesh: agents forget what it superseded by the epochs that this
// had, though nobody is served and many epochs were left out.
func TestGoneResumptionOfARecoveredMesh(t *testing.T) {
	w := ready(t, 3)
	c := w.client("c")
	w.ask(c, 0, w.nodes[0].id())
	w.settle()
	w.clientGone(c)
	w.settle()
	w.recovered(1000)
	had := slices.Clone(w.state.Sessions.Get(c.session).Slices)
	p := w.resumption(c, 50, false)
	w.arb.Step(w.now, w.state, ClientGone{request(50)})
	w.must(p.Command)
	actions := w.arb.Step(w.now, w.state, Committed{Tag: p.Tag})
	for _, sl := range had {
		if !slices.Contains(actions, Action(RevokeSlice{sl.Agent, c.session, sl.Number, sl.Epoch})) {
			t.Errorf("slice %d of epoch %d is kept: %+v", sl.Number, sl.Epoch, actions)
		}
	}
	if len(had) == 0 || len(p.Command.ResumeKey.Slices) != len(had) {
		t.Errorf("%d slices, and %d are granted", len(had), len(p.Command.ResumeKey.Slices))
	}
}

// TestBackIsHeardSoon: whoever comes back hears so by OpenWait though no agent has
// answered, or it would come again and cost all of it anew. The slices follow.
func TestBackIsHeardSoon(t *testing.T) {
	w := ready(t, 3)
	c := w.client("c")
	w.ask(c, 0, w.nodes[0].id())
	w.settle()
	for _, n := range w.nodes {
		n.behave = "mute"
	}
	w.clientGone(c)
	w.resume(c, false)
	if w.run(OpenWait-200*time.Millisecond, 100*time.Millisecond); c.told != "" {
		t.Errorf("told %q before OpenWait", c.told)
	}
	if w.run(400*time.Millisecond, 100*time.Millisecond); c.told != "opened" {
		t.Errorf("told %q after OpenWait", c.told)
	}
	for _, n := range w.nodes {
		n.behave = ""
	}
	if w.run(2*MaxFailureHold, 100*time.Millisecond); c.told != "granted" {
		t.Errorf("told %q when agents answer again", c.told)
	}
}

// TestBusyAgentIsWaitedFor: an agent that works off its grants is left the last of them,
// though that takes longer than AckTimeout; one that answers nothing is not, and neither
// is one that leaves a grant out for ever.
func TestBusyAgentIsWaitedFor(t *testing.T) {
	for name, c := range map[string]struct {
		acks   time.Duration // of others, go on for so long
		within time.Duration // the grant is given up
		after  time.Duration // it is not, until then
	}{
		"mute":      {0, AckTimeout + 100*time.Millisecond, 0},
		"busy":      {time.Second, time.Second + AckTimeout + 100*time.Millisecond, time.Second},
		"forgetful": {time.Minute, AckTimeout + AckMost + 100*time.Millisecond, AckTimeout + AckMost - 100*time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			w := ready(t, 3)
			for _, n := range w.nodes {
				n.behave = "mute"
			}
			w.ask(w.client("c"), 0, w.nodes[0].id())
			w.settle()
			var id registry.SessionID
			for id = range w.arb.lives {
			}
			granted, begin := w.state.Sessions.Get(id).Slices[0], w.now
			kept := func() bool {
				sl, found := sliceOf(w.state.Sessions.Get(id), granted.Number)
				return found && sl.Epoch == granted.Epoch && sl.State == registry.SliceGranted
			}
			for w.now-begin < time.Minute && kept() {
				w.run(50*time.Millisecond, 50*time.Millisecond)
				if w.now-begin <= c.acks {
					w.arb.Step(w.now, w.state, SliceAck{Node: granted.Agent, Session: registry.SessionID{9}})
				}
			}
			if took := w.now - begin; took > c.within || took < c.after {
				t.Errorf("given up after %v, want %v to %v", took, c.after, c.within)
			}
		})
	}
}
