// Package admit is what a client may reach. It is pure: it turns the networks
// that a client was given, and the addresses of the host that judges, into a
// Rule, and a Rule into a yes or no for one address.
//
// Who is judged is not its business: node/dataplane asks for each packet and
// node/masquerade for each flow. Nor is where rules come from: the arbiter says
// which networks are whose, and the agent hands the compiled rules over. Groups
// and ports are not known yet; a Rule is where they will stand.
package admit

import (
	"encoding/binary"
	"net/netip"
	"slices"
)

// Rule is what one client may reach from one host. It never changes, and is
// safe for concurrent use. A nil Rule admits nothing.
type Rule struct {
	any bool
	v4  []span4
	v6  []span6
}

// span4 and span6 are ranges of addresses, both ends included. A rule's are
// sorted, and none touches another.
type (
	span4 struct{ low, high uint32 }
	span6 struct{ low, high wide }
	wide  struct{ high, low uint64 }
)

func (a wide) less(b wide) bool { return a.high < b.high || a.high == b.high && a.low < b.low }

// Any admits every address. It is for the one case in which nobody said what
// clients may reach: an arbiter from before there were rules.
func Any() *Rule { return &Rule{any: true} }

// Admits reports whether the client may send to an address, and be sent to from
// it. An IPv4 address in IPv6 clothes is none that anybody may reach.
func (r *Rule) Admits(a netip.Addr) bool {
	switch {
	case r == nil:
		return false
	case r.any:
		return true
	case a.Is4():
		b := a.As4()
		return r.admits4(binary.BigEndian.Uint32(b[:]))
	case a.Is6():
		return r.admits6(wideOf(a))
	}
	return false
}

// admits4 finds the last range that does not begin above a.
func (r *Rule) admits4(a uint32) bool {
	low, high := 0, len(r.v4)
	for low < high {
		if middle := (low + high) / 2; r.v4[middle].low <= a {
			low = middle + 1
		} else {
			high = middle
		}
	}
	return low > 0 && a <= r.v4[low-1].high
}

func (r *Rule) admits6(a wide) bool {
	low, high := 0, len(r.v6)
	for low < high {
		if middle := (low + high) / 2; !a.less(r.v6[middle].low) {
			low = middle + 1
		} else {
			high = middle
		}
	}
	return low > 0 && !r.v6[low-1].high.less(a)
}

func wideOf(a netip.Addr) wide {
	b := a.As16()
	return wide{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

// Compile makes the rule of a client whose networks are offered, on a host that
// has own addresses which are not of the inside network: outer ones, loopback,
// those of other interfaces. An own address is never reached because a network
// happens to hold it: a prefix must name it, which is the address with all its
// bits. So it is with loopback and link-local addresses, where any prefix among
// them names what it holds, and multicast, broadcast and unspecified addresses
// are reached by nobody.
func Compile(offered []netip.Prefix, own []netip.Addr) *Rule {
	var wanted, named []span
	for _, p := range offered {
		if !p.IsValid() {
			continue
		}
		wanted = append(wanted, spanOf(p))
		if p.IsSingleIP() {
			named = append(named, spanOf(p))
		}
	}
	wanted = without(merged(wanted), private(offered))
	own = slices.DeleteFunc(slices.Clone(own), func(a netip.Addr) bool { return covered(named, a) })
	closed := make([]span, 0, len(own))
	for _, a := range own {
		if a = a.Unmap().WithZone(""); a.IsValid() {
			closed = append(closed, span{a, a})
		}
	}
	r := new(Rule)
	for _, s := range without(wanted, merged(closed)) {
		r.add(s)
	}
	return r
}

func (r *Rule) add(s span) {
	if s.low.Is4() {
		low, high := s.low.As4(), s.high.As4()
		r.v4 = append(r.v4, span4{binary.BigEndian.Uint32(low[:]), binary.BigEndian.Uint32(high[:])})
		return
	}
	r.v6 = append(r.v6, span6{wideOf(s.low), wideOf(s.high)})
}

// Offered is the networks of a session: its peer alone, if it has one; its
// client's own; else what the mesh pushes to all. The client's routes are these
// too, so that it sends nothing into the tunnel that would be dropped behind it.
func Offered(own, pushed []netip.Prefix, peer netip.Addr) []netip.Prefix {
	switch {
	case peer.IsValid():
		return []netip.Prefix{netip.PrefixFrom(peer, peer.BitLen())}
	case len(own) > 0:
		return own
	}
	return pushed
}
