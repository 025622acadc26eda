package host

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func prepareNode(t *testing.T, c NodeConfig) *Node {
	t.Helper()
	n, err := PrepareNode(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Close(false) })
	return n
}

// I4: before the TUN interface exists the pool is a blackhole already.
func TestNodeFailsClosedBeforeTUN(t *testing.T) {
	if !isolate(t) {
		return
	}
	peer(t)
	contains(t, "ip route get 10.99.1.1", "outside0") // the leak it prevents
	prepareNode(t, nodeConfig(t.TempDir()))
	fails(t, "ip route get 10.99.1.1")
	fails(t, "ip -6 route get fd99::5")
	contains(t, "ip route show proto 109", "blackhole 10.99.0.0/16")
	contains(t, "ip route show proto 109", "metric 4294967295")
}

func TestNodeUpAndClose(t *testing.T) {
	if !isolate(t) {
		return
	}
	peer(t)
	run(t, `sysctl -qw net.ipv4.conf.all.rp_filter=1 net.ipv4.conf.inside0.rp_filter=1 \
		net.ipv4.conf.inside0.send_redirects=1 net.ipv4.conf.all.send_redirects=1`)
	c := nodeConfig(t.TempDir())
	n := prepareNode(t, c)
	openTUN(t)
	if err := errors.Join(n.Up(), n.Up()); err != nil {
		t.Fatal(err)
	}
	contains(t, "ip route get 10.99.1.1", "dev tun0")
	contains(t, "ip -6 route get fd99::5", "dev tun0")
	contains(t, "ip route get 198.51.100.9", "outside0")
	contains(t, "ip route get 10.1.0.2 from 10.99.1.1 iif tun0", "dev inside0")
	fails(t, "ip route get 203.0.113.1 from 198.51.100.9 iif outside0") // not forwarded
	sysctl(t, "ipv4/conf/inside0/rp_filter=2", "ipv4/conf/tun0/rp_filter=2",
		"ipv4/conf/inside0/forwarding=1", "ipv4/conf/tun0/forwarding=1",
		"ipv4/conf/all/send_redirects=0", "ipv4/conf/inside0/send_redirects=0",
		"ipv4/conf/all/rp_filter=1", "ipv4/ip_forward=0")
	contains(t, "nft list table inet meshcrypt", `iifname "tun0" oifname "inside0" ip saddr 10.99.0.0/16 accept`)
	contains(t, "nft list table inet meshcrypt", "udp dport 6484 notrack")
	contains(t, "nft list table inet meshcrypt", "ip6 daddr fd99::/64 notrack")

	if err := n.Close(false); err != nil {
		t.Fatal(err)
	}
	sysctl(t, "ipv4/conf/inside0/rp_filter=1", "ipv4/conf/inside0/forwarding=0",
		"ipv4/conf/all/send_redirects=1", "ipv4/conf/inside0/send_redirects=1")
	lacks(t, "ip route; ip -6 route", "proto 109")
	lacks(t, "nft list tables", "meshcrypt")
	if _, err := os.Stat(c.StateFile); !os.IsNotExist(err) {
		t.Errorf("the state file stayed: %v", err)
	}
	if err := n.Up(); !errors.Is(err, ErrClosed) {
		t.Errorf("Up after Close: %v", err)
	}
}

func TestNodeCloseKeepsBlackhole(t *testing.T) {
	if !isolate(t) {
		return
	}
	peer(t)
	c := nodeConfig(t.TempDir())
	n := prepareNode(t, c)
	openTUN(t)
	if err := errors.Join(n.Up(), n.Close(true), n.Close(false)); err != nil {
		t.Fatal(err)
	}
	fails(t, "ip route get 10.99.1.1")
	fails(t, "ip -6 route get fd99::5")
	sysctl(t, "ipv4/conf/inside0/forwarding=0")
	if err := Restore(c.StateFile); err != nil {
		t.Fatal(err)
	}
	contains(t, "ip route get 10.99.1.1", "outside0")
}

// TestCloseWithoutRoomForTheFile: the settings are back, and that counts.
func TestCloseWithoutRoomForTheFile(t *testing.T) {
	if !isolate(t) {
		return
	}
	peer(t)
	run(t, "sysctl -qw net.ipv4.conf.inside0.rp_filter=1")
	var said strings.Builder
	c := nodeConfig(filepath.Join(t.TempDir(), "data"))
	c.Log = slog.New(slog.NewTextHandler(&said, nil))
	if err := os.Mkdir(filepath.Dir(c.StateFile), 0o700); err != nil {
		t.Fatal(err)
	}
	n := prepareNode(t, c)
	openTUN(t)
	sysctl(t, "ipv4/conf/inside0/rp_filter=2")
	if err := errors.Join(n.Up(), os.RemoveAll(filepath.Dir(c.StateFile)), n.Close(true)); err != nil {
		t.Fatal(err)
	}
	sysctl(t, "ipv4/conf/inside0/rp_filter=1")
	if strings.Count(said.String(), "\n") != 1 || !strings.Contains(said.String(), "settings are back") {
		t.Errorf("the log says %q", said.String())
	}
}

