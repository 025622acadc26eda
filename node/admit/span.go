package admit

import (
	"net/netip"
	"slices"
)

// span is a range of addresses of one family, both ends included.
type span struct{ low, high netip.Addr }

func spanOf(p netip.Prefix) span {
	p = p.Masked()
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	high, _ := netip.AddrFromSlice(b) // as long as an address is
	return span{p.Addr(), high}
}

func (s span) holds(a netip.Addr) bool {
	return a.BitLen() == s.low.BitLen() && s.low.Compare(a) <= 0 && a.Compare(s.high) <= 0
}

func covered(all []span, a netip.Addr) bool {
	return slices.ContainsFunc(all, func(s span) bool { return s.holds(a) })
}

// merged sorts ranges and joins those that overlap or touch. An address of IPv4
// sorts before all of IPv6.
func merged(all []span) (out []span) {
	slices.SortFunc(all, func(x, y span) int { return x.low.Compare(y.low) })
	for _, s := range all {
		last := len(out) - 1
		if last < 0 || out[last].low.BitLen() != s.low.BitLen() ||
			out[last].high.Compare(s.low) < 0 && out[last].high.Next() != s.low {
			out = append(out, s)
			continue
		}
		if out[last].high.Compare(s.high) < 0 {
			out[last].high = s.high
		}
	}
	return out
}

// without takes ranges out of others; both are merged.
func without(from, take []span) (out []span) {
	for _, s := range from {
		left := true
		for _, t := range take {
			if t.low.BitLen() != s.low.BitLen() || t.high.Compare(s.low) < 0 || s.high.Compare(t.low) < 0 {
				continue
			}
			if s.low.Compare(t.low) < 0 {
				out = append(out, span{s.low, t.low.Prev()})
			}
			if t.high.Compare(s.high) >= 0 {
				left = false
				break
			}
			s.low = t.high.Next()
		}
		if left {
			out = append(out, s)
		}
	}
	return out
}

// Addresses that no client reaches, whatever is offered: of nobody or of many.
// Those of IPv4 in IPv6 would be the same host by another name.
var nobodys = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),          // this host (RFC 1122, 3.2.1.3)
	netip.MustParsePrefix("224.0.0.0/4"),        // multicast (RFC 5771)
	netip.MustParsePrefix("255.255.255.255/32"), // broadcast (RFC 919)
	netip.MustParsePrefix("::/128"),             // unspecified (RFC 4291, 2.5.2)
	netip.MustParsePrefix("::ffff:0:0/96"),      // IPv4-mapped (RFC 4291, 2.5.5.2)
	netip.MustParsePrefix("ff00::/8"),           // multicast (RFC 4291, 2.7)
}

// Addresses that belong to one host or one link. A wide prefix that only holds
// them does not offer them; one that lies among them does.
var privates = []netip.Prefix{
	netip.MustParsePrefix("127.0.0.0/8"),
	netip.MustParsePrefix("169.254.0.0/16"),
	netip.MustParsePrefix("::1/128"),
	netip.MustParsePrefix("fe80::/10"),
}

// private is what is not reached although networks hold it.
func private(offered []netip.Prefix) []span {
	var closed, opened []span
	for _, n := range nobodys {
		closed = append(closed, spanOf(n))
	}
	for _, p := range privates {
		closed = append(closed, spanOf(p))
		for _, o := range offered {
			if o.IsValid() && p.Contains(o.Addr()) && o.Bits() >= p.Bits() {
				opened = append(opened, spanOf(o))
			}
		}
	}
	return without(merged(closed), merged(opened))
}
