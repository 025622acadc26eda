package host

import (
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// LocalNetwork is a network that this host is attached to.
type LocalNetwork struct {
	Prefix netip.Prefix
	Device string
	// Own says that it is of a bridge on this host alone, as those of containers
	// are: nobody outside can have chosen its addresses.
	Own bool
}

// LocalNetworks are those of all devices but the TUN, sorted, each once.
func LocalNetworks(tun string) ([]LocalNetwork, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, failed(err, "see `ip link`", "list the devices")
	}
	addrs, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, failed(err, "see `ip address`", "list the addresses")
	}
	defaults, err := devicesOut()
	if err != nil {
		return nil, err
	}
	byIndex := make(map[int]netlink.Link, len(links))
	for _, l := range links {
		byIndex[l.Attrs().Index] = l
	}
	own := ownBridges(links, addrs, defaults)
	var all []LocalNetwork
	for _, a := range addrs {
		link := byIndex[a.LinkIndex]
		if link == nil || link.Attrs().Name == tun || link.Attrs().Flags&net.FlagLoopback != 0 {
			continue
		}
		network := localNetwork(a)
		if !network.IsValid() || network.Addr().Is6() && network.Addr().IsLinkLocalUnicast() || network.IsSingleIP() && a.Peer == nil {
			continue // always by its own link, or an address of this host alone
		}
		all = append(all, LocalNetwork{network, link.Attrs().Name, own[a.LinkIndex]})
	}
	slices.SortFunc(all, compareLocal)
	return slices.Compact(all), nil
}

// ownBridges are the bridges whose networks are of this host alone. None of
// their addresses has a lifetime, as one that was given out by somebody else
// has; no default route leads through them; and behind each port is something
// of this host, not a card.
func ownBridges(links []netlink.Link, addrs []netlink.Addr, defaults map[int]bool) map[int]bool {
	own := map[int]bool{}
	for _, l := range links {
		if index := l.Attrs().Index; l.Type() == "bridge" && !defaults[index] {
			own[index] = true
		}
	}
	for _, l := range links {
		if !slices.Contains([]string{"veth", "tuntap", "tun", "dummy"}, l.Type()) {
			delete(own, l.Attrs().MasterIndex)
		}
	}
	for _, a := range addrs {
		if a.Flags&unix.IFA_F_PERMANENT == 0 {
			delete(own, a.LinkIndex)
		}
	}
	return own
}

// devicesOut are the devices by which a default route leads, or one half of it,
// in any table.
func devicesOut() (map[int]bool, error) {
	out := map[int]bool{}
	for _, family := range families() {
		routes, err := netlink.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
		if err != nil {
			return nil, failed(err, "see `ip route show table all`", "list the routes")
		}
		for _, r := range routes {
			if r.Type == unix.RTN_UNICAST && halfOrMore(r.Dst) {
				out[r.LinkIndex] = true
				for _, hop := range r.MultiPath {
					out[hop.LinkIndex] = true
				}
			}
		}
	}
	return out, nil
}

func halfOrMore(to *net.IPNet) bool {
	if to == nil {
		return true
	}
	ones, _ := to.Mask.Size()
	return ones <= 1
}
