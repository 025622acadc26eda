package host

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// state is all of the network of this host that is ours or could be: what a
// put-back has to bring back, without what counts or times it.
func state(t testing.TB) string {
	t.Helper()
	return run(t, `ip rule; ip -6 rule
		for table in main 6484; do ip route show table $table; ip -6 route show table $table; done | sort | grep -v fe80
		ip -br address show dev tun0 | tr " " "\n" | grep -v fe80; ip -br address show dev inside0
		nft -s list ruleset
		cd /proc/sys/net/ipv4/conf
		grep -H . */rp_filter */forwarding */send_redirects all/src_valid_mark
		cd /proc/sys/net/ipv6/conf
		grep -H . tun0/*forwarding inside0/*forwarding`)
}

// undoings are what other software does to a host that runs meshcrypt.
var undoings = []struct{ name, command string }{
	{"rules flushed", "ip rule flush; ip rule add pref 32766 lookup main; ip -6 rule flush; ip -6 rule add pref 32766 lookup main"},
	{"rules one by one", "ip rule del pref 16484 2>/dev/null || true; ip -6 rule del pref 16484 2>/dev/null || true"},
	{"blackholes", "for f in -4 -6; do for t in 254 6484; do ip $f route show type blackhole table $t | while read r; do ip $f route del $r table $t; done; done; done"},
	{"own table", "ip route flush table 6484 2>/dev/null || true; ip -6 route flush table 6484 2>/dev/null || true"},
	{"all of the protocol", "ip route flush proto 109 table all; ip -6 route flush proto 109 table all; true"},
	{"ruleset", "nft flush ruleset"},
	{"table of the fence", "nft delete table inet meshcrypt_client_fence 2>/dev/null || nft delete table inet meshcrypt_fence"},
	{"a rule in the fence", "for t in meshcrypt_client_fence meshcrypt_fence; do nft insert rule inet $t fence accept 2>/dev/null || true; done"},
	{"a set of the fence", "for t in meshcrypt_client_fence meshcrypt_fence; do nft flush set inet $t closed4 2>/dev/null || true; done"},
	{"addresses", "ip address flush dev tun0"},
	{"interface down and up", "ip link set tun0 down; ip link set tun0 up"},
	{"interface down", "ip link set tun0 down"},
	{"sysctl --system", "sysctl -qw net.ipv4.conf.all.src_valid_mark=0 net.ipv4.conf.tun0.rp_filter=1"},
	{"forwarding", "sysctl -qw net.ipv4.ip_forward=1; sysctl -qw net.ipv4.ip_forward=0"},
	{"replaced route", "if ip rule | grep -q 6484; then ip route replace 10.20.0.0/16 dev outside0 table 6484 metric 50; else ip route replace 10.99.0.0/16 dev outside0 metric 50; fi"},
	{"all at once", "nft flush ruleset; ip rule flush; ip rule add pref 32766 lookup main; ip route flush table 6484 2>/dev/null || true; ip address flush dev tun0"},
}

// TestPutsBack: whatever other software removes stands again within a second, as
// it stood before, on clients and on nodes.
func TestPutsBack(t *testing.T) {
	for _, r := range []role{roleClient, roleNode} {
		t.Run(string(r), func(t *testing.T) {
			if !isolate(t) {
				return
			}
			counts := standing(t, r)
			before := state(t)
			for _, u := range undoings {
				run(t, u.command)
				begin := time.Now()
				for more, less := "?", "?"; more+less != ""; {
					now := state(t)
					more, less = difference(now, before), difference(before, now)
					if more+less != "" && time.Since(begin) > putBackWithin {
						t.Fatalf("%s: after %v there is too much:\n%s\ntoo little:\n%s", u.name, putBackWithin, more, less)
					}
				}
				t.Logf("%s: %v, put back so far: %v", u.name, time.Since(begin).Round(time.Millisecond), counts())
			}
		})
	}
}

// putBackWithin is a second, and what a loaded machine takes to look at it.
const putBackWithin = 4 * time.Second

// standing makes a client or node that is up.
func standing(t *testing.T, r role) (counts func() map[string]uint64) {
	t.Helper()
	peer(t)
	// A host without rules of its own has a main rule alone, as the tests restore it.
	run(t, "ip rule del pref 32767; true")
	if r == roleClient {
		c := prepareClient(t, clientConfig(t.TempDir()))
		openTUN(t)
		if err := c.Up(); err != nil {
			t.Fatal(err)
		}
		return c.PutBack
	}
	c := nodeConfig(t.TempDir())
	c.Masquerade = true
	n := prepareNode(t, c)
	openTUN(t)
	if err := errors.Join(n.Up(), n.HoldAddress(netip.MustParseAddr("10.1.0.100")), n.HoldAddress(netip.MustParseAddr("fd01::100")),
		n.Hide(netip.MustParsePrefix("10.99.0.0/17"), netip.MustParseAddr("10.1.0.100"))); err != nil {
		t.Fatal(err)
	}
	return n.PutBack
}

// difference is the lines of a that b lacks.
func difference(a, b string) string {
	other := strings.Split(b, "\n")
	var all []string
	for line := range strings.SplitSeq(a, "\n") {
		if !slices.Contains(other, line) {
			all = append(all, line)
		}
	}
	return strings.Join(all, "\n")
}
