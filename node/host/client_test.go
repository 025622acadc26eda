package host

import (
	"errors"
	"net/netip"
	"os"
	"testing"
)

func prepareClient(t *testing.T, c ClientConfig) *Client {
	t.Helper()
	client, err := PrepareClient(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// upClient is one of clientConfig whose tunnel is up.
func upClient(t *testing.T) *Client {
	t.Helper()
	c := prepareClient(t, clientConfig(t.TempDir()))
	openTUN(t)
	if err := c.Up(); err != nil {
		t.Fatal(err)
	}
	return c
}

const marked = " mark 0x6d63"

// I4: before the TUN interface exists the prefixes are unreachable, but for
// the client's own marked packets.
func TestClientFailsClosedBeforeTUN(t *testing.T) {
	if !isolate(t) {
		return
	}
	peer(t)
	contains(t, "ip route get 10.20.0.1", "outside0") // the leak it prevents
	c := prepareClient(t, clientConfig(t.TempDir()))
	fails(t, "ip route get 10.20.0.1")
	fails(t, "ip route get 10.1.0.2")
	fails(t, "ip -6 route get fd01::2")
	contains(t, "ip route get 10.1.0.2"+marked, "inside0")
	if err := c.Up(); !errors.Is(err, ErrNoDevice) {
		t.Errorf("Up without a TUN: %v", err)
	}
}

func TestClientUpAndClose(t *testing.T) {
	if !isolate(t) {
		return
	}
	peer(t)
	config := clientConfig(t.TempDir())
	config.Prefixes = append(config.Prefixes, netip.MustParsePrefix("0.0.0.0/0"))
	c := prepareClient(t, config)
	openTUN(t)
	if err := errors.Join(c.Up(), c.Up()); err != nil {
		t.Fatal(err)
	}
	contains(t, "ip route get 10.20.0.1", "dev tun0 table 6484 src 10.99.0.7")
	contains(t, "ip route get 203.0.113.1", "dev tun0 table 6484 src 10.99.0.7")
	contains(t, "ip route get 203.0.113.1"+marked, "dev outside0")
	contains(t, "ip -6 route get fd01::2", "dev tun0")
	contains(t, "ip -6 route get fd01::2"+marked, "dev inside0")
	contains(t, "ip route get 10.99.0.7", "local")
	sysctl(t, "ipv4/conf/all/src_valid_mark=1", "ipv4/conf/tun0/rp_filter=2")

	if err := errors.Join(c.Close(), c.Close()); err != nil {
		t.Fatal(err)
	}
	contains(t, "ip route get 10.20.0.1", "outside0")
	lacks(t, "ip rule; ip -6 rule", "6484")
	lacks(t, "ip address show", "10.99.0.7")
	lacks(t, "nft list tables", "meshcrypt")
	fails(t, "ip route show table 6484 | grep .")
	sysctl(t, "ipv4/conf/all/src_valid_mark=0")
	if _, err := os.Stat(config.StateFile); !os.IsNotExist(err) {
		t.Errorf("the state file stayed: %v", err)
	}
	if err := errors.Join(c.Up()); !errors.Is(err, ErrClosed) {
		t.Errorf("Up after Close: %v", err)
	}
}

func TestClientUpdate(t *testing.T) {
	if !isolate(t) {
		return
	}
	peer(t)
	c := prepareClient(t, clientConfig(t.TempDir()))
	next := []netip.Prefix{netip.MustParsePrefix("10.30.0.0/16"), netip.MustParsePrefix("10.20.0.0/16")}
	if err := c.Update(next[:1], nil); err != nil {
		t.Fatal(err)
	}
	fails(t, "ip route get 10.30.0.1")
	contains(t, "ip route get 10.20.0.1", "outside0")
	openTUN(t)
	if err := errors.Join(c.Up(), c.Update(next, nil), c.Update(next, nil)); err != nil {
		t.Fatal(err)
	}
	contains(t, "ip route get 10.30.0.1", "dev tun0")
	contains(t, "ip route get 10.20.0.1", "dev tun0")
	contains(t, "ip route get 10.1.0.2", "inside0")
	lacks(t, "ip -6 route show table all", "fd01::/32")
	if err := c.Update(make([]netip.Prefix, MaxPrefixes+1), nil); !errors.Is(err, ErrConfig) {
		t.Errorf("more than %d prefixes: %v", MaxPrefixes, err)
	}
	contains(t, "ip route get 10.30.0.1", "dev tun0")
}

// I4 after kill -9.
func TestClientKilled(t *testing.T) {
	if !isolate(t) {
		return
	}
	peer(t)
	dir := t.TempDir()
	config := clientConfig(dir)
	kill := killed(t, "client", dir)
	contains(t, "ip route get 10.20.0.1", "dev tun0")
	kill()
	fails(t, "ip route get 10.20.0.1")
	fails(t, "ip -6 route get fd01::2")
	lacks(t, "ip address show", "10.99.0.7")

	config.Prefixes = config.Prefixes[:1] // fewer are pushed the next time
	config.Mark++
	c := prepareClient(t, config)
	contains(t, "ip route get 10.20.0.1", "outside0")
	fails(t, "ip route get 10.1.0.2")
	lacks(t, "ip rule", "0x6d63 ")
	contains(t, "ip rule", "not from all fwmark 0x6d64 lookup 6484")
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	sysctl(t, "ipv4/conf/all/src_valid_mark=0")

	killed(t, "client", dir)()
	if err := errors.Join(Restore(config.StateFile), Restore(config.StateFile)); err != nil {
		t.Fatal(err)
	}
	contains(t, "ip route get 10.20.0.1", "outside0")
	lacks(t, "ip rule; ip -6 rule; nft list tables", "6484")
	lacks(t, "nft list tables", "meshcrypt")
	sysctl(t, "ipv4/conf/all/src_valid_mark=0")
}

// A neighbour must not reach the lease around the tunnel.
func TestLeaseIsReachedThroughTunnelOnly(t *testing.T) {
	if !isolate(t) {
		return
	}
	enter := peer(t)
	run(t, enter+"ip route add 10.99.0.0/16 via 10.1.0.1")
	config := clientConfig(t.TempDir())
	config.Prefixes = nil
	c := prepareClient(t, config)
	openTUN(t)
	if err := c.Up(); err != nil {
		t.Fatal(err)
	}
	run(t, "ping -c 1 -W 5 10.99.0.7")
	run(t, enter+"ping -c 1 -W 5 10.1.0.1")
	fails(t, enter+"ping -c 1 -W 1 10.99.0.7")
	contains(t, "nft list chain inet meshcrypt_client lease", "packets 1 ")
}

// The mark of our own packets comes back on the answers, for a strict filter.
func TestStrictFilterLetsGatewaysAnswer(t *testing.T) {
	if !isolate(t) {
		return
	}
	peer(t)
	run(t, "sysctl -qw net.ipv4.conf.all.rp_filter=1")
	config := clientConfig(t.TempDir())
	config.Prefixes = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}
	c := prepareClient(t, config)
	openTUN(t)
	if err := c.Up(); err != nil {
		t.Fatal(err)
	}
	run(t, "ping -m 28003 -c 1 -W 5 10.1.0.2")
}

func TestPrepareClientRefuses(t *testing.T) {
	for name, spoil := range map[string]func(*ClientConfig){
		"no TUN":      func(c *ClientConfig) { c.TUN = "" },
		"no mark":     func(c *ClientConfig) { c.Mark = 0 },
		"large mark":  func(c *ClientConfig) { c.Mark = 1 << 32 },
		"no table":    func(c *ClientConfig) { c.Table = 0 },
		"main table":  func(c *ClientConfig) { c.Table = 254 },
		"many leases": func(c *ClientConfig) { c.Leases = append(c.Leases, make([]netip.Addr, MaxLeases)...) },
		"zero lease":  func(c *ClientConfig) { c.Leases = make([]netip.Addr, 1) },
		"no file":     func(c *ClientConfig) { c.StateFile = "" },
	} {
		c := clientConfig("unused")
		spoil(&c)
		if _, err := PrepareClient(c); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v, want ErrConfig", name, err)
		}
	}
}

