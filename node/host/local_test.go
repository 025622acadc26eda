package host

import (
	"errors"
	"fmt"
	"testing"

	"github.com/vishvananda/netlink"
)

// A bridge is this host's own only while nobody outside can have a say in it.
func TestLocalNetworks(t *testing.T) {
	if !isolate(t) {
		return
	}
	peer(t)
	openTUN(t)
	run(t, `ip address add 10.99.0.7/32 dev tun0
		ip link add br0 type bridge
		ip link add veth0 type veth peer name veth1
		ip link set veth0 master br0 up
		ip link set br0 up
		ip address add 172.17.0.1/16 dev br0`)
	list := func() map[string]bool {
		t.Helper()
		local, err := LocalNetworks("tun0")
		if err != nil {
			t.Fatal(err)
		}
		all := map[string]bool{}
		for _, l := range local {
			all[fmt.Sprint(l.Prefix, " ", l.Device)] = l.Own
		}
		return all
	}
	all := list()
	for _, network := range []string{"10.1.0.0/24 inside0", "fd01::/64 inside0", "198.51.100.0/24 outside0", "172.17.0.0/16 br0"} {
		if own, there := all[network]; !there || own != (network == "172.17.0.0/16 br0") {
			t.Errorf("%s: there %v, own %v", network, there, own)
		}
	}
	if len(all) != 4 {
		t.Errorf("%v", all)
	}
	const own = "172.17.0.0/16 br0"
	for what, c := range map[string]struct{ do, undo string }{
		"a default route":        {"ip route add default via 172.17.0.2 metric 9999", "ip route del default via 172.17.0.2 metric 9999"},
		"in a table":             {"ip route add 0.0.0.0/1 via 172.17.0.2 table 77", "ip route del 0.0.0.0/1 via 172.17.0.2 table 77"},
		"one hop of a default":   {"ip route add default metric 7 nexthop via 172.17.0.2 nexthop via 198.51.100.2", "ip route del default metric 7"},
		"a leased address":       {"ip address add 172.18.0.9/16 dev br0 valid_lft 600 preferred_lft 600", "ip address del 172.18.0.9/16 dev br0"},
		"a port that is no veth": {"ip link add v9 link inside0 type macvlan; ip link set v9 master br0", "ip link del v9"},
	} {
		run(t, c.do)
		if list()[own] {
			t.Errorf("own with %s", what)
		}
		run(t, c.undo)
		if !list()[own] {
			t.Errorf("not own without %s", what)
		}
	}
}

// TestBridgeWithACard: behind a card is a network that somebody else may have numbered.
func TestBridgeWithACard(t *testing.T) {
	of := func(index, master int) netlink.LinkAttrs { return netlink.LinkAttrs{Index: index, MasterIndex: master} }
	all := []netlink.Link{
		&netlink.Bridge{LinkAttrs: of(5, 0)}, &netlink.Veth{LinkAttrs: of(6, 5)},
		&netlink.Bridge{LinkAttrs: of(7, 0)}, &netlink.Veth{LinkAttrs: of(8, 7)}, &netlink.Device{LinkAttrs: of(9, 7)},
	}
	if own := ownBridges(all, nil, nil); !own[5] || own[7] {
		t.Errorf("without a card: own %t, with one: %t", own[5], own[7])
	}
}

// What is excepted keeps its way, over the links of now, and the lease stays in
// the tunnel; a marked socket finds its router beside a LAN that is hidden.
func TestClientBesideLocalNetworks(t *testing.T) {
	if !isolate(t) {
		return
	}
	peer(t)
	run(t, `ip link add br0 type bridge
		ip link add veth0 type veth peer name veth1
		ip link set veth0 master br0 up; ip link set veth1 up
		ip link set br0 up
		ip address add 10.99.0.1/24 dev br0`) // the lease is of it
	config := clientConfig(t.TempDir())
	pushed := prefixes("10.0.0.0/8 fd00::/8")
	settle := func(w Wishes) Neighbourhood {
		t.Helper()
		local, err := LocalNetworks(config.TUN)
		if err != nil {
			t.Fatal(err)
		}
		return Settle(pushed, local, w)
	}
	n := settle(Wishes{})
	config.Prefixes, config.Except = n.Prefixes, n.Except
	c := prepareClient(t, config)
	openTUN(t)
	if err := c.Up(); err != nil {
		t.Fatal(err)
	}
	contains(t, "ip route get 10.1.0.2", "dev tun0")
	contains(t, "ip route get 10.1.0.2"+marked, "dev inside0")
	contains(t, "ip route get 10.99.0.2", "dev br0")
	contains(t, "ip route get 10.99.0.7", "local")
	contains(t, "ip route get 10.20.0.1", "dev tun0 table 6484 src 10.99.0.7")
	contains(t, "ip -6 route get fd01::2", "dev tun0")

	n = settle(Wishes{Local: true})
	if err := c.Update(n.Prefixes, n.Except); err != nil {
		t.Fatal(err)
	}
	contains(t, "ip route get 10.1.0.2", "dev inside0")
	contains(t, "ip -6 route get fd01::2", "dev inside0")
	contains(t, "ip route get 10.1.1.2", "dev tun0") // beside it: nothing else is open
	contains(t, "ip -6 route get fd02::2", "dev tun0")

	run(t, "ip address del 10.1.0.1/24 dev inside0; ip address add 10.3.0.1/24 dev inside0") // a lease of another network
	n = settle(Wishes{Local: true})
	if err := errors.Join(c.Update(n.Prefixes, n.Except)); err != nil {
		t.Fatal(err)
	}
	contains(t, "ip route get 10.1.0.2", "dev tun0")
	contains(t, "ip route get 10.3.0.2", "dev inside0")
}
