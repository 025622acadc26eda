package session

import (
	"slices"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// resumption is what the arbitrator proposes for a client that comes back.
func (w *world) resumption(c *fakeClient, n int, keeps bool) Propose {
	actions := w.arb.Step(w.now, w.state, Resume{
		Session: c.session, Request: request(n), Key: identity.PublicKey{2, byte(n)}, Hello: make([]byte, 32), KeepsSAs: keeps})
	return actions[0].(Propose)
}

// left is a mesh with a session whose client has just gone.
func left(t *testing.T, nodes int) (*world, *fakeClient) {
	t.Helper()
	w := ready(t, nodes)
	c := w.client("c")
	w.ask(c, 0, w.nodes[0].id())
	w.settle()
	w.clientGone(c)
	w.settle()
	return w, c
}

// TestBackIsTwoCommands: the resumption with all its grants, and what came up, however
// many slices there are. Where a replica does not read that, each grant is one more.
func TestBackIsTwoCommands(t *testing.T) {
	for name, older := range map[string]bool{"now": false, "before": true} {
		w, c := left(t, 5)
		w.arb.GrantsOnResume(!older)
		slices, before := len(w.state.Sessions.Get(c.session).Slices), w.index
		w.resume(c, false)
		w.run(time.Second, 50*time.Millisecond)
		want := 2
		if older {
			want += slices
		}
		if got := int(w.index - before); slices < 3 || got != want || c.told != "opened" {
			t.Errorf("%s: %d commands for %d slices, want %d; told %q", name, got, slices, want, c.told)
		}
		for _, sl := range w.state.Sessions.Get(c.session).Slices {
			if sl.Epoch != 2 || sl.State != registry.SliceUp {
				t.Errorf("%s: %+v", name, sl)
			}
		}
	}
}

// TestKeptSlicesAreNotGrantedAnew: of a client that has its keys still.
func TestKeptSlicesAreNotGrantedAnew(t *testing.T) {
	w, c := left(t, 3)
	if p := w.resumption(c, 50, true); len(p.Command.ResumeKey.Slices) != 0 {
		t.Errorf("granted anew: %+v", p.Command.ResumeKey)
	}
}

// TestDeadSlicesAreGrantedAnew: with the resumption, though the client says that it has
// keys: it was silent while the agents restarted.
func TestDeadSlicesAreGrantedAnew(t *testing.T) {
	w, c := left(t, 3)
	for _, n := range w.nodes {
		w.nodeDown(n)
		w.nodeUp(n, n.boot+1)
		w.must(registry.Command{UpdateNode: &registry.UpdateNode{ID: n.id(), Boot: n.bootID(), Mbit: w.state.Nodes[n.id()].Mbit}})
	}
	w.run(200*time.Millisecond, 100*time.Millisecond)
	slices, before := len(w.state.Sessions.Get(c.session).Slices), w.index
	p := w.resumption(c, 50, true)
	if got := len(p.Command.ResumeKey.Slices); got != slices || w.index != before {
		t.Errorf("%d of %d slices are granted with the resumption, after %d commands", got, slices, w.index-before)
	}
}

// TestResumptionsLoseNoPrekey: those that were taken to grant slices with a resumption
// are granted, on offer again or dropped, whatever becomes of it, and its client comes back.
func TestResumptionsLoseNoPrekey(t *testing.T) {
	for name, of := range fates(map[string]fate{
		"a later one is under way": func(w *world, p Propose) Committed {
			w.resumption(w.client("c"), 51, false)
			return Committed{Tag: p.Tag, Result: w.apply(p.Command)}
		},
		"superseded": func(w *world, p Propose) Committed {
			r := w.apply(p.Command)
			w.state.Sessions.Get(r.Session).Slices[0].Epoch++
			return Committed{Tag: p.Tag, Result: r}
		},
		"forgotten": func(w *world, p Propose) Committed {
			clear(w.arb.lives)
			return Committed{Tag: p.Tag, Result: w.apply(p.Command)}
		},
		"stale": refused(registry.ErrStale), "ended": refused(registry.ErrEnded),
	}) {
		w, c := left(t, 3)
		before := w.unused()
		p := w.resumption(c, 50, false)
		taken := before - w.unused()
		actions := w.arb.Step(w.now, w.state, of(w, p))
		granted, dropped := count[SendGrant](actions), count[DropPrekey](actions)
		named := 0 // by what is proposed since
		for _, action := range actions {
			if next, is := action.(Propose); is && next.Command.GrantSlice != nil {
				named++
			}
		}
		if taken != len(p.Command.ResumeKey.Slices) || taken == 0 || granted+dropped+named != before-w.unused() {
			t.Errorf("%s: of %d prekeys %d are granted, %d dropped, and %d are missing", name, taken, granted, dropped, before-w.unused())
		}
		if l := w.arb.lives[c.session]; l != nil {
			for _, known := range l.slots {
				if known.proposal == p.Tag {
					t.Errorf("%s: slice %d waits for what is over", name, known.number)
				}
			}
		}
	}
}

// TestRefusedGrantsDoNotRefuseTheClient: where an agent was drained between plan and
// commit the client comes back without its slices, which follow.
func TestRefusedGrantsDoNotRefuseTheClient(t *testing.T) {
	w, c := left(t, 4)
	p := w.resumption(c, 50, false)
	c.request, c.attached = request(50), true
	agent := p.Command.ResumeKey.Slices[0].Agent
	w.must(registry.Command{SetRoles: &registry.SetRoles{ID: agent, Is: w.state.Nodes[agent].Is, Drained: true}})
	r := w.apply(p.Command)
	if r.Code != registry.ErrStale.Code {
		t.Fatalf("%+v", r)
	}
	actions := w.arb.Step(w.now, w.state, Committed{Tag: p.Tag, Result: r})
	var again *registry.ResumeKey
	for _, action := range actions {
		if p, is := action.(Propose); is {
			again = p.Command.ResumeKey
			w.must(p.Command)
			actions = w.arb.Step(w.now, w.state, Committed{Tag: p.Tag})
		}
	}
	if again == nil || len(again.Slices) != 0 || count[Refuse](actions) != 0 || !w.arb.lives[c.session].attached {
		t.Errorf("%+v: %+v", again, actions)
	}
}

// TestRefusedGrantsAreNotTriedByAResumption before their time: what refused a slice would
// refuse the whole command, and its client would be back without any.
func TestRefusedGrantsAreNotTriedByAResumption(t *testing.T) {
	w, c := left(t, 3)
	refused := w.state.Sessions.Get(c.session).Slices[0].Number
	w.arb.slot(c.session, refused).retryAt = w.now + RetryEvery
	early := w.resumption(c, 50, false).Command.ResumeKey
	if early.Slices == nil || slices.ContainsFunc(early.Slices, func(sl registry.Slice) bool { return sl.Number == refused }) {
		t.Errorf("granted with it: %+v", early.Slices)
	}
	w, c = left(t, 3)
	w.arb.slot(c.session, refused).retryAt = w.now
	if p := w.resumption(c, 50, false); p.Command.ResumeKey.Slices[0].Number != refused {
		t.Errorf("kept waiting beyond its time: %+v", p.Command.ResumeKey.Slices)
	}
}

// TestSupersededRegrants: an agent is sent the epoch that its resumption granted, or none,
// and is told of a prekey that was spent in vain.
func TestSupersededRegrants(t *testing.T) {
	for name, change := range map[string]func(*registry.Session){
		"a later epoch":  func(s *registry.Session) { s.Slices[0].Epoch++ },
		"no slice of it": func(s *registry.Session) { s.Slices = s.Slices[1:] },
	} {
		w, c := left(t, 3)
		p := w.resumption(c, 50, false)
		given := p.Command.ResumeKey.Slices
		result := w.apply(p.Command)
		change(w.state.Sessions.Get(c.session))
		var dropped []DropPrekey
		sent := map[uint8]uint32{}
		for _, action := range w.arb.Step(w.now, w.state, Committed{Tag: p.Tag, Result: result}) {
			switch action := action.(type) {
			case SendGrant:
				sent[action.Slice.Number] = action.Slice.Epoch
			case DropPrekey:
				dropped = append(dropped, action)
			}
		}
		if _, found := sent[given[0].Number]; found || len(sent) != len(given)-1 {
			t.Errorf("%s: sent are %v", name, sent)
		}
		if len(dropped) != 1 || dropped[0] != (DropPrekey{given[0].Agent, given[0].SPI}) {
			t.Errorf("%s: dropped are %v", name, dropped)
		}
	}
}
