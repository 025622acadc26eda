package host

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// TestObstacles: each thing that real hosts have is named only where it is in
// the way, with a command that takes it out of the way.
func TestObstacles(t *testing.T) {
	const base = "nft 'add table inet fw; add chain inet fw f { type filter hook forward priority 10; policy drop; }'; "
	six, named := "net.ipv6.conf.inside0.force_forwarding", "inside0/force_forwarding=1"
	if !hasForceForwarding() {
		six, named = "net.ipv6.conf.all.forwarding", "all/forwarding=1"
	}
	for _, c := range []struct {
		name, setup string
		named       []string // words of each obstacle found
	}{
		{"nothing", "true", nil},
		{"drops the invalid", "nft 'add table ip fw; add chain ip fw f { type filter hook forward priority 0; }; add rule ip fw f ct state invalid drop'", nil},
		{"policy drop", base, []string{"from tun0 to inside0", "from inside0 to tun0"}},
		{"policy drop, all accepted", base + "nft add rule inet fw f accept", nil},
		{"policy drop, one way accepted", base + "nft add rule inet fw f iifname tun0 accept", []string{"from inside0 to tun0"}},
		{"policy drop, both ways by a star", base + "nft 'add rule inet fw f iifname \"tun*\" accept; add rule inet fw f oifname \"tun*\" counter accept'", nil},
		{"policy drop, the established accepted", base + "nft 'add rule inet fw f ct state established,related accept'", []string{"from tun0", "from inside0"}},
		{"policy drop, some ports accepted", base + "nft 'add rule inet fw f tcp dport 22 accept'", nil},
		{"rejected from a jump", base + "nft 'add rule inet fw f iifname != \"tun0\" accept; add chain inet fw deny; add rule inet fw deny reject; add rule inet fw f jump deny'", []string{"from tun0"}},
		{"returned from a jump", base + "nft 'add chain inet fw maybe; add rule inet fw maybe iifname tun0 return; add rule inet fw maybe accept; add rule inet fw f jump maybe'", []string{"from tun0"}},
		{"a jump that goes round", base + "nft 'add chain inet fw on; add rule inet fw f goto on; add rule inet fw on meta mark 7 accept'", nil},
		{"strict reverse path filter", "sysctl -qw net.ipv4.conf.inside0.rp_filter=1 net.ipv4.conf.all.rp_filter=1", []string{"inside0/rp_filter=2"}},
		{"strict for all, loose here", "sysctl -qw net.ipv4.conf.all.rp_filter=1", nil},
		{"forwarding off", "sysctl -qw net.ipv4.conf.inside0.forwarding=0", []string{"inside0/forwarding=1"}},
		{"IPv6 forwarding off", "sysctl -qw " + six + "=0", []string{named}},
		{"another VPN's table first", "ip rule add pref 5270 lookup 52; ip route add 10.0.0.0/8 dev outside0 table 52",
			[]string{"10.99.0.0/16 leave by outside0", "10.1.0.0/24 leave by outside0"}},
		{"another VPN's default", "ip rule add pref 5270 lookup main suppress_prefixlength 0; ip rule add pref 5271 lookup 52; ip route add default dev outside0 table 52", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			if !isolate(t) {
				return
			}
			peer(t)
			n := prepareNode(t, nodeConfig(t.TempDir()))
			openTUN(t)
			if err := n.Up(); err != nil {
				t.Fatal(err)
			}
			n.stand.watch.end() // it would put some of it back
			run(t, c.setup)
			look := func() []string { return n.Obstacles([]netip.Addr{netip.MustParseAddr("10.1.0.2")}) }
			found := look()
			t.Logf("%q", found)
			if len(found) != len(c.named) {
				t.Fatalf("found %q, want %d", found, len(c.named))
			}
			for i, words := range c.named {
				if !slices.ContainsFunc(found, func(o string) bool { return strings.Contains(o, words) }) {
					t.Errorf("%d: no %q in %q", i, words, found)
				}
			}
			for _, o := range found {
				_, command, ok := strings.Cut(o, "run `")
				command, ok2 := strings.CutSuffix(command, "`")
				if !ok || !ok2 {
					t.Fatalf("no command in %q", o)
				}
				run(t, command)
			}
			if left := look(); len(left) > 0 {
				t.Errorf("left after its own advice: %q", left)
			}
		})
	}
}

// TestMasqueradeObstacles: connections are tracked there, so what their state
// decides is not known beforehand.
func TestObstaclesOfMasquerade(t *testing.T) {
	if !isolate(t) {
		return
	}
	peer(t)
	c := nodeConfig(t.TempDir())
	c.Masquerade = true
	n := prepareNode(t, c)
	openTUN(t)
	if err := n.Up(); err != nil {
		t.Fatal(err)
	}
	run(t, `nft 'add table inet fw; add chain inet fw f { type filter hook forward priority 0; policy drop; }
		add rule inet fw f ct state established,related accept'`)
	if found := n.Obstacles(nil); len(found) != 0 {
		t.Errorf("found %q", found)
	}
	if err := n.Close(false); err != nil {
		t.Fatal(err)
	}
}
