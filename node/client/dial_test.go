package client

import (
	"net/netip"
	"testing"
)

var (
	way4 = netip.MustParseAddrPort("192.0.2.1:6484")
	way6 = netip.MustParseAddrPort("[2001:db8::1]:6484")
)

// TestWays: two at most, whatever the list.
func TestWays(t *testing.T) {
	next4, next6 := netip.MustParseAddrPort("192.0.2.2:6484"), netip.MustParseAddrPort("[2001:db8::2]:6484")
	g := gatewayList{all: []netip.AddrPort{way4, way6, next4, next6}}
	for way, other := range map[netip.AddrPort]netip.AddrPort{way4: way6, way6: next4, next4: next6, next6: way4} {
		if got := g.ways(way); len(got) != 2 || got[0] != way || got[1] != other {
			t.Errorf("beside %v: %v, want %v", way, got, other)
		}
	}
	if got := (&gatewayList{all: []netip.AddrPort{way4, next4}}).ways(next4); len(got) != 1 {
		t.Errorf("one family: %v", got)
	}
}

// TestFamiliesTakeTurns: the way that let us in is followed by its like, and that
// by the other family, however many there are of each.
func TestFamiliesTakeTurns(t *testing.T) {
	var pushed []netip.AddrPort
	for i := range uint16(5) {
		pushed = append(pushed, netip.AddrPortFrom(way4.Addr(), i+1), netip.AddrPortFrom(way6.Addr(), i+1))
	}
	g := gatewayList{all: []netip.AddrPort{way4}}
	g.replace(pushed, pushed[7]) // the fourth of IPv6
	for i, want := range []int{7, 9, 8, 1, 0, 3, 2, 5, 4, 6, 7} {
		if got := g.at(g.current + i); got != pushed[want] {
			t.Errorf("%d: %v, want %v", i, got, pushed[want])
		}
	}
	g.replace(pushed[:3], netip.MustParseAddrPort("192.0.2.9:9")) // not among them
	if got := g.at(g.current); got != pushed[0] {
		t.Errorf("instead of one that is gone: %v", got)
	}
}
