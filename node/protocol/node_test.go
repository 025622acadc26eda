package protocol

import (
	"fmt"
	"net/netip"
	"testing"
)

// A node is reached by the families that the asker has, the node's first first;
// by all when they seem to have none in common.
func TestReachedFrom(t *testing.T) {
	four, six := netip.MustParseAddrPort("192.0.2.1:6484"), netip.MustParseAddrPort("[2001:db8::1]:6484")
	own4, own6 := netip.MustParseAddrPort("192.0.2.9:1"), netip.MustParseAddrPort("[2001:db8::9]:1")
	for name, c := range map[string]struct {
		row  NodeRow
		own  []netip.AddrPort
		want []netip.AddrPort
	}{
		"both from both":         {NodeRow{Outer: six, Other: four}, []netip.AddrPort{own4, own6}, []netip.AddrPort{six, four}},
		"both from IPv4":         {NodeRow{Outer: six, Other: four}, []netip.AddrPort{own4}, []netip.AddrPort{four}},
		"both from IPv6":         {NodeRow{Outer: four, Other: six}, []netip.AddrPort{own6}, []netip.AddrPort{six}},
		"one from both":          {NodeRow{Outer: four}, []netip.AddrPort{own6, own4}, []netip.AddrPort{four}},
		"nothing in common":      {NodeRow{Outer: four}, []netip.AddrPort{own6}, []netip.AddrPort{four}},
		"both, to a stranger":    {NodeRow{Outer: four, Other: six}, nil, []netip.AddrPort{four, six}},
		"nobody, whoever may be": {NodeRow{}, []netip.AddrPort{own4}, []netip.AddrPort{{}}},
	} {
		if got := c.row.ReachedFrom(c.own); fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
