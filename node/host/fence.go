package host

import (
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// A fence drops what is to go through the TUN and would leave by another
// device. It stands beside the blackhole routes and covers for them: whoever
// removes rules and routes leaves the fence, whoever flushes nft leaves the
// routes. It is a plain table, for it outlives a killed process; a client has it
// in its owned table too, which no flush takes while the process lives.

// onLink are destinations that mean the link itself: broadcast and multicast,
// and the link-local ones of IPv6.
var onLink = []string{"224.0.0.0/4", "255.255.255.255/32", "fe80::/10", "ff00::/8"}

// fenced is a fence as a table of its own.
func fenced(name string, w want, leases []netip.Addr) table {
	return table{name: name, sets: fenceSets(w), chains: []chain{fence(w, leases)}}
}

// chainFence is the chain that drops.
const chainFence = "fence"

// Names of the sets, each followed by the IP version.
const (
	setClosed = "closed"
	setExcept = "except"
)

func fenceSets(w want) []set {
	var all []set
	for _, six := range []bool{false, true} {
		all = append(all, set{setName(setExcept, six), six, rangesOf(w.except, six)},
			set{setName(setClosed, six), six, rangesOf(w.closed, six)})
	}
	return all
}

func setName(name string, six bool) string {
	if six {
		return name + "6"
	}
	return name + "4"
}

// fence lets out by another device what is marked as ours, what is of the link
// itself, and exceptions.
func fence(w want, leases []netip.Addr) chain {
	rules := []rule{of(via(w.tun), accept()), of(via("lo"), accept())}
	if w.mark != 0 {
		rules = append(rules, of(meta(expr.MetaKeyMARK, expr.CmpOpEq, native(uint32(w.mark))), accept()))
	}
	rules = append(rules, of(neighbourDiscovery(), accept()))
	for _, p := range onLink {
		rules = append(rules, of(target(netip.MustParsePrefix(p)), accept()))
	}
	for _, a := range leases {
		rules = append(rules, of(source(netip.PrefixFrom(a, a.BitLen())), drop()))
	}
	for _, six := range []bool{false, true} {
		rules = append(rules, of(targetIn(setExcept, six), accept()), of(targetIn(setClosed, six), drop()))
	}
	return base(chainFence, nftables.ChainTypeFilter, nftables.ChainHookPostrouting, nftables.ChainPriorityFilter, rules)
}

// neighbourDiscovery matches the messages by which IPv6 finds routers and
// neighbours (RFC 4861), which have global addresses too.
func neighbourDiscovery() []expr.Any {
	const first, last = 133, 137 // router solicitation to redirect
	return append(meta(expr.MetaKeyL4PROTO, expr.CmpOpEq, []byte{unix.IPPROTO_ICMPV6}),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 1},
		&expr.Cmp{Op: expr.CmpOpGte, Register: 1, Data: []byte{first}},
		&expr.Cmp{Op: expr.CmpOpLte, Register: 1, Data: []byte{last}})
}

// targetIn matches a destination in a set.
func targetIn(name string, six bool) []expr.Any {
	proto, offset, length := byte(unix.NFPROTO_IPV4), uint32(16), uint32(4)
	if six {
		proto, offset, length = unix.NFPROTO_IPV6, 24, 16
	}
	return append(meta(expr.MetaKeyNFPROTO, expr.CmpOpEq, []byte{proto}),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: length},
		&expr.Lookup{SourceRegister: 1, SetName: setName(name, six)})
}
