package main

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/meshcrypt/meshcrypt/node"
)

// TestInsideRefuses: addresses with which a mesh would run and carry nothing.
func TestInsideRefuses(t *testing.T) {
	s := surroundings{
		inside: "eth1",
		networks: []netip.Prefix{
			netip.MustParsePrefix("10.20.0.0/24"), netip.MustParsePrefix("10.30.0.0/31"), netip.MustParsePrefix("fd20::/64"),
		},
		own: []netip.Addr{netip.MustParseAddr("10.20.0.1"), netip.MustParseAddr("10.20.0.7"), netip.MustParseAddr("192.0.2.1")},
	}
	for text, want := range map[string]string{
		"10.20.0.200": "", "10.30.0.0": "", "10.30.0.1": "", "fd20::200": "", "fd20::ffff:ffff:ffff:ffff": "",
		"10.20.1.200": "in no network of eth1 (10.20.0.0/24", "fd21::1": "in no network of eth1",
		"10.20.0.1": "this host's own", "10.20.0.7": "this host's own", "192.0.2.1": "this host's own",
		"10.20.0.0": "is no host's", "10.20.0.255": "is no host's", "fd20::": "is no host's",
	} {
		judge(t, text, want, s.checkMoving(netip.MustParseAddr(text)))
	}
	for text, want := range map[string]string{
		"10.77.0.0/16": "", "fd77::/64": "", "10.20.0.0/16": "overlaps with 10.20.0.0/24", "10.20.0.128/25": "overlaps", "fd20::/48": "overlaps",
	} {
		judge(t, text, want, s.checkPool([]netip.Prefix{netip.MustParsePrefix(text)}))
	}
	s.networks = []netip.Prefix{netip.MustParsePrefix("10.77.3.0/24")}
	judge(t, "the default", "overlaps", s.checkPool(nil))
}

func judge(t *testing.T, what, want string, err error) {
	t.Helper()
	if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
		t.Errorf("%s: %v, want %q", what, err, want)
	}
}

// TestInitAsksTheHost: init holds its addresses against the host that it runs on.
func TestInitAsksTheHost(t *testing.T) {
	lo := node.FoundConfig{Moving: []netip.Addr{netip.MustParseAddr("10.20.0.200")}}
	lo.Place.InsideIf = "lo"
	judge(t, "an address that lo does not have", "in no network of lo", checkInside(lo))
	lo.Place.Userspace = true
	judge(t, "without a TUN", "", checkInside(lo))
	for text, want := range map[string]string{
		"0.0.0.0:6484": "", "127.0.0.11:6484": "", "203.0.113.99:6484": "does not have that address",
	} {
		judge(t, text, want, checkListen(netip.MustParseAddrPort(text)))
	}
}
