package session

import (
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// TestGoneResumption: a client that has given up while its new key was on its way to the
// log has no stream here when it is committed: nothing is granted for it.
func TestGoneResumption(t *testing.T) {
	w := ready(t, 3)
	c := w.client("c")
	w.ask(c, 0, w.nodes[0].id())
	w.settle()
	w.clientGone(c)
	w.settle()
	asked := w.arb.Step(w.now, w.state, Resume{Session: c.session, Request: request(50), Key: identity.PublicKey{2}, Hello: make([]byte, 32)})
	w.arb.Step(w.now, w.state, ClientGone{request(50)})
	p := asked[0].(Propose)
	w.must(p.Command)
	actions := w.arb.Step(w.now, w.state, Committed{Tag: p.Tag})
	for range 20 {
		w.now += 100 * time.Millisecond
		actions = append(actions, w.arb.Tick(w.now, w.state)...)
	}
	if l := w.arb.lives[c.session]; len(actions) != 0 || l.attached || len(w.arb.waiting) != 0 {
		t.Errorf("for nobody: %+v, attached %v, %d wait", actions, l.attached, len(w.arb.waiting))
	}
	w.resume(c, false)
	if w.run(time.Second, 100*time.Millisecond); c.told == "" || !w.arb.lives[c.session].attached {
		t.Errorf("back for good it was told %q", c.told)
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
