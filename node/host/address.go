package host

import (
	"errors"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// An address on the TUN interface dies with the process; one on a LAN
// interface would be answered for after the process was killed.

func single(a netip.Addr) *netlink.Addr {
	return &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(a, a.BitLen()))}
}

func addAddress(link netlink.Link, a netip.Addr) error {
	addr := single(a)
	if a.Is6() {
		addr.Flags = unix.IFA_F_NODAD // nobody on a TUN could object
	}
	if err := netlink.AddrReplace(link, addr); err != nil {
		return failed(err, "see `ip address`", "put %v on %s", a, link.Attrs().Name)
	}
	return nil
}

func deleteAddress(link netlink.Link, a netip.Addr) error {
	err := netlink.AddrDel(link, single(a))
	if err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
		return failed(err, "see `ip address`", "take %v from %s", a, link.Attrs().Name)
	}
	return nil
}

// Overlap is a prefix that leads into the tunnel although part of it is also
// on a network this host is attached to.
type Overlap struct {
	Prefix, Local netip.Prefix
	Device        string
}

// overlaps compares prefixes with the networks of all devices but the TUN.
// The default routes overlap with everything and mean to.
func overlaps(prefixes []netip.Prefix, tun string) ([]Overlap, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, failed(err, "see `ip link`", "list the devices")
	}
	var found []Overlap
	for _, link := range links {
		attrs := link.Attrs()
		if attrs.Name == tun || attrs.Flags&net.FlagLoopback != 0 {
			continue
		}
		addrs, err := netlink.AddrList(link, netlink.FAMILY_ALL)
		if err != nil {
			return nil, failed(err, "see `ip address`", "list the addresses of %s", attrs.Name)
		}
		for _, a := range addrs {
			found = append(found, overlapsOf(prefixes, localNetwork(a), attrs.Name)...)
		}
	}
	return found, nil
}

// localNetwork is the network a peer address stands for, else the address's own.
func localNetwork(a netlink.Addr) netip.Prefix {
	n := a.IPNet
	if a.Peer != nil {
		n = a.Peer
	}
	addr, ok := netip.AddrFromSlice(n.IP)
	if !ok {
		return netip.Prefix{}
	}
	ones, _ := n.Mask.Size()
	return netip.PrefixFrom(addr.Unmap(), ones).Masked()
}

func overlapsOf(prefixes []netip.Prefix, local netip.Prefix, dev string) (found []Overlap) {
	if !local.IsValid() || local.Addr().IsLinkLocalUnicast() {
		return nil
	}
	for _, p := range prefixes {
		if p.Bits() > 0 && p.Overlaps(local) {
			found = append(found, Overlap{Prefix: p, Local: local, Device: dev})
		}
	}
	return found
}

// Foreign are the addresses of this host that are not of the inside network:
// those of every interface but the TUN, the inside one and whichever has the
// inside address, and of these too what outer names. What is for all of a network
// that this host is attached to is of none of its hosts, so it is among them, those
// of the inside network too. Each stands once.
func Foreign(tun, insideInterface string, inside netip.Addr, outer ...netip.Addr) ([]netip.Addr, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, failed(err, "see `ip link`", "list the devices")
	}
	addrs, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, failed(err, "see `ip address`", "list the addresses")
	}
	near := make(map[int]bool)
	for _, link := range links {
		name := link.Attrs().Name
		near[link.Attrs().Index] = name == tun || insideInterface != "" && name == insideInterface
	}
	for _, a := range addrs {
		if addressOf(a) == inside {
			near[a.LinkIndex] = true
		}
	}
	return foreign(addrs, near, inside, outer), nil
}

// foreign keeps what is not of the inside network; an address that is there as
// well as elsewhere is of it.
func foreign(addrs []netlink.Addr, near map[int]bool, inside netip.Addr, outer []netip.Addr) (all []netip.Addr) {
	there := map[netip.Addr]bool{inside: true}
	for _, a := range addrs {
		if address := addressOf(a); near[a.LinkIndex] && !slices.Contains(outer, address) {
			there[address] = true
		}
	}
	for _, a := range addrs {
		if address := addressOf(a); address.IsValid() && !there[address] {
			there[address] = true
			all = append(all, address)
		}
	}
	for _, a := range addrs {
		for _, address := range forAll(a) {
			if !there[address] {
				there[address] = true
				all = append(all, address)
			}
		}
	}
	return all
}

// forAll are the addresses by which all hosts of an address's network are spoken to,
// or any router there. In IPv4 its last, what was set beside that, and its first, which
// kernels before 5.14 take for a broadcast too; a network of one or two addresses (RFC
// 3021) has none. In IPv6 its first, which a host that forwards has too (RFC 4291,
// 2.6.1); one of two addresses has none (RFC 6164).
func forAll(a netlink.Addr) (all []netip.Addr) {
	network := localNetwork(a)
	if !network.IsValid() || network.Addr().BitLen()-network.Bits() < 2 {
		return nil
	}
	all = append(all, network.Addr())
	if network.Addr().Is6() {
		return all
	}
	all = append(all, lastOf(network))
	if set, ok := netip.AddrFromSlice(a.Broadcast); ok && !set.IsUnspecified() {
		all = append(all, set.Unmap())
	}
	return all
}

func addressOf(a netlink.Addr) netip.Addr {
	address, _ := netip.AddrFromSlice(a.IP) // an invalid one is nobody's
	return address.Unmap()
}