// I4 after kill -9; then either a new start takes over or Restore cleans up.
func TestNodeKilled(t *testing.T) {
	if !isolate(t) {
		return
	}
	peer(t)
	run(t, "sysctl -qw net.ipv4.conf.inside0.rp_filter=1")
	dir := t.TempDir()
	c := nodeConfig(dir)
	kill := killed(t, "node", dir)
	contains(t, "ip route get 10.99.1.1", "dev tun0")
	contains(t, "ip address show", "10.1.0.100/32")
	kill()
	fails(t, "ip route get 10.99.1.1")
	fails(t, "ip -6 route get fd99::5")
	lacks(t, "ip address show", "10.1.0.100")
	sysctl(t, "ipv4/conf/inside0/rp_filter=2")

	c.Pool = c.Pool[:1] // restarted with a smaller pool
	n := prepareNode(t, c)
	fails(t, "ip route get 10.99.1.1")
	contains(t, "ip -6 route show proto 109; echo empty", "empty")
	lacks(t, "ip -6 route show proto 109", "fd99")
	if err := n.Close(false); err != nil {
		t.Fatal(err)
	}
	sysctl(t, "ipv4/conf/inside0/rp_filter=1")

	killed(t, "node", dir)()
	if err := errors.Join(Restore(c.StateFile), Restore(c.StateFile)); err != nil {
		t.Fatal(err)
	}
	sysctl(t, "ipv4/conf/inside0/rp_filter=1", "ipv4/conf/inside0/forwarding=0")
	lacks(t, "ip route; ip -6 route; nft list tables", "meshcrypt")
	lacks(t, "ip route; ip -6 route", "proto 109")
}

func TestHoldAddress(t *testing.T) {
	if !isolate(t) {
		return
	}
	enter := peer(t)
	held := netip.MustParseAddr("10.1.0.100")
	n := prepareNode(t, nodeConfig(t.TempDir()))
	if err := n.HoldAddress(held); !errors.Is(err, ErrNoDevice) {
		t.Errorf("without a TUN: %v", err)
	}
	d := openTUN(t)
	if err := n.Up(); err != nil {
		t.Fatal(err)
	}
	// The neighbour still sends to the host that held it before.
	run(t, enter+"ip neigh replace 10.1.0.100 lladdr 02:00:00:00:00:99 dev inside0 nud stale")
	if err := errors.Join(n.HoldAddress(held), n.HoldAddress(held)); err != nil {
		t.Fatal(err)
	}
	mac := strings.Fields(run(t, "cat /sys/class/net/inside0/address || ip -o link show inside0"))
	for tries := 0; ; tries++ {
		if out := run(t, enter+"ip neigh show 10.1.0.100"); !strings.Contains(out, "02:00:00:00:00:99") {
			break
		} else if tries > 200 {
			t.Fatalf("the neighbour was not told: %s; our MAC is %v", out, mac)
		}
	}
	run(t, enter+"ping -c 1 -W 5 10.1.0.100")
	// Another host took it over by mistake, told the neighbour, and is gone.
	run(t, "sleep 2") // longer than what is told at first
	run(t, enter+"ip neigh replace 10.1.0.100 lladdr 02:00:00:00:00:99 dev inside0 nud stale")
	eventually(t, "the neighbour is told again", func() error {
		if out := run(t, enter+"ip neigh show 10.1.0.100"); strings.Contains(out, "02:00:00:00:00:99") {
			return fmt.Errorf("it still has %q", out)
		}
		return nil
	})
	if err := errors.Join(n.ReleaseAddress(held), n.ReleaseAddress(held)); err != nil {
		t.Fatal(err)
	}
	lacks(t, "ip address show", "10.1.0.100")
	// The pool's route must outlive the moving address: without another address
	// on the TUN the kernel would have dropped it.
	if out := run(t, "ip route show 10.99.0.0/16"); !strings.Contains(out, "dev tun0") {
		t.Errorf("the pool's route went with the moving address: %s", out)
	}
	if err := n.HoldAddress(held); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	lacks(t, "ip address show", "10.1.0.100")
	if err := n.ReleaseAddress(held); err != nil {
		t.Errorf("release after the TUN has gone: %v", err)
	}
}

// At the limit (I10).
func TestHeldAddressesAreBounded(t *testing.T) {
	if !isolate(t) {
		return
	}
	peer(t)
	n := prepareNode(t, nodeConfig(t.TempDir()))
	openTUN(t)
	a := netip.MustParseAddr("10.1.0.100")
	for range MaxHeld {
		if err := n.HoldAddress(a); err != nil {
			t.Fatal(err)
		}
		a = a.Next()
	}
	if err := n.HoldAddress(a); !errors.Is(err, ErrConfig) {
		t.Errorf("one more than %d: %v", MaxHeld, err)
	}
}

