package host

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// HasIPv6 reports whether this host lets its interfaces have IPv6 addresses.
func HasIPv6() bool {
	off, err := readSysctl("ipv6/conf/default/disable_ipv6")
	return err == nil && off == "0"
}

// knowsIPv6 reports whether this kernel has IPv6 at all: it may be on some
// interfaces and off on others.
func knowsIPv6() bool {
	_, err := os.Stat(filepath.Join(sysctlRoot, "ipv6"))
	return err == nil
}

// families are those of the kernel.
func families() []int {
	if knowsIPv6() {
		return []int{netlink.FAMILY_V4, netlink.FAMILY_V6}
	}
	return []int{netlink.FAMILY_V4}
}

// Unspecified is the address to listen on for every family this host has.
func Unspecified() netip.Addr {
	if HasIPv6() {
		return netip.IPv6Unspecified()
	}
	return netip.IPv4Unspecified()
}

// Addresses are the lasting global unicast addresses of an interface with
// their networks: no temporary ones (RFC 8981), no deprecated or doubled ones.
func Addresses(dev string) (all []netip.Prefix, err error) {
	link, err := device(dev)
	if err != nil {
		return nil, err
	}
	addrs, err := netlink.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		return nil, failed(err, "see `ip address`", "list the addresses of %s", dev)
	}
	const passing = unix.IFA_F_TEMPORARY | unix.IFA_F_DEPRECATED | unix.IFA_F_DADFAILED
	for _, a := range addrs {
		ip, ok := netip.AddrFromSlice(a.IP)
		temporary := a.Flags&passing != 0 && a.IP.To4() == nil // in IPv4 the bits mean other things
		if !ok || temporary || !ip.Unmap().IsGlobalUnicast() {
			continue
		}
		ones, _ := a.Mask.Size()
		all = append(all, netip.PrefixFrom(ip.Unmap(), ones))
	}
	return all, nil
}

// Networks are those of an interface's addresses, each once.
func Networks(dev string) (all []netip.Prefix, err error) {
	addresses, err := Addresses(dev)
	for _, p := range addresses {
		if !slices.Contains(all, p.Masked()) {
			all = append(all, p.Masked())
		}
	}
	return all, err
}
