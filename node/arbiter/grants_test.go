package arbiter

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
)

// TestDirectGrant: where policy lets clients go straight to an agent, its grant
// names the agent's own addresses in the gateways' place.
func TestDirectGrant(t *testing.T) {
	f := newFixture(t)
	a := f.still()
	n := f.member(a, "n2", dataRoles)
	own := []netip.AddrPort{netip.MustParseAddrPort("192.0.2.77:6484"), netip.MustParseAddrPort("[2001:db8::77]:6484")}
	f.store.View(func(s *registry.State) {
		s.Nodes[n.node].Outer, s.Nodes[n.node].Other = own[0], own[1]
	})
	live := f.session(a, 1, n.node)
	for _, direct := range []bool{false, true} {
		f.commit(registry.Command{PutPolicy: &registry.PutPolicy{Policy: registry.Policy{Direct: direct}}})
		g, said, ok := a.grant(live.ID, live.Slices[0])
		if named := slices.Equal(g.Gateways, own); !ok || said != direct || named != direct {
			t.Errorf("policy %v: said %v, gateways %v", direct, said, g.Gateways)
		}
	}
}
