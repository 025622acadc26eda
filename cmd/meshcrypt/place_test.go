package main

import (
	"net/netip"
	"strings"
	"testing"
)

// A host advertises what it says, or where it listens; never two addresses of
// one family.
func TestOuters(t *testing.T) {
	for _, c := range []struct {
		listen       string
		advertise    []string
		outer, other string // "" is none; a "!" begins what the error must say
	}{
		{"192.0.2.1:6484", nil, "192.0.2.1:6484", ""},
		{"[2001:db8::1]:7000", nil, "[2001:db8::1]:7000", ""},
		{"[::]:7000", []string{"192.0.2.1"}, "192.0.2.1:7000", ""},
		{"[::]:7000", []string{"2001:db8::1", "192.0.2.1:1"}, "[2001:db8::1]:7000", "192.0.2.1:1"},
		{"[::]:7000", []string{"192.0.2.1", "192.0.2.2"}, "!one family", ""},
		{"[::]:7000", []string{"192.0.2.1", "2001:db8::1", "192.0.2.2"}, "!one of each family", ""},
		{"[::]:7000", []string{"here"}, "!no IP address", ""},
	} {
		flags := placeFlags{advertise: c.advertise}
		outer, other, err := flags.outers(netip.MustParseAddrPort(c.listen))
		if want, fails := strings.CutPrefix(c.outer, "!"); fails {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s, %v: %v", c.listen, c.advertise, err)
			}
			continue
		}
		said := ""
		if other.IsValid() {
			said = other.String()
		}
		if err != nil || outer.String() != c.outer || said != c.other {
			t.Errorf("%s, %v: %v and %v, %v", c.listen, c.advertise, outer, other, err)
		}
	}
}

// What is pushed without being asked for is what replies come back from.
func TestAnswering(t *testing.T) {
	for _, c := range []struct {
		moving []string
		want   string
	}{
		{nil, "10.20.0.0/24,fd20::/64"},
		{[]string{"10.20.0.200"}, "10.20.0.0/24"},
		{[]string{"fd20::200"}, "fd20::/64"},
		{[]string{"fd20::200", "10.20.0.200"}, "10.20.0.0/24,fd20::/64"},
	} {
		moving, err := addresses("--inside-address", c.moving)
		if err != nil {
			t.Fatal(err)
		}
		networks := []netip.Prefix{netip.MustParsePrefix("10.20.0.0/24"), netip.MustParsePrefix("fd20::/64")}
		if got := words(answering(networks, moving)); got != c.want {
			t.Errorf("%v: %s, want %s", c.moving, got, c.want)
		}
	}
}

// A host with one leg need not name it: what is inside is where it is reached.
func TestInsideOfOneLeg(t *testing.T) {
	legs := []leg{
		{"lo", nil},
		{"eth0", []netip.Prefix{netip.MustParsePrefix("192.0.2.1/24"), netip.MustParsePrefix("2001:db8::1/64")}},
		{"eth1", []netip.Prefix{netip.MustParsePrefix("10.20.0.1/24")}},
	}
	for _, c := range []struct{ outer, want string }{
		{"192.0.2.1", "eth0"}, {"2001:db8::1", "eth0"}, {"10.20.0.1", "eth1"},
		{"198.51.100.1", "eth0"}, // behind a NAT
	} {
		if got := legOf(legs, netip.MustParseAddr(c.outer)); got != c.want {
			t.Errorf("reached at %s: %q, want %s", c.outer, got, c.want)
		}
	}
	if got := legOf(legs[:1], netip.MustParseAddr("192.0.2.1")); got != "" {
		t.Errorf("a host without addresses: %q", got)
	}
	named, without := placeFlags{insideIf: "eth7"}, placeFlags{userspace: true}
	for want, flags := range map[string]placeFlags{"eth7": named, "": without} {
		if got, err := flags.insideInterface(netip.MustParseAddr("192.0.2.1")); err != nil || got != want {
			t.Errorf("%+v: %q, %v", flags, got, err)
		}
	}
}
