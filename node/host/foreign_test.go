package host

import (
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/meshcrypt/meshcrypt/node/admit"
)

// TestForeign: what is on the inside interface or the TUN is of the inside
// network, also where it stands elsewhere too; an outer address never is, on
// whatever interface.
func TestForeign(t *testing.T) {
	const lo, out, in, tun, bridge = 1, 2, 3, 4, 5
	address := func(link int, text string) netlink.Addr {
		ip, network, err := net.ParseCIDR(text)
		if err != nil {
			t.Fatal(err)
		}
		return netlink.Addr{IPNet: &net.IPNet{IP: ip, Mask: network.Mask}, LinkIndex: link}
	}
	all := []netlink.Addr{
		address(lo, "127.0.0.1/8"), address(lo, "::1/128"), address(out, "192.0.2.1/24"), address(out, "2001:db8::1/64"),
		address(in, "10.20.0.1/24"), address(in, "10.20.0.9/24"), address(in, "198.51.100.1/24"), address(tun, "10.20.0.1/32"),
		address(tun, "10.20.0.201/32"), address(bridge, "172.17.0.1/16"), address(bridge, "10.20.0.9/32"),
	}
	got := foreign(all, map[int]bool{in: true, tun: true}, netip.MustParseAddr("10.20.0.1"),
		[]netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("198.51.100.1"), netip.IPv4Unspecified(), {}})
	var want []netip.Addr
	for _, text := range []string{"127.0.0.1", "::1", "192.0.2.1", "2001:db8::1", "198.51.100.1", "172.17.0.1",
		"127.0.0.0", "127.255.255.255", "192.0.2.0", "192.0.2.255", "2001:db8::", "10.20.0.0", "10.20.0.255", "198.51.100.0", "198.51.100.255",
		"172.17.0.0", "172.17.255.255"} { // what is for all of a network is of no host there
		want = append(want, netip.MustParseAddr(text))
	}
	if !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	one := []netlink.Addr{address(lo, "127.0.0.1/8"), address(out, "192.0.2.1/24")}
	inside := netip.MustParseAddr("192.0.2.1")
	if got := foreign(one, map[int]bool{out: true}, inside, []netip.Addr{inside}); len(got) != 5 || !got[0].IsLoopback() {
		t.Errorf("a host with one leg: %v", got)
	}
	told := address(in, "10.30.0.1/30")
	told.Broadcast = net.IPv4(10, 30, 0, 9)
	near := []netlink.Addr{told, address(in, "10.30.1.0/31"), address(in, "10.30.2.1/32"), address(in, "10.30.0.3/24"),
		address(in, "fd20::1/64"), address(in, "fd20:0:0:1::5/126"), address(in, "fd20:0:0:2::1/127"), address(in, "fd20:0:0:3::1/128"),
		address(in, "fd20:0:0:4::/64")}
	want = nil
	for _, text := range []string{"10.30.0.0", "10.30.0.9", "10.30.0.255", "fd20::", "fd20:0:0:1::4"} { // 10.30.0.3 and fd20:0:0:4:: are a host's here
		want = append(want, netip.MustParseAddr(text))
	}
	if got := foreign(near, map[int]bool{in: true}, netip.Addr{}, nil); !slices.Equal(got, want) {
		t.Errorf("small networks, and a broadcast address of an own choice: %v, want %v", got, want)
	}
	if rule := admit.Compile([]netip.Prefix{netip.MustParsePrefix("::/0")}, got); rule.Admits(netip.MustParseAddr("2001:db8::")) {
		t.Error("who is given all of IPv6 reaches this host by the name that its routers have in common")
	}
	if got, err := Foreign("", "", netip.Addr{}); err != nil || !slices.ContainsFunc(got, netip.Addr.IsLoopback) {
		t.Errorf("of this host: %v, %v", got, err)
	}
}
