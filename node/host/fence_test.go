package host

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"github.com/meshcrypt/meshcrypt/node/tun"
)

// goesOut reports whether a packet to an address goes out by outside0, seen by
// what the interface counts.
func goesOut(t testing.TB, ping string) bool {
	t.Helper()
	return passesBy(t, func() { run(t, ping+" || true") })
}

// passesBy reports whether anything goes out by outside0 meanwhile.
func passesBy(t testing.TB, do func()) bool {
	t.Helper()
	sent := func() int {
		n, err := strconv.Atoi(strings.TrimSpace(run(t, "ip -s -j link show outside0 | sed 's/.*\"tx\":{[^}]*\"packets\":\\([0-9]*\\).*/\\1/'")))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	before := sent()
	do()
	return sent() != before
}

const (
	pingPushed  = "ping -c 1 -W 0.1 10.20.0.1"
	pingPushed6 = "ping -c 1 -W 0.1 fd01:0:5::1"
	pingPool    = "ping -c 1 -W 0.1 10.99.1.1"
	unruled     = "ip rule flush; ip rule add pref 32766 lookup main; ip -6 rule flush; ip -6 rule add pref 32766 lookup main\n"
	unrouted    = "ip route flush proto 109 table main; ip -6 route flush proto 109 table main\n"
	unfiltered  = "nft flush ruleset\n"
)

// outside makes outside0 a way that every packet could take, and only those that
// are sent there.
func outside(t testing.TB) {
	t.Helper()
	peer(t)
	run(t, `ip address add 2001:db8::1/64 dev outside0 nodad
		for dev in outside0 outside1; do echo 0 > /proc/sys/net/ipv6/conf/$dev/router_solicitations; done
		ip link set outside0 arp off
		ip link set outside1 arp off
		ip -6 route add default via 2001:db8::2 dev outside0
		ip -6 neigh add 2001:db8::2 lladdr 02:00:00:00:00:02 dev outside0
		sleep 1.5 # what a new interface says by itself`)
	for _, ping := range []string{pingPushed, pingPushed6, pingPool} {
		if !goesOut(t, ping) {
			t.Fatalf("%s does not leave a host without us", ping)
		}
	}
}

// TestClientFence: nothing that is pushed leaves by another way, whatever other
// software took away, while nobody puts it back, and after kill -9.
func TestClientFence(t *testing.T) {
	if !isolate(t) {
		return
	}
	outside(t)
	for _, take := range []string{"true", unruled, unfiltered, "ip link set tun0 down", unruled + "ip link set tun0 down", unfiltered + "ip link set tun0 down"} {
		testFence(t, take, true)
	}
	testFence(t, unfiltered+unruled, false) // the owned table alone holds
}

func testFence(t *testing.T, take string, outlives bool) {
	t.Helper()
	config := clientConfig(t.TempDir())
	config.Except = []netip.Prefix{netip.MustParsePrefix("10.20.5.0/24")}
	c := prepareClient(t, config)
	device, err := tun.Open("tun0", 1, 1400)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Up(); err != nil {
		t.Fatal(err)
	}
	c.stand.watch.end() // nobody puts back
	run(t, take)
	shut(t, take, pingPushed, pingPushed6, "ping -c 1 -W 0.1 10.20.4.255", "ping -c 1 -W 0.1 10.20.6.0")
	if !goesOut(t, "ping -c 1 -W 0.1 10.20.5.1") {
		t.Errorf("%s: an exception is shut in", take)
	}
	if !goesOut(t, "ping -m 28003 -c 1 -W 0.1 10.20.0.1") {
		t.Errorf("%s: our own packets are shut in", take)
	}
	c.Leave()
	if err := device.Close(); err != nil {
		t.Fatal(err)
	}
	if outlives {
		shut(t, take+", then left", pingPushed, pingPushed6)
	}
	if err := Restore(config.StateFile); err != nil {
		t.Fatal(err)
	}
}

func shut(t *testing.T, when string, pings ...string) {
	t.Helper()
	for _, ping := range pings {
		if goesOut(t, ping) {
			t.Errorf("%s: %s leaves in clear", when, ping)
		}
	}
}

// TestFenceOutlivesKill: after kill -9, after kill -9 and a flush of either sort, and
// after a flush and then kill -9.
func TestFenceOutlivesKill(t *testing.T) {
	if !isolate(t) {
		return
	}
	outside(t)
	for _, steps := range [][]string{{"kill", unruled}, {"kill", unfiltered}, {unfiltered, "kill"}, {unruled, "kill"}} {
		testOutlives(t, roleClient, steps, pingPushed, pingPushed6)
	}
	for _, steps := range [][]string{{"kill", unrouted}, {"kill", unfiltered}, {unfiltered, "kill"}} {
		testOutlives(t, roleNode, steps, pingPool)
	}
}

func testOutlives(t *testing.T, r role, steps []string, pings ...string) {
	t.Helper()
	dir := t.TempDir()
	kill := killed(t, string(r), dir)
	for _, step := range steps {
		if step == "kill" {
			kill()
			shut(t, string(r)+", killed", pings...)
			lacks(t, "nft list tables", "inet "+tableClient+"\n")
			lacks(t, "nft list tables", "inet "+tableNode+"\n")
			continue
		}
		run(t, step)
	}
	shut(t, fmt.Sprintf("%s, %q", r, steps), pings...)
	if err := Restore(dir + "/host.json"); err != nil {
		t.Fatal(err)
	}
	for _, ping := range pings {
		if !goesOut(t, ping) {
			t.Errorf("%s, %q: %s is shut in after a Restore", r, steps, ping)
		}
	}
	lacks(t, "nft list tables", "meshcrypt")
}

// TestFenceLeavesTheLink: a host whose whole IPv6 is pushed still answers who asks for
// its link address.
func TestFenceLeavesTheLink(t *testing.T) {
	if !isolate(t) {
		return
	}
	enter := peer(t)
	config := clientConfig(t.TempDir())
	config.Prefixes = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
	c := prepareClient(t, config)
	openTUN(t)
	if err := c.Up(); err != nil {
		t.Fatal(err)
	}
	run(t, enter+"ping -n -c 1 -W 0.5 fd01::1 || true") // its answer goes into the tunnel
	contains(t, enter+"ip neigh show fd01::1", "lladdr")
	run(t, "ping -n -m 28003 -c 1 -W 5 fd01::2")
}

// TestFenceLetsDiscoveryOut: of what is for a pushed network only the messages that find
// routers and neighbours leave, and no other type of ICMPv6, in which anything fits.
func TestFenceLetsDiscoveryOut(t *testing.T) {
	if !isolate(t) {
		return
	}
	outside(t)
	c := upClient(t)
	c.stand.watch.end()
	run(t, unruled+unrouted) // only the fence holds
	conn, err := net.Dial("ip6:ipv6-icmp", "fd01:0:5::1")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for kind, want := range map[byte]bool{1: false, 132: false, 133: true, 135: true, 137: true, 138: false, 147: false, 255: false} {
		message := append([]byte{kind, 0, 0, 0}, make([]byte, 40)...)
		if out := passesBy(t, func() { _, _ = conn.Write(message) }); out != want { // what is dropped may be an error
			t.Errorf("type %d leaves: %t", kind, out)
		}
	}
}

// TestNodeFence: what is for the pool leaves by nothing but the TUN, also what
// this host forwards.
func TestNodeFence(t *testing.T) {
	if !isolate(t) {
		return
	}
	outside(t)
	n := prepareNode(t, nodeConfig(t.TempDir()))
	openTUN(t)
	if err := n.Up(); err != nil {
		t.Fatal(err)
	}
	n.stand.watch.end()
	shut(t, "whole", pingPool)
	run(t, unrouted)
	shut(t, "without routes", pingPool)
	run(t, "nft delete table inet meshcrypt_fence")
	if !goesOut(t, pingPool) {
		t.Error("it was not the fence that held")
	}
}

// TestOwnedTable: a flush passes the owned table over, and nobody else deletes it.
func TestOwnedTable(t *testing.T) {
	if !isolate(t) {
		return
	}
	peer(t)
	n := prepareNode(t, nodeConfig(t.TempDir()))
	n.stand.watch.end()
	run(t, unfiltered)
	fails(t, "nft delete table inet meshcrypt")
	contains(t, "nft list tables", "inet meshcrypt\n")
	lacks(t, "nft list tables", "inet meshcrypt_fence")
	// A kernel without owners: plain, and put back by the watch.
	if err := n.Close(false); err != nil {
		t.Fatal(err)
	}
	plain := stance{plain: true}
	w := table{name: tableNode, owned: true, chains: nodeChains(n.config, nil)}
	if err := plain.put(w); err != nil || !plain.whole(w) {
		t.Fatalf("without owners: %v, whole %v", err, plain.whole(w))
	}
	// What an older version left is plain, and is taken over.
	var owned stance
	if err := owned.put(w); err != nil || !owned.whole(w) || owned.owner == nil {
		t.Fatalf("over a plain one: %v, whole %v", err, owned.whole(w))
	}
	owned.close()
	if err := plain.put(w); err != nil {
		t.Fatal(err)
	}
	run(t, unfiltered)
	if plain.whole(w) {
		t.Error("a table that was flushed passes for whole")
	}
}

// TestRangesOf: a set of the kernel takes neither what overlaps nor what touches.
func TestRangesOf(t *testing.T) {
	for prefixes, want := range map[string]string{
		"":                                    "",
		"10.0.0.0/8":                          "10.0.0.0-10.255.255.255",
		"10.0.0.0/8 10.1.0.0/16 10.2.0.0/16":  "10.0.0.0-10.255.255.255",
		"10.0.0.0/24 10.0.1.0/24 10.0.3.0/24": "10.0.0.0-10.0.1.255 10.0.3.0-10.0.3.255",
		"0.0.0.0/0 10.0.0.0/8":                "0.0.0.0-255.255.255.255",
		"255.255.255.0/24":                    "255.255.255.0-255.255.255.255",
		"10.0.0.1/32":                         "10.0.0.1-10.0.0.1",
		"128.0.0.0/1 10.0.0.0/31 fd01::/32 fd01:0:1::/48": "10.0.0.0-10.0.0.1 128.0.0.0-255.255.255.255",
	} {
		var all []netip.Prefix
		for _, p := range strings.Fields(prefixes) {
			all = append(all, netip.MustParsePrefix(p))
		}
		all, err := normalize("test", 100, all)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, r := range rangesOf(all, false) {
			got = append(got, r.first.String()+"-"+r.last.String())
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %v, want %s", prefixes, got, want)
		}
	}
}

// At the limit (I10): as many prefixes as may be pushed, apart from each other.
func TestFenceTakesAllPrefixes(t *testing.T) {
	if !isolate(t) {
		return
	}
	c := clientConfig(t.TempDir())
	c.Prefixes = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
	for i := range (MaxPrefixes - 2) / 2 {
		a := netip.AddrFrom4([4]byte{10, byte(i >> 7), byte(i << 1), 0})
		c.Prefixes = append(c.Prefixes, netip.PrefixFrom(a, 24),
			netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfd, 1, byte(i >> 7), byte(i << 1)}), 32))
	}
	c.Except, c.Prefixes = c.Prefixes[2:], c.Prefixes[:2]
	client := prepareClient(t, c)
	if found := strings.Count(run(t, "nft list set inet meshcrypt_client_fence except6"), ":"); found < (MaxPrefixes-2)/2 {
		t.Errorf("the fence has %d exceptions of IPv6", found)
	}
	client.stand.mu.Lock()
	defer client.stand.mu.Unlock()
	if !client.stand.fence.whole(client.stand.want.fence) {
		t.Error("the fence is not read back as it was written")
	}
}
