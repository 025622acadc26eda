package session

import (
	"slices"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// TestOvertakenResumption: of two resumptions of one session the later one is answered,
// whichever outcome is heard first; the earlier one's connection is closed.
func TestOvertakenResumption(t *testing.T) {
	for name, order := range map[string][2]int{"in order": {0, 1}, "the later one first": {1, 0}} {
		w := ready(t, 3)
		c := w.client("c")
		w.ask(c, 0, w.nodes[0].id())
		w.settle()
		var asked [2]Propose
		for i := range asked {
			actions := w.arb.Step(w.now, w.state, Resume{
				Session: c.session, Request: request(50 + i), Key: identity.PublicKey{2, byte(i)}, Hello: make([]byte, 32), KeepsSAs: true,
			})
			if len(actions) != 1 {
				t.Fatalf("%s: resumption %d: %+v", name, i, actions)
			}
			asked[i] = actions[0].(Propose)
		}
		for _, p := range asked {
			w.must(p.Command)
		}
		for _, i := range order {
			actions := w.arb.Step(w.now, w.state, Committed{Tag: asked[i].Tag})
			l := w.arb.lives[c.session]
			if i == 0 && (len(actions) != 1 || actions[0] != CloseClient{request(50)}) {
				t.Errorf("%s: the earlier one: %+v", name, actions)
			}
			if i == 1 && (count[SendClient](actions) != 1 || !l.attached || l.request != request(51)) {
				t.Errorf("%s: the later one: %+v, attached %v", name, actions, l.attached)
			}
		}
	}
}

// granting is a mesh in which a slice is being granted anew, as committed; its outcome
// is not heard yet.
func granting(t *testing.T) (w *world, p Propose) {
	t.Helper()
	w = ready(t, 4)
	c := w.client("c")
	w.ask(c, 1500e6, w.nodes[1].id())
	w.settle()
	w.nodeDown(w.nodes[1])
	w.settle()
	for range 50 {
		w.now += 100 * time.Millisecond
		for _, action := range w.arb.Tick(w.now, w.state) {
			if p, is := action.(Propose); is && p.Command.GrantSlice != nil {
				w.must(p.Command)
				return w, p
			}
		}
	}
	t.Fatal("nothing is granted anew")
	return nil, p
}

// TestSupersededGrant: an agent is sent what is committed, not what was when its
// outcome is heard after a later epoch's commit (I6).
func TestSupersededGrant(t *testing.T) {
	w, p := granting(t)
	if actions := w.arb.Step(w.now, w.state, Committed{Tag: p.Tag}); count[SendGrant](actions) != 1 {
		t.Errorf("the grant is not sent: %+v", actions)
	}
	for name, change := range map[string]func(*registry.Session, int){
		"a later epoch":  func(s *registry.Session, at int) { s.Slices[at].Epoch++ },
		"no slice of it": func(s *registry.Session, at int) { s.Slices = slices.Delete(s.Slices, at, at+1) },
	} {
		w, p := granting(t)
		g := p.Command.GrantSlice
		s := w.state.Sessions.Get(g.Session)
		change(s, slices.IndexFunc(s.Slices, func(sl registry.Slice) bool { return sl.Number == g.Slice.Number }))
		if actions := w.arb.Step(w.now, w.state, Committed{Tag: p.Tag}); len(actions) != 1 || count[DropPrekey](actions) != 1 {
			t.Errorf("%s is committed: %+v", name, actions)
		}
	}
}

// TestLoadOfAStranger leaves nothing behind.
func TestLoadOfAStranger(t *testing.T) {
	w := ready(t, 2)
	w.arb.Step(w.now, w.state, Load{Node: identity.NodeID{9}, Used: 1})
	if len(w.arb.hosts) != 2 {
		t.Errorf("%d nodes are known", len(w.arb.hosts))
	}
}

// TestOfferOfAnEarlierHello: what was granted for the hello of a connection before is offered
// to nobody, though its agent agreed meanwhile: the client could make no keys of it.
func TestOfferOfAnEarlierHello(t *testing.T) {
	w, c := left(t, 3)
	w.arb.GrantsOnResume(false) // as in a mesh with a voter of an older build
	for _, n := range w.nodes {
		n.behave = "mute"
	}
	w.resume(c, false)
	w.run(100*time.Millisecond, 50*time.Millisecond)
	w.clientGone(c)
	w.settle()
	p := w.resumption(c, 51, false)
	w.must(p.Command)
	s, agreed := w.state.Sessions.Get(c.session), 0
	for _, sl := range s.Slices { // they answer before the outcome is heard
		if sl.State == registry.SliceGranted {
			w.arb.Step(w.now, w.state, SliceAck{Node: sl.Agent, Session: s.ID, Number: sl.Number, Epoch: sl.Epoch})
			agreed++
		}
	}
	if agreed == 0 {
		t.Fatal("no slice was granted before")
	}
	for _, action := range w.arb.Step(w.now, w.state, Committed{Tag: p.Tag}) {
		if told, is := action.(SendClient); is && len(told.Slices) > 0 {
			t.Errorf("told of %+v, granted before it came back", told.Slices)
		}
	}
}
