package host

import (
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
)

// Exposed reports whether strangers reach an interface that is to be the inside
// one: it carries an address where the host is reached from outside, or a public
// one; or, where a NAT has the address of the host, a way outside leads over it, in
// whatever table. An inside that is no interface of its own is always reached. The
// answer is that of the moment: addresses and routes come and go.
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
		own := addressOf(a)
		outer, near := slices.Contains(outers, own), own.IsValid() && a.LinkIndex == link.Attrs().Index
		if near && (outer || isPublic(netip.PrefixFrom(own, own.BitLen()))) {
			return true, nil
		}
		behindNAT = behindNAT && !outer
	}
	if !behindNAT {
		return false, nil
	}
	out, err := devicesOut()
	return out[link.Attrs().Index], err
}