// An exception keeps its own way, and comes and goes with an update.
func TestClientExcepts(t *testing.T) {
	if !isolate(t) {
		return
	}
	peer(t)
	config := clientConfig(t.TempDir())
	config.Except = []netip.Prefix{netip.MustParsePrefix("10.1.0.0/24")}
	c := prepareClient(t, config)
	openTUN(t)
	if err := c.Up(); err != nil {
		t.Fatal(err)
	}
	contains(t, "ip route get 10.1.0.2", "dev inside0")
	contains(t, "ip route get 10.1.1.2", "dev tun0")
	run(t, "ping -c 1 -W 5 10.1.0.2")
	if err := c.Update(config.Prefixes, nil); err != nil {
		t.Fatal(err)
	}
	contains(t, "ip route get 10.1.0.2", "dev tun0")
}

// What the user did not end stays shut.
func TestClientLeaves(t *testing.T) {
	if !isolate(t) {
		return
	}
	peer(t)
	config := clientConfig(t.TempDir())
	c := prepareClient(t, config)
	d := openTUN(t)
	if err := c.Up(); err != nil {
		t.Fatal(err)
	}
	c.Leave()
	if err := errors.Join(d.Close(), c.Close()); err != nil {
		t.Fatal(err)
	}
	fails(t, "ip route get 10.20.0.1")
	if err := Restore(config.StateFile); err != nil {
		t.Fatal(err)
	}
	contains(t, "ip route get 10.20.0.1", "outside0")
}
