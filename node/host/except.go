package host

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// notPublic are the ranges that no network of the internet has: RFC 1918, 6598
// and 3927, unique local (RFC 4193) and link-local addresses of IPv6.
var notPublic = []netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("192.168.0.0/16"),
	netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("169.254.0.0/16"),
	netip.MustParsePrefix("fc00::/7"), netip.MustParsePrefix("fe80::/10"),
}

// CheckException refuses what may not be kept out of a tunnel: a public range
// would let whoever runs the local network take the internet's traffic by giving
// out an address of it.
func CheckException(p netip.Prefix) error {
	switch {
	case !p.IsValid() || p.Addr().Is4In6():
		return fmt.Errorf("%w: %v is no prefix", ErrConfig, p)
	case isPublic(p):
		return fmt.Errorf("%w: %v is not wholly inside a private range (%s), and a public one is never kept out of the tunnel",
			ErrConfig, p, strings.Join(names(notPublic), ", "))
	}
	return nil
}

func isPublic(p netip.Prefix) bool {
	return !slices.ContainsFunc(notPublic, func(private netip.Prefix) bool { return covers(private, p) })
}

func covers(wide, narrow netip.Prefix) bool {
	return wide.Bits() <= narrow.Bits() && wide.Contains(narrow.Addr())
}

func names(prefixes []netip.Prefix) []string {
	all := make([]string, len(prefixes))
	for i, p := range prefixes {
		all[i] = p.String()
	}
	return all
}

// Wishes are what a client's user wants to keep out of the tunnel.
type Wishes struct {
	Except []netip.Prefix // as CheckException allows
	Local  bool           // all private networks that this host is attached to
}

// Neighbourhood is what becomes of what is pushed on a host with local networks.
type Neighbourhood struct {
	Prefixes []netip.Prefix // that lead into the tunnel
	Except   []netip.Prefix // parts of them that do not
	Left     []netip.Prefix // pushed, and wholly inside an exception: not in the tunnel
	Local    []LocalWay     // networks that what is pushed touches
}

// LocalWay is the way to a local network.
type LocalWay struct {
	LocalNetwork
	Pushed netip.Prefix // that overlaps with it
	Way    Way
}

// Way says whether a local network is reached.
type Way string

const (
	// WayHidden is what the tunnel takes.
	WayHidden Way = "hidden"
	// WayPublic is hidden too, and may not be excepted.
	WayPublic Way = "hidden, public"
	// WayExcepted is reached as its user wished, WayOwn because it is of this host.
	WayExcepted Way = "excepted"
	WayOwn      Way = "own"
)

// Settle says which of what is pushed goes into the tunnel. What is pushed wins:
// else a network that gives out a narrow prefix would take what is meant for the
// tunnel. Exceptions are only what the user wished, and networks of this host.
func Settle(pushed []netip.Prefix, local []LocalNetwork, wishes Wishes) Neighbourhood {
	var n Neighbourhood
	except := slices.Clone(wishes.Except)
	for i, p := range except {
		except[i] = p.Masked()
	}
	for _, l := range local {
		if (l.Own || wishes.Local) && !isPublic(l.Prefix) && len(except) < MaxPrefixes && !excepted(l.Prefix, except) {
			except = append(except, l.Prefix)
		}
	}
	for _, p := range pushed {
		if p = p.Masked(); excepted(p, except) {
			n.Left = append(n.Left, p)
		} else {
			n.Prefixes = append(n.Prefixes, p)
		}
	}
	for _, e := range except {
		if slices.ContainsFunc(n.Prefixes, e.Overlaps) {
			n.Except = append(n.Except, e)
		}
	}
	slices.SortFunc(n.Except, netip.Prefix.Compare)
	n.Except = slices.Compact(n.Except)
	n.Local = ways(pushed, local, except)
	return n
}

// excepted reports whether a prefix is wholly kept out.
func excepted(p netip.Prefix, except []netip.Prefix) bool {
	return slices.ContainsFunc(except, func(e netip.Prefix) bool { return covers(e, p) })
}

func ways(pushed []netip.Prefix, local []LocalNetwork, except []netip.Prefix) (all []LocalWay) {
	for _, l := range local {
		i := slices.IndexFunc(pushed, l.Prefix.Overlaps)
		if i < 0 {
			continue
		}
		way := WayHidden
		switch {
		case !excepted(l.Prefix, except) && isPublic(l.Prefix):
			way = WayPublic
		case !excepted(l.Prefix, except):
		case l.Own:
			way = WayOwn
		default:
			way = WayExcepted
		}
		all = append(all, LocalWay{l, pushed[i], way})
	}
	return all
}

func compareLocal(a, b LocalNetwork) int {
	if a.Device != b.Device {
		return strings.Compare(a.Device, b.Device)
	}
	return a.Prefix.Compare(b.Prefix)
}
