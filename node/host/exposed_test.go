package host

import (
	"net/netip"
	"testing"
)

// TestExposed: strangers reach the interface that has an address where the host is
// reached, and, behind a NAT that has that address, the one that leads outside.
func TestExposed(t *testing.T) {
	if !isolate(t) {
		return
	}
	peer(t)
	for _, c := range []struct {
		inside string
		outers []string
		want   bool
	}{
		{"inside0", []string{"198.51.100.1"}, false},
		{"inside0", []string{"198.51.100.1", "203.0.113.8"}, false},
		{"outside0", []string{"198.51.100.1"}, true},
		{"outside0", []string{"203.0.113.7"}, true}, // behind a NAT
		{"inside0", []string{"203.0.113.7"}, false},
		{"inside0", []string{"198.51.100.1", "fd01::1"}, true}, // reached in IPv6 by the inside
		{"", []string{"198.51.100.1"}, true},
	} {
		var outers []netip.Addr
		for _, a := range c.outers {
			outers = append(outers, netip.MustParseAddr(a))
		}
		if got, err := Exposed(c.inside, outers); err != nil || got != c.want {
			t.Errorf("%q reached at %v: %v, %v", c.inside, c.outers, got, err)
		}
	}
	run(t, "ip route del default; ip -6 route add default dev inside0")
	if got, err := Exposed("inside0", []netip.Addr{netip.MustParseAddr("203.0.113.7")}); err != nil || !got {
		t.Errorf("outside is by way of inside0, in IPv6: %v, %v", got, err)
	}
	if _, err := Exposed("nowhere0", nil); err == nil {
		t.Error("an interface that is not there is judged")
	}
}
