package dataplane

import (
	"net/netip"

	"github.com/meshcrypt/meshcrypt/node/admit"
)

// What a client may reach is judged at an agent for every packet, up after it
// was opened and down before it is sealed, and at an egress for every packet of
// another agent and every run for one: whoever hands on may have judged by
// older rules, or not at all.

// SetRule makes a rule judge the pair's packets from now on. Without one an
// agent's pair carries nothing; a client's needs none.
func (p *Pair) SetRule(r *admit.Rule) { p.rule.Store(r) }

// Rule is what SetRule set.
func (p *Pair) Rule() *admit.Rule { return p.rule.Load() }

// reaches judges an opened packet by its destination.
func (p *Pair) reaches(in *inner) Reason {
	if p.rule.Load().Admits(in.dst) {
		return Pass
	}
	p.refused.Add(1)
	return DropNotAllowed
}

// reachedBy judges n packets for the client by the source of the first.
func (p *Pair) reachedBy(in *inner, packet []byte, n int) Reason {
	if answers(p.rule.Load(), in, packet) {
		return Pass
	}
	p.refused.Add(uint64(n))
	return DropNotAllowed
}

// answers reports whether a packet comes from where a client may send, or is an
// ICMP error about a packet that the client may have sent there: any router on
// the way may have written that (RFC 4301, 6 and 8.2).
func answers(rule *admit.Rule, in *inner, packet []byte) bool {
	if rule.Admits(in.src) {
		return true
	}
	src, dst, ok := in.quoted(packet)
	return ok && src == in.dst && rule.Admits(dst)
}

// quoted is whom the packet that an ICMP error is about was from and for; false
// where there is none: in a fragment too, for nobody sees the rest of it.
func (in *inner) quoted(packet []byte) (src, dst netip.Addr, ok bool) {
	if in.fragment || in.total > len(packet) || in.total < in.header+icmpHeaderLen || !in.isError(packet[in.header]) {
		return src, dst, false
	}
	q := packet[in.header+icmpHeaderLen : in.total]
	if in.v6 {
		if len(q) < ipv6HeaderLen || q[0]>>4 != 6 {
			return src, dst, false
		}
		return netip.AddrFrom16([16]byte(q[8:24])), netip.AddrFrom16([16]byte(q[24:40])), true
	}
	if len(q) < ipv4HeaderLen || q[0]>>4 != 4 {
		return src, dst, false
	}
	return netip.AddrFrom4([4]byte(q[12:16])), netip.AddrFrom4([4]byte(q[16:20])), true
}

// isError tells the ICMP messages that are about another packet. A redirect is
// not among them: no router beyond the tunnel is the client's neighbour.
func (in *inner) isError(kind byte) bool {
	if in.v6 {
		return in.proto == protoICMPv6 && kind >= 1 && kind <= 4 // RFC 4443, 2.1
	}
	const unreachable, timeExceeded, badParameter = 3, 11, 12 // RFC 792
	return in.proto == protoICMP && (kind == unreachable || kind == timeExceeded || kind == badParameter)
}
