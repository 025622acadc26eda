package session

import (
	"testing"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
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
	o := &opening{pools: w.arb.pools}
	before := len(h.prekeys)
	for _, code := range []registry.Result{{Code: registry.ErrPrekey.Code}, {Code: registry.ErrStale.Code}, {Code: registry.ErrInvalid.Code}} {
		if w.arb.giveBack(o, taken, code); len(h.prekeys) != before {
			t.Errorf("%s: given back", code.Code)
		}
	}
	full := registry.Result{Code: registry.ErrExhausted.Code}
	if w.arb.giveBack(o, taken, full); len(h.prekeys) != before+1 || h.prekeys[0] != 7 {
		t.Errorf("not given back: %d", len(h.prekeys))
	}
	w.nodeUp(w.nodes[0], 1)
	w.settle()
	before = len(h.prekeys)
	if w.arb.giveBack(o, taken, full); len(h.prekeys) != before {
		t.Error("given to a pool that began anew")
	}
}
