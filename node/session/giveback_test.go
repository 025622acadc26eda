package session

import (
	"maps"
	"net/netip"
	"testing"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// TestRefusedLoginsUseUpNoPrekeys: a client that is refused again and again, because it
// has as many sessions as it may or because the pool is full, leaves the agents to
// the others.
func TestRefusedLoginsUseUpNoPrekeys(t *testing.T) {
	for _, why := range []Code{TooMany, Full} {
		w := ready(t, 2)
		w.state.Policy.Sessions = 1
		first := w.client("c")
		first.device = registry.DeviceID{1}
		w.ask(first, 0, w.nodes[0].id())
		w.settle()
		before := len(w.arb.hosts[w.nodes[0].id()].prekeys)
		pool := w.state.Cluster.Pool[0]
		if why == Full {
			w.state.Policy.Sessions = 0
			for a := pool.Addr(); pool.Contains(a); a = a.Next() {
				if w.state.Leases.Get(a) == nil {
					w.state.Leases.Put(a, &registry.Lease{Client: "other", Free: 1 << 40})
				}
			}
		}
		for n := range 2 * before {
			first.device = registry.DeviceID{2, byte(n), byte(n >> 8)}
			w.ask(first, 0, w.nodes[0].id())
			w.settle()
			if first.told != string(why) {
				t.Fatalf("login %d is told %q, want %q", n, first.told, why)
			}
		}
		if got := len(w.arb.hosts[w.nodes[0].id()].prekeys); got != before {
			t.Errorf("%s: %d prekeys are left, before there were %d", why, got, before)
		}
	}
}

// TestPrekeysOfAnEarlierPoolStayAway: what an agent gave before it began anew is not
// its word any more (I2), and what a registry knows as spent is not given back.
func TestPrekeysOfAnEarlierPoolStayAway(t *testing.T) {
	w := ready(t, 2)
	h := w.arb.hosts[w.nodes[0].id()]
	taken := []registry.Slice{{Agent: w.nodes[0].id(), Boot: h.boot, SPI: 7}}
	pools := w.arb.pools
	before := len(h.prekeys)
	for _, code := range []registry.Result{{Code: registry.ErrPrekey.Code}, {Code: registry.ErrStale.Code}, {Code: registry.ErrInvalid.Code}} {
		w.arb.giveBack(pools, taken, besides(code))
		if dropped := w.arb.flush(); len(h.prekeys) != before || len(dropped) != 1 || dropped[0] != (DropPrekey{taken[0].Agent, 7}) {
			t.Errorf("%s: given back, or not dropped: %v", code.Code, dropped)
		}
	}
	full := besides(registry.Result{Code: registry.ErrExhausted.Code})
	if w.arb.giveBack(pools, taken, full); len(w.arb.flush()) != 0 || len(h.prekeys) != before+1 {
		t.Errorf("not given back: %d", len(h.prekeys))
	}
	if spi := h.takePrekey(); spi != 7 {
		t.Errorf("%d is next, not the latest, of which the agent has the private key", spi)
	}
	w.nodeUp(w.nodes[0], 1)
	w.settle()
	before = len(h.prekeys)
	if w.arb.giveBack(pools, taken, full); len(h.prekeys) != before {
		t.Error("given to a pool that began anew")
	}
}

// unused is how many prekeys all agents have on offer.
func (w *world) unused() (n int) {
	for _, h := range w.arb.hosts {
		n += len(h.prekeys)
	}
	return n
}

// fate is what becomes of a proposal.
type fate func(*world, Propose) Committed

func refused(e *registry.Error) fate {
	return func(_ *world, p Propose) Committed {
		return Committed{Tag: p.Tag, Result: registry.Result{Code: e.Code}}
	}
}

// fates are those that any proposal for a session may have, and others.
func fates(others map[string]fate) map[string]fate {
	all := map[string]fate{
		"committed": func(w *world, p Propose) Committed { return Committed{Tag: p.Tag, Result: w.apply(p.Command)} },
		"unknown":   func(_ *world, p Propose) Committed { return Committed{Tag: p.Tag, Unknown: true} },
		"it ended at once": func(w *world, p Propose) Committed {
			r := w.apply(p.Command)
			w.must(registry.Command{EndSession: &registry.EndSession{Session: r.Session}})
			return Committed{Tag: p.Tag, Result: r}
		},
	}
	maps.Copy(all, others)
	return all
}

// TestNoPrekeyIsLost: one that was taken for a login is granted, or on offer again, or
// its agent is told to make another; whatever became of the login.
func TestNoPrekeyIsLost(t *testing.T) {
	for name, of := range fates(map[string]fate{
		"another session has the request": func(_ *world, p Propose) Committed {
			return Committed{Tag: p.Tag, Result: registry.Result{Session: registry.SessionID{9}}}
		},
		"forgotten": func(w *world, p Propose) Committed { clear(w.arb.openings); return Committed{Tag: p.Tag} },
		"full":      refused(registry.ErrExhausted), "too many": refused(registry.ErrTooMany),
		"invalid": refused(registry.ErrInvalid), "revoked": refused(registry.ErrRevoked),
	}) {
		w := ready(t, 3)
		before := w.unused()
		actions := w.arb.Step(w.now, w.state, Open{
			Request: request(1), Client: "c", Suite: 1, Bandwidth: 1, Key: identity.PublicKey{1}, Identity: make([]byte, 32), Hello: make([]byte, 32)})
		p := actions[len(actions)-1].(Propose)
		taken := before - w.unused()
		actions = w.arb.Step(w.now, w.state, of(w, p))
		granted, dropped := count[SendGrant](actions), count[DropPrekey](actions)
		if taken != len(p.Command.OpenSession.Slices) || granted+dropped != before-w.unused() {
			t.Errorf("%s: of %d prekeys %d are granted, %d dropped, and %d are missing", name, taken, granted, dropped, before-w.unused())
		}
	}
	w := ready(t, 3)
	before := w.unused()
	for n := range MaxProposals {
		w.arb.proposals[Tag(1e6+n)] = &proposal{}
	}
	o := &opening{ask: Open{Request: request(1), Client: "c", Bandwidth: 1}, parts: []netip.Prefix{w.state.Parts[0].Prefix}}
	if w.arb.plan(w.state, o); w.unused() != before {
		t.Errorf("never proposed: %d prekeys are missing", before-w.unused())
	}
}

// TestRegrantsLoseNoPrekey: nor does one that was taken to grant a slice anew.
func TestRegrantsLoseNoPrekey(t *testing.T) {
	for name, end := range map[string]bool{"the session is over": true, "refused": false} {
		w, p := granting(t)
		e := Committed{Tag: p.Tag, Result: registry.Result{Code: registry.ErrInvalid.Code}}
		if end {
			w.must(registry.Command{EndSession: &registry.EndSession{Session: p.Command.GrantSlice.Session}})
			e.Result = registry.Result{}
		}
		before := w.unused()
		if actions := w.arb.Step(w.now, w.state, e); count[DropPrekey](actions)+w.unused()-before != 1 {
			t.Errorf("%s: %+v", name, actions)
		}
	}
	w := ready(t, 3)
	c := w.client("c")
	w.ask(c, 0, w.nodes[0].id())
	w.settle()
	for n := range MaxProposals {
		w.arb.proposals[Tag(1e6+n)] = &proposal{}
	}
	live, before := w.state.Sessions.Get(c.session), w.unused()
	if w.arb.grant(w.state, live, live.Slices[0], &w.arb.candidates(w.state, live)[0], false); w.unused() != before {
		t.Errorf("never proposed: %d prekeys are missing", before-w.unused())
	}
}
