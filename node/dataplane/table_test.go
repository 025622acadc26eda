package dataplane

import (
	"net/netip"
	"testing"
)

// TestRouteOfOwnPackets: what this host itself says goes the local way, all
// else by the routes.
func TestRouteOfOwnPackets(t *testing.T) {
	here, lease := netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("10.99.0.5")
	local, routed := &Route{}, &Route{Upward: []uint32{1}}
	table := &Table{Here: here, Local: map[netip.Addr]*Route{lease: local}, Routes: map[netip.Addr]*Route{lease: routed}}
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
