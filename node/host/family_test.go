package host

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// A client on a host with IPv6 switched off for new interfaces uses what else it was
// given, and lets the rest leave by none of the old ones, which may have it still; a
// node that would need it says what to do.
func TestWithoutIPv6(t *testing.T) {
	if !isolate(t) {
		return
	}
	peer(t)
	if !HasIPv6() || !Unspecified().Is6() {
		t.Error("this host has IPv6, and it is not found")
	}
	run(t, "sysctl -qw net.ipv6.conf.default.disable_ipv6=1")
	if HasIPv6() || !Unspecified().Is4() {
		t.Error("IPv6 is switched off, and it is not found out")
	}
	if _, err := PrepareNode(nodeConfig(t.TempDir())); !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), "disable_ipv6=0") {
		t.Errorf("node: %v", err)
	}
	c, err := PrepareClient(clientConfig(t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	openTUN(t)
	if err := c.Up(); err != nil {
		t.Fatal(err)
	}
	contains(t, "ip route get 10.20.0.9", "dev tun0")
	contains(t, "ip -6 route show table all", "blackhole fd01::/32")
	if err := errors.Join(c.Update(clientConfig(t.TempDir()).Prefixes, nil), c.Close()); err != nil {
		t.Error(err)
	}
}

// What comes and goes, or is of the link alone, is not an address to be
// advertised.
func TestAddresses(t *testing.T) {
	if !isolate(t) {
		return
	}
	peer(t)
	run(t, `ip address add 2001:db8::2/64 dev outside0 nodad preferred_lft 0
		ip address add 2001:db8::3/64 dev outside0 nodad
		ip address add 198.51.100.9/24 dev outside0`) // a secondary one
	got, err := Addresses("outside0")
	if want := "[198.51.100.1/24 198.51.100.9/24 2001:db8::3/64]"; err != nil || fmt.Sprint(got) != want {
		t.Errorf("%v, %v, want %s", got, err, want)
	}
	if _, err := Addresses("nosuchdevice"); !errors.Is(err, ErrNoDevice) {
		t.Errorf("%v", err)
	}
}
