package host

import (
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Exposed reports whether strangers reach an interface that is to be the inside
// one: it carries an address where the host is reached from outside, or, where a
// NAT has that address, the way outside leads over it. An inside that is no
// interface of its own is always reached.
func Exposed(inside string, outers []netip.Addr) (bool, error) {
	if inside == "" {
		return true, nil
	}
	link, err := device(inside)
	if err != nil {
		return false, err
	}
	behindNAT := true
	addresses, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return false, failed(err, "see `ip address`", "list the addresses of this host")
	}
	for _, a := range addresses {
		own, _ := netip.AddrFromSlice(a.IP)
		switch {
		case !slices.Contains(outers, own.Unmap()):
		case a.LinkIndex == link.Attrs().Index:
			return true, nil
		default:
			behindNAT = false
		}
	}
	if !behindNAT {
		return false, nil
	}
	return leadsOutside(link)
}

// leadsOutside reports whether a default route of the main table leaves by a device.
func leadsOutside(link netlink.Link) (bool, error) {
	routes, err := netlink.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Table: unix.RT_TABLE_MAIN, LinkIndex: link.Attrs().Index},
		netlink.RT_FILTER_TABLE|netlink.RT_FILTER_OIF)
	if err != nil {
		return false, failed(err, "see `ip route`", "list the routes of %s", link.Attrs().Name)
	}
	return slices.ContainsFunc(routes, func(r netlink.Route) bool {
		if r.Dst == nil {
			return true
		}
		ones, _ := r.Dst.Mask.Size()
		return ones == 0
	}), nil
}
