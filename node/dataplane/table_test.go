package dataplane

import (
	"net/netip"
	"testing"

	"github.com/meshcrypt/meshcrypt/crypto/esp"
	"github.com/meshcrypt/meshcrypt/mesh/link"
	"github.com/meshcrypt/meshcrypt/node/pages"
)

// TestRouteOfOwnPackets: what this host itself says goes the local way, all
// else by the routes.
func TestRouteOfOwnPackets(t *testing.T) {
	here, lease := netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("10.99.0.5")
	local, routed := &Route{}, &Route{Upward: []uint32{1}}
	table := &Table{Here: here, Local: pages.At(map[netip.Addr]*Route{lease: local}), Routes: pages.At(map[netip.Addr]*Route{lease: routed})}
	for _, c := range []struct {
		src, dst string
		want     *Route
	}{
		{"10.0.0.2", "10.99.0.5", local},
		{"10.0.0.3", "10.99.0.5", routed},
		{"10.0.0.2", "10.99.0.6", nil},
	} {
		in := &inner{src: netip.MustParseAddr(c.src), dst: netip.MustParseAddr(c.dst)}
		if got := table.route(in); got != c.want {
			t.Errorf("%s to %s goes by %+v", c.src, c.dst, got)
		}
	}
}

// TestPacketsForThisHostStayHere: what a client sends to its agent's own address ends
// there; all else goes to its egress.
func TestPacketsForThisHostStayHere(t *testing.T) {
	w, far, pair := agentSide(t)
	egress := newFakeSocket()
	pair.SetOnward(false, &Onward{SPI: 77, Socket: egress, Path: link.Path{Remote: addrPort("10.0.0.3:6486")}})
	table := *w.engine.table.Load()
	table.Here = netip.MustParseAddr("10.0.0.2")
	w.engine.Publish(&table)
	for dst, want := range map[string]Port{"10.0.0.2:80": PortTUN, "10.9.0.1:80": PortInside} {
		before := w.ledger.stats().Delivered
		feed(w, seal(t, far, NewTCP("10.1.0.2:1", dst, 1, Pattern(100)).Bytes(), esp.NextIPv4))
		before[want]++
		if got := w.ledger.stats().Delivered; got != before {
			t.Errorf("to %s: delivered %v, want %v", dst, got, before)
		}
	}
}
