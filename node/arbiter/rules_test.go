package arbiter

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// TestRulesAreTold: every node that a session's packets pass hears once what the
// client may reach, with the route or the slice or before; again when that
// changes, and the client then hears of its routes; and nobody else hears.
func TestRulesAreTold(t *testing.T) {
	f := newFixture(t)
	a := f.still()
	egress, old, stranger := f.member(a, "n2", dataRoles), f.member(a, "n3", dataRoles), f.member(a, "n4", dataRoles)
	live := f.session(a, 1, egress.node)
	live.Retiring = append(live.Retiring, registry.Slice{Number: 0, Epoch: 1, Agent: old.node, State: registry.SliceUp, SPI: 7})
	client := &clientStream{session: live.ID, Stream: toClient(t, 9)}
	a.serve(client, live.ID)
	f.store.View(func(s *registry.State) { a.offer(s, client, live) })
	want := func(what string, prefixes ...netip.Prefix) {
		t.Helper()
		a.pushViews()
		for _, n := range []*nodeStream{egress, old} {
			v := views(n)
			if len(v) != 1 || len(v[0].Rules) != 1 || v[0].Full != v[0].Judges || v[0].Rules[0].Session != live.ID ||
				v[0].Rules[0].Client != live.Client || !slices.Equal(v[0].Rules[0].Prefixes, prefixes) {
				t.Errorf("%s: %+v", what, v)
			}
		}
		if v := views(stranger); len(v) > 0 && len(v[0].Rules) > 0 {
			t.Errorf("%s: a stranger hears %+v", what, v)
		}
	}
	want("at first")
	network := netip.MustParsePrefix("10.20.0.100/32")
	f.store.View(func(s *registry.State) {
		s.Clients.Put(live.Client, &registry.Client{Name: live.Client, Prefixes: []netip.Prefix{network}})
	})
	want("networks of her own", network)
	told := false
	for client.Waiting() > 0 {
		m := client.Take()
		told = told || m.Update != nil && slices.Equal(m.Update.Prefixes, []netip.Prefix{network})
	}
	if !told {
		t.Error("the client is not told of its routes")
	}
	if a.pushViews(); len(views(egress)) != 0 || client.Waiting() != 0 {
		t.Error("told again what did not change")
	}
	if row := a.ruleFor(live.ID); row == nil || !row.Equal(protocol.RuleRow{Session: live.ID, Client: live.Client, Prefixes: []netip.Prefix{network}}) {
		t.Errorf("a grant brings %+v", row)
	}
	if a.ruleFor(registry.SessionID{9}) != nil {
		t.Error("a session that is none has a rule")
	}
}

// TestReachOfAPeer: a session with a peer reaches that alone, and nothing when
// it is gone.
func TestReachOfAPeer(t *testing.T) {
	f := newFixture(t)
	a := f.still()
	n := f.member(a, "n2", dataRoles)
	live := f.session(a, 1, n.node)
	live.Peer = n.node
	f.store.View(func(s *registry.State) {
		s.Nodes[n.node].Inside = netip.MustParseAddr("10.20.0.2")
		if got := Reach(s, live); !slices.Equal(got, []netip.Prefix{netip.MustParsePrefix("10.20.0.2/32")}) {
			t.Errorf("%v", got)
		}
		delete(s.Nodes, n.node)
		if got := Reach(s, live); len(got) != 0 {
			t.Errorf("the peer is gone: %v", got)
		}
	})
}
