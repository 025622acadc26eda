package agent

import (
	"net/netip"
	"testing"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

func network(text string) []netip.Prefix { return []netip.Prefix{netip.MustParsePrefix(text)} }

// ruled is a view of an arbiter that says what clients may reach.
func (f *fixture) ruled(rows ...protocol.RuleRow) *protocol.View {
	v := f.view(3)
	v.Judges, v.Rules = true, rows
	v.Policy = &registry.Policy{Headless: 900, Prefixes: network("10.20.0.0/24")}
	return v
}

// may says which of some addresses the customer's pair admits.
func (c *customer) may(all ...string) (yes []string) {
	rule := c.slices.byKey[c.sliceKey()].pair.Rule()
	for _, a := range all {
		if rule.Admits(netip.MustParseAddr(a)) {
			yes = append(yes, a)
		}
	}
	return yes
}

func (c *customer) wantMay(what string, want ...string) {
	c.Helper()
	got := c.may("10.20.0.100", "10.20.0.101", "10.0.0.2", "10.0.0.3", "192.0.2.1", "127.0.0.1")
	if len(got) != len(want) {
		c.Fatalf("%s: %v, want %v", what, got, want)
	}
	for i := range got {
		if got[i] != want[i] {
			c.Errorf("%s: %v, want %v", what, got, want)
		}
	}
}

// TestRulesFollowTheArbiter: a slice lives by its client's networks from the
// grant on, and every later word counts at once, for the slice, for the route of
// an egress and for the host's stack.
func TestRulesFollowTheArbiter(t *testing.T) {
	f := newFixture(t)
	f.obey(5)
	f.hear(&protocol.Node{View: f.ruled()})
	c := f.customer(f.offered()[0], nil)
	id := registry.SessionID(c.grant.Session)
	row := protocol.RuleRow{Session: id, Client: "ann", Prefixes: network("10.20.0.100/32")}
	granted := row
	c.rule = &granted
	c.keyed()
	c.wantMay("by the grant", "10.20.0.100")
	lacks := f.ruled()
	lacks.Slices = []protocol.SliceRef{c.sliceKey().ref()}
	f.hear(&protocol.Node{View: lacks})
	c.wantMay("by the grant, under a view that lacks the client", "10.20.0.100")
	hear := func(v *protocol.View) { f.hear(&protocol.Node{View: v}) }
	row.Prefixes = network("10.20.0.101/32")
	hear(&protocol.View{Rules: []protocol.RuleRow{row}})
	c.wantMay("other networks", "10.20.0.101")
	row.Prefixes = nil
	hear(&protocol.View{Rules: []protocol.RuleRow{row}})
	c.wantMay("what is pushed to all", "10.20.0.100", "10.20.0.101")
	hear(&protocol.View{Policy: &registry.Policy{Headless: 900, Prefixes: network("0.0.0.0/0")}})
	c.wantMay("everything is pushed", "10.20.0.100", "10.20.0.101", "10.0.0.2", "10.0.0.3", "192.0.2.1")
	f.do(ownAddresses{netip.MustParseAddr("192.0.2.1")})
	c.wantMay("an address came", "10.20.0.100", "10.20.0.101", "10.0.0.2", "10.0.0.3")
	f.do(ownAddresses{})
	c.wantMay("and went", "10.20.0.100", "10.20.0.101", "10.0.0.2", "10.0.0.3", "192.0.2.1")
	row.Peer = idOf(2)
	hear(&protocol.View{Rules: []protocol.RuleRow{row}, Routes: []protocol.RouteRow{{Session: id, Leases: c.grant.Leases}}})
	c.wantMay("a peer", "10.0.0.2")
	rule := c.slices.byKey[c.sliceKey()].pair.Rule()
	if got := f.engineTable().Routes.Get(c.grant.Leases[0]).Rule; got != rule || f.host.reach.Get(c.grant.Leases[0]) != rule {
		t.Error("the route, or the host's stack, has another rule than the slice")
	}
	hear(&protocol.View{Nodes: []protocol.NodeRow{{Index: 2, Removed: true}}})
	c.wantMay("a peer that is gone")
}

// TestUnknownClientReachesNothing: a grant without a word about its client is
// held to nothing, and one of an arbiter from before there were rules as then.
func TestUnknownClientReachesNothing(t *testing.T) {
	f := newFixture(t)
	f.obey(5)
	f.hear(&protocol.Node{View: f.ruled()})
	c := f.customer(f.offered()[0], nil).keyed()
	c.wantMay("unknown")
	if f.rules.unsaid {
		t.Error("an arbiter that judges is taken for one that does not")
	}
	v := f.view(3)
	v.Slices = []protocol.SliceRef{c.sliceKey().ref()}
	v.Policy = &registry.Policy{Headless: 900, Prefixes: network("10.20.0.100/32")}
	f.hear(&protocol.Node{View: v})
	c.wantMay("as before", "10.20.0.100", "10.20.0.101", "10.0.0.2", "10.0.0.3", "192.0.2.1", "127.0.0.1")
	lease := c.grant.Leases[0]
	if !f.rules.unsaid {
		t.Error("nobody says that clients are not held to anything")
	}
	if rule := f.host.reach.Get(lease); rule.Admits(netip.MustParseAddr("10.20.0.101")) || !rule.Admits(netip.MustParseAddr("10.20.0.100")) {
		t.Error("a stack in the process does not judge by what is pushed, as it did")
	}
}

// TestFullViewForgets: what a view that says everything does not say is so no longer: it
// was taken back while this node had no stream.
func TestFullViewForgets(t *testing.T) {
	f := newFixture(t)
	f.obey(5)
	f.hear(&protocol.Node{View: f.ruled()})
	c := f.customer(f.offered()[0], nil).keyed()
	told := f.ruled(protocol.RuleRow{Session: registry.SessionID(c.grant.Session), Client: "ann", Prefixes: network("10.20.0.100/32")})
	told.Slices = []protocol.SliceRef{c.sliceKey().ref()}
	f.hear(&protocol.Node{View: told})
	c.wantMay("as told", "10.20.0.100")
	silent := f.ruled()
	silent.Slices = told.Slices
	f.hear(&protocol.Node{View: silent})
	c.wantMay("told no more")
}

// TestReachIsOfTheNewestSession: a device that logged in again has its lease still,
// and a slice of its earlier session may live on here for a while. What that one
// might reach counts for its own packets only.
func TestReachIsOfTheNewestSession(t *testing.T) {
	f := newFixture(t)
	f.obey(5)
	f.hear(&protocol.Node{View: f.ruled()})
	c := f.customer(f.offered()[0], nil).keyed()
	older, newer := registry.SessionID(c.grant.Session), registry.SessionID{99}
	f.hear(&protocol.Node{View: &protocol.View{
		Rules: []protocol.RuleRow{
			{Session: older, Client: "ann", Prefixes: network("10.20.0.0/24")},
			{Session: newer, Client: "ann", Peer: idOf(2)},
		},
		Routes: []protocol.RouteRow{{Session: newer, Leases: c.grant.Leases}},
	}})
	c.wantMay("the older session's slice", "10.20.0.100", "10.20.0.101")
	lease, denied := c.grant.Leases[0], netip.MustParseAddr("10.20.0.100")
	if f.engineTable().Routes.Get(lease).Rule.Admits(denied) || f.host.reach.Get(lease).Admits(denied) {
		t.Error("the route, or the host's stack, admits what only the older session may reach")
	}
}
