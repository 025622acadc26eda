package agent

import (
	"net/netip"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/mka"
	"github.com/meshcrypt/meshcrypt/node/probe"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// TestOpenedPacketsGoOn: straight where the path test proves it, through the
// lease's egress otherwise, and always there where the mesh masquerades.
func TestOpenedPacketsGoOn(t *testing.T) {
	const long = (ProbeMisses + 2) * TickEvery
	egress, second, lease6 := inside(2), inside(3), netip.MustParseAddr("fd77::10")
	for _, c := range []struct {
		name string
		kind registry.EgressKind
		play func(*fixture)
		want any // an address, or nil for the TUN
	}{
		{"the path is not tested yet", registry.EgressRouted, func(*fixture) {}, egress},
		{"the path is proven", registry.EgressRouted, (*fixture).proven, nil},
		{"masqueraded, the path is proven", registry.EgressMasquerade, (*fixture).proven, egress},
		{"the path is broken", registry.EgressRouted, func(f *fixture) {
			f.proven()
			f.pass(PathSettle+(PathMisses+10)*TickEvery, 2, 3)
		}, egress},
		{"the egress is silent, its second is heard", registry.EgressMasquerade, func(f *fixture) {
			f.pass(time.Second, 2, 3)
			f.pass(long, 3)
		}, second},
		{"all are silent", registry.EgressMasquerade, func(f *fixture) {
			f.pass(time.Second, 2, 3)
			f.pass(long)
		}, egress},
		{"this node is the egress", registry.EgressMasquerade, func(f *fixture) {
			f.hear(&protocol.Node{View: &protocol.View{Parts: []registry.Part{f.part(4, f.self(), idOf(3))}}})
		}, nil},
		{"this node is no member of any part's", registry.EgressRouted, func(f *fixture) {
			f.hear(&protocol.Node{View: &protocol.View{Parts: []registry.Part{f.part(4, idOf(9), idOf(3))}}})
		}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFixture(t)
			f.obey(5)
			v := f.view(3)
			v.Egress = c.kind
			v.Parts = []registry.Part{f.part(3, idOf(2), idOf(3))}
			f.hear(&protocol.Node{View: v})
			f.tick()
			f.pump()
			customer := f.customer(f.offered()[0], func(g *mka.Grant) { g.Leases = append(g.Leases, lease6) }).up()
			c.play(f)
			f.publishIfDirty()
			pair := f.slices.byKey[customer.sliceKey()].pair
			for _, v6 := range []bool{false, true} {
				var got any
				if to := pair.Onward(v6); to != nil {
					got = to.Path.Remote.Addr()
					if to.SPI != customer.grant.SPI || to.Path.Remote.Port() != inPort {
						t.Errorf("handed on as %+v", to)
					}
				}
				if got != c.want {
					t.Errorf("opened packets, of IPv6 %v, go to %v, want %v", v6, got, c.want)
				}
			}
		})
	}
}

// proven has a path test come out, by a node that is heard.
func (f *fixture) proven() {
	f.pass(TickEvery, 2)
	f.pass(TickEvery, 2)
	f.answer(2, probe.TypePath)
}