func TestNodeMasquerade(t *testing.T) {
	if !isolate(t) {
		return
	}
	peer(t)
	c := nodeConfig(t.TempDir())
	c.Masquerade = true
	c.PathTest = []netip.Addr{netip.MustParseAddr("10.99.0.1")}
	run(t, "nft add table ip first; sysctl -qw net.netfilter.nf_conntrack_events=2")
	n := prepareNode(t, c)
	const list = "nft list table inet meshcrypt"
	contains(t, list, `oifname "inside0" ip saddr 10.99.0.0/16 masquerade`)
	contains(t, list, "ip saddr 10.99.0.1 accept")
	lacks(t, "nft list chain inet meshcrypt untracked_in", "10.99.0.0")
	sysctl(t, "netfilter/nf_conntrack_events=1")

	part, behind := netip.MustParsePrefix("10.99.0.0/17"), netip.MustParseAddr("10.1.0.100")
	six, behind6 := netip.MustParsePrefix("fd99::/64"), netip.MustParseAddr("fd01::100")
	if err := errors.Join(n.Hide(part, behind), n.Hide(part, behind), n.Hide(six, behind6)); err != nil {
		t.Fatal(err)
	}
	for _, rule := range []string{
		`oifname "inside0" ip saddr 10.99.0.0/17 snat ip to 10.1.0.100`,
		`oifname "inside0" ip6 saddr fd99::/64 snat ip6 to fd01::100`,
		`oifname "inside0" ip saddr 10.99.0.0/16 masquerade`,
	} {
		if n := strings.Count(run(t, list), rule); n != 1 {
			t.Errorf("%d times %q in %s", n, rule, run(t, list))
		}
	}
	if err := n.Close(false); err != nil {
		t.Fatal(err)
	}
	sysctl(t, "netfilter/nf_conntrack_events=2")
	if err := n.Hide(part, behind); !errors.Is(err, ErrClosed) {
		t.Errorf("hidden after the end: %v", err)
	}
}

// At the limit (I10).
func TestHiddenPartsAreBounded(t *testing.T) {
	n := &Node{config: NodeConfig{Masquerade: true}, stand: newStand("tun0", nil, nil), hidden: map[netip.Prefix]netip.Addr{}}
	a := netip.MustParseAddr("10.99.0.0")
	for len(n.hidden) < MaxHidden {
		n.hidden[netip.PrefixFrom(a, 32)] = a
		a = a.Next()
	}
	if err := n.Hide(netip.PrefixFrom(a, 32), a); !errors.Is(err, ErrConfig) {
		t.Errorf("one more than %d: %v", MaxHidden, err)
	}
}

func TestNodeWarnings(t *testing.T) {
	if !isolate(t) {
		return
	}
	peer(t)
	run(t, "sysctl -qw net.ipv4.conf.inside0.arp_ignore=1")
	c := nodeConfig(t.TempDir())
	n := prepareNode(t, c)
	if w := n.Warnings(); len(w) != 1 || !strings.Contains(w[0], "arp_ignore") {
		t.Errorf("warnings %q", w)
	}
	// Its table is this process's own: no other daemon gets it.
	if _, err := PrepareNode(nodeConfig(t.TempDir())); err == nil || !strings.Contains(err.Error(), "another meshcrypt") {
		t.Errorf("a second node on this host: %v", err)
	}
	if err := n.Close(false); err != nil {
		t.Fatal(err)
	}
	c = nodeConfig(t.TempDir())
	c.Pool = []netip.Prefix{netip.MustParsePrefix("10.1.0.0/25")}
	if w := prepareNode(t, c).Warnings(); len(w) != 2 || !strings.Contains(w[0], "overlaps") {
		t.Errorf("warnings %q", w)
	}
}

func TestPrepareNodeRefuses(t *testing.T) {
	pool := []netip.Prefix{netip.MustParsePrefix("10.99.0.0/16")}
	good := NodeConfig{TUN: "tun0", InsideInterface: "lo", Port: 6484, Pool: pool, StateFile: "x"}
	for name, spoil := range map[string]func(*NodeConfig){
		"no TUN":        func(c *NodeConfig) { c.TUN = "" },
		"path as TUN":   func(c *NodeConfig) { c.TUN = "../all" },
		"long name":     func(c *NodeConfig) { c.TUN = "sixteen-letters-" },
		"no pool":       func(c *NodeConfig) { c.Pool = nil },
		"all as pool":   func(c *NodeConfig) { c.Pool = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")} },
		"zero prefix":   func(c *NodeConfig) { c.Pool = make([]netip.Prefix, 1) },
		"many prefixes": func(c *NodeConfig) { c.Pool = make([]netip.Prefix, MaxPool+1) },
		"no port":       func(c *NodeConfig) { c.Port = 0 },
		"no state file": func(c *NodeConfig) { c.StateFile = "" },
	} {
		c := good
		spoil(&c)
		if _, err := PrepareNode(c); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v, want ErrConfig", name, err)
		}
	}
	good.InsideInterface = "nosuchdevice"
	if _, err := PrepareNode(good); !errors.Is(err, ErrNoDevice) || !strings.Contains(err.Error(), "ip link") {
		t.Errorf("missing inside interface: %v", err)
	}
}
