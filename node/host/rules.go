package host

import (
	"net/netip"

	"github.com/google/nftables"
)

// nodeChains is the whole filter of a node.
func nodeChains(c NodeConfig) []chain {
	chains := []chain{
		// Connection tracking would call the packets of a sliced flow
		// invalid, because this host sees only a part of them, and most
		// firewalls drop those.
		base("untracked_in", nftables.ChainTypeFilter, nftables.ChainHookPrerouting,
			nftables.ChainPriorityRaw, untracked(c)),
		base("untracked_out", nftables.ChainTypeFilter, nftables.ChainHookOutput,
			nftables.ChainPriorityRaw, untracked(c)),
		base("forward", nftables.ChainTypeFilter, nftables.ChainHookForward,
			nftables.ChainPriorityFilter, leaseInside(c)),
	}
	if c.Masquerade {
		chains = append(chains, base("masquerade", nftables.ChainTypeNAT,
			nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource, masqueraded(c)))
	}
	return chains
}

func base(name string, kind nftables.ChainType, hook *nftables.ChainHook,
	priority *nftables.ChainPriority, rules []rule,
) chain {
	return chain{name: name, kind: kind, hook: hook, priority: priority, rules: rules}
}

// untracked leaves the pool tracked where it is masqueraded: NAT needs it, and
// all of a flow passes that egress.
func untracked(c NodeConfig) []rule {
	rules := []rule{of(toPort(c.Port), notrack()), of(fromPort(c.Port), notrack())}
	if c.InsidePort != 0 {
		rules = append(rules, of(toPort(c.InsidePort), notrack()), of(fromPort(c.InsidePort), notrack()))
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

func masqueraded(c NodeConfig) []rule {
	var rules []rule
	for _, p := range c.Pool {
		rules = append(rules, of(via(c.InsideInterface), source(p), masquerade()))
	}
	return rules
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
