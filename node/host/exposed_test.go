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
	run(t, "ip -6 route del default")
	outers := []netip.Addr{netip.MustParseAddr("203.0.113.7")}
	for _, c := range []struct{ change, undo, what string }{
		{"ip route add default via 10.1.0.2 table 77", "ip route flush table 77", "a default route of another table"},
		{"ip route add 128.0.0.0/1 via 10.1.0.2", "ip route del 128.0.0.0/1", "one half of a default route"},
		{"ip address add 203.0.113.9/24 dev inside0", "ip address del 203.0.113.9/24 dev inside0", "a public address"},
		{"ip address add 2001:db8::9/64 dev inside0 nodad", "ip address del 2001:db8::9/64 dev inside0", "a public address of IPv6"},
	} {
		run(t, c.change)
		if got, err := Exposed("inside0", outers); err != nil || !got {
			t.Errorf("%s on the inside: %v, %v", c.what, got, err)
		}
		run(t, c.undo)
		if got, err := Exposed("inside0", outers); err != nil || got {
			t.Errorf("%s on the inside no more: %v, %v", c.what, got, err)
		}
	}
	if _, err := Exposed("nowhere0", nil); err == nil {
		t.Error("an interface that is not there is judged")
	}
}
