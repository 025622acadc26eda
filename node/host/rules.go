package host

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/google/nftables"
)

// nodeChains is the whole filter of a node.
func nodeChains(c NodeConfig, hidden map[netip.Prefix]netip.Addr) []chain {
	chains := []chain{
		// Connection tracking would call the packets of a sliced flow
		// invalid, because this host sees only a part of them, and most
		// firewalls drop those.
		base("untracked_in", nftables.ChainTypeFilter, nftables.ChainHookPrerouting,
			nftables.ChainPriorityRaw, untrackedIn(c, hidden)),
		base("untracked_out", nftables.ChainTypeFilter, nftables.ChainHookOutput,
			nftables.ChainPriorityRaw, untracked(c)),
		base("forward", nftables.ChainTypeFilter, nftables.ChainHookForward,
			nftables.ChainPriorityFilter, leaseInside(c)),
	}
	if c.Masquerade {
		chains = append(chains, masqueraded(c, hidden))
	}
	return chains
}

func base(name string, kind nftables.ChainType, hook *nftables.ChainHook,
	priority *nftables.ChainPriority, rules []rule,
) chain {
	return chain{name: name, kind: kind, hook: hook, priority: priority, rules: rules}
}

// untrackedIn keeps what clients send tracked where it is masqueraded, to our own
// ports too, and what answers them, from these ports too: what is not tracked is not
// translated, and would leave with its lease, or come to this host itself. Path tests
// are not to be. To a moving address nothing else is sent; this host's own has nodes'
// datagrams, too, by their port.
func untrackedIn(c NodeConfig, hidden map[netip.Prefix]netip.Addr) (rules []rule) {
	if !c.Masquerade {
		return untracked(c)
	}
	for _, a := range c.PathTest {
		rules = append(rules, of(from(c.TUN), source(netip.PrefixFrom(a, a.BitLen())), notrack(), accept()))
	}
	rules = append(rules, of(from(c.TUN), accept()))
	behind := slices.SortedFunc(maps.Values(hidden), netip.Addr.Compare)
	for _, a := range slices.Compact(behind) {
		rules = append(rules, of(from(c.InsideInterface), target(netip.PrefixFrom(a, a.BitLen())), accept()))
	}
	if c.Inside.IsValid() {
		own := target(netip.PrefixFrom(c.Inside, c.Inside.BitLen()))
		for _, port := range c.ports() {
			rules = append(rules, of(from(c.InsideInterface), own, toPort(port), notrack(), accept()))
		}
		rules = append(rules, of(from(c.InsideInterface), own, accept()))
	}
	return append(rules, untracked(c)...)
}

// ports are this host's, of UDP.
func (c NodeConfig) ports() []uint16 {
	if c.InsidePort == 0 {
		return []uint16{c.Port}
	}
	return []uint16{c.Port, c.InsidePort}
}

// untracked leaves the pool tracked where it is masqueraded: NAT needs it, and
// all of a flow passes that egress.
func untracked(c NodeConfig) []rule {
	var rules []rule
	for _, port := range c.ports() {
		rules = append(rules, of(toPort(port), notrack()), of(fromPort(port), notrack()))
	}
	if c.Masquerade {
		return rules
	}
	for _, p := range c.Pool {
		rules = append(rules, of(source(p), notrack()), of(target(p), notrack()))
	}
	return rules
}

// leaseInside forwards between leases and the inside network only, whatever
// the host's other routes say.
func leaseInside(c NodeConfig) []rule {
	var rules []rule
	for _, p := range c.Pool {
		rules = append(rules,
			of(from(c.TUN), via(c.InsideInterface), source(p), accept()),
			of(from(c.InsideInterface), via(c.TUN), target(p), accept()))
	}
	return append(rules, of(from(c.TUN), drop()), of(via(c.TUN), drop()))
}

// masqueraded hides what is forwarded from leases to the inside network: each
// part behind its own address, which moves with it, the rest behind this
// host's.
func masqueraded(c NodeConfig, hidden map[netip.Prefix]netip.Addr) chain {
	var rules []rule
	for _, a := range c.PathTest {
		rules = append(rules, of(source(netip.PrefixFrom(a, a.BitLen())), accept()))
	}
	parts := slices.SortedFunc(maps.Keys(hidden), netip.Prefix.Compare)
	for _, p := range parts {
		rules = append(rules, of(via(c.InsideInterface), source(p), translate(hidden[p])))
	}
	for _, p := range c.Pool {
		if c.Inside.BitLen() == p.Addr().BitLen() {
			for _, port := range c.ports() { // to that one nodes send here
				rules = append(rules, of(via(c.InsideInterface), source(p), fromPort(port), translateOff(c.Inside, port)))
			}
		}
		rules = append(rules, of(via(c.InsideInterface), source(p), masquerade()))
	}
	return base("masquerade", nftables.ChainTypeNAT, nftables.ChainHookPostrouting,
		nftables.ChainPriorityNATSource, rules)
}

// clientChains is the whole filter of a client. Its UDP port stays tracked:
// the usual firewall of a laptop accepts replies by their tracked state only.
func clientChains(c ClientConfig) []chain {
	var foreign []rule
	for _, lease := range c.Leases {
		// The lease is reachable through the tunnel and by the host itself.
		foreign = append(foreign, of(notFrom(c.TUN), notFrom("lo"),
			target(netip.PrefixFrom(lease, lease.BitLen())), drop()))
	}
	mark := uint32(c.Mark)
	return []chain{
		base("lease", nftables.ChainTypeFilter, nftables.ChainHookPrerouting,
			nftables.ChainPriorityRaw, foreign),
		// A strict reverse path filter asks for the route back to a gateway;
		// with the mark of our own packets it finds the one outside the tunnel.
		base("mark_in", nftables.ChainTypeFilter, nftables.ChainHookPrerouting,
			nftables.ChainPriorityMangle, []rule{of(notFrom(c.TUN), recallMark(mark))}),
		base("mark_out", nftables.ChainTypeFilter, nftables.ChainHookPostrouting,
			nftables.ChainPriorityMangle, []rule{rememberMark(mark)}),
	}
}
