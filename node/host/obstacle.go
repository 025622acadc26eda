package host

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Obstacles are what on this host is in the way of packets between the pool
// and the inside network just now, each with the command that removes it.
// Others are addresses of the inside network, to ask the routes about.
func (n *Node) Obstacles(others []netip.Addr) []string {
	var all []string
	for _, look := range []func() ([]string, error){
		n.sysctlObstacles, n.ipv6Obstacles, n.filterObstacles, func() ([]string, error) { return n.routeObstacles(others) },
	} {
		found, err := look()
		if err != nil {
			n.config.Log.Debug("self-test of the host incomplete", "error", err)
		}
		all = append(all, found...)
	}
	return all
}

// surroundings are what no put-back could mend: foreign filters, the inside
// interface, and its address.
func (n *Node) surroundings() []string {
	found, err := n.filterObstacles()
	if err != nil {
		n.config.Log.Debug("self-test of the host incomplete", "error", err)
	}
	return append(n.insideFaults(), found...)
}

// insideFaults are of the interface to the inside network.
func (n *Node) insideFaults() []string {
	dev := n.config.InsideInterface
	link, err := device(dev)
	switch {
	case errors.Is(err, ErrNoDevice):
		return []string{fmt.Sprintf("the inside interface %s is gone: see `ip link`", dev)}
	case err != nil: // a process without a descriptor to look with says nothing of the interface
		n.config.Log.Debug("self-test of the host incomplete", "error", err)
		return nil
	}
	if link.Attrs().Flags&net.FlagUp == 0 || link.Attrs().Flags&net.FlagRunning == 0 {
		return []string{fmt.Sprintf("the inside interface %s is down: run `ip link set %s up`, and look at its cable", dev, dev)}
	}
	own, err := addressesOf(link)
	if inside := n.config.Inside; err == nil && inside.IsValid() && !own[inside] {
		return []string{fmt.Sprintf("this host's inside address %v is not on %s any more: run `ip address add %v dev %s` with its prefix length", inside, dev, inside, dev)}
	}
	return nil
}

// sysctlObstacles are settings that were right when this node started.
func (n *Node) sysctlObstacles() (found []string, err error) {
	strict, err := readSysctl("ipv4/conf/all/rp_filter")
	if err != nil {
		return nil, err
	}
	for _, dev := range []string{n.config.TUN, n.config.InsideInterface} {
		own, err := readSysctl("ipv4/conf/" + dev + "/rp_filter")
		if err != nil {
			return found, err
		}
		// The larger of the two is in force.
		if max(own, strict) == "1" {
			found = append(found, fmt.Sprintf("the reverse path filter of %s drops packets of clients: run `sysctl -w net/ipv4/conf/%s/rp_filter=2`", dev, dev))
		}
		if on, err := readSysctl("ipv4/conf/" + dev + "/forwarding"); err != nil {
			return found, err
		} else if on != "1" {
			found = append(found, fmt.Sprintf("%s does not forward: run `sysctl -w net/ipv4/conf/%s/forwarding=1`", dev, dev))
		}
	}
	return found, nil
}

// ipv6Obstacles are the same of IPv6, where the pool has it.
func (n *Node) ipv6Obstacles() (found []string, err error) {
	if !hasIPv6(n.config.Pool) {
		return nil, nil
	}
	all, err := readSysctl("ipv6/conf/all/forwarding")
	switch {
	case err != nil || all == "1":
		return nil, err
	case !hasForceForwarding():
		return []string{"this host does not forward IPv6: run `sysctl -w net/ipv6/conf/all/forwarding=1`"}, nil
	}
	for _, dev := range []string{n.config.TUN, n.config.InsideInterface} {
		on, err := readSysctl("ipv6/conf/" + dev + "/force_forwarding")
		if err != nil {
			return found, err
		}
		if on != "1" {
			found = append(found, fmt.Sprintf("%s does not forward IPv6: run `sysctl -w net/ipv6/conf/%s/force_forwarding=1`", dev, dev))
		}
	}
	return found, nil
}

// filterObstacles are foreign chains that drop what this node forwards.
func (n *Node) filterObstacles() (found []string, err error) {
	c, err := nftables.New()
	if err != nil {
		return nil, err
	}
	chains, err := c.ListChains()
	if err != nil {
		return nil, err
	}
	for _, base := range chains {
		if base.Hooknum == nil || *base.Hooknum != *nftables.ChainHookForward || slices.Contains(ownTables, base.Table.Name) {
			continue
		}
		rules, err := rulesOf(c, base.Table, chains)
		if err != nil {
			return found, err
		}
		for _, way := range [][2]string{{n.config.TUN, n.config.InsideInterface}, {n.config.InsideInterface, n.config.TUN}} {
			if n.dropsOn(base, rules, way) {
				found = append(found, fmt.Sprintf("the firewall of this host drops packets from %s to %s in the chain %s of the table %s %s: run `%s`",
					way[0], way[1], base.Name, familyName(base.Table.Family), base.Table.Name, allow(base, way)))
			}
		}
	}
	return found, nil
}

// rulesOf reads all chains of a table.
func rulesOf(c *nftables.Conn, t *nftables.Table, chains []*nftables.Chain) (map[string][]*nftables.Rule, error) {
	rules := map[string][]*nftables.Rule{}
	for _, ch := range chains {
		if ch.Table.Name != t.Name || ch.Table.Family != t.Family {
			continue
		}
		list, err := c.GetRules(ch.Table, ch)
		if err != nil {
			return nil, err
		}
		rules[ch.Name] = list
	}
	return rules, nil
}

// dropsOn says that a base chain drops the pool's packets on their way from
// one interface to another, whatever else they are.
func (n *Node) dropsOn(base *nftables.Chain, rules map[string][]*nftables.Rule, way [2]string) bool {
	for _, six := range []bool{false, true} {
		if !concerns(base.Table.Family, six) || !slices.ContainsFunc(n.config.Pool, func(p netip.Prefix) bool { return p.Addr().Is6() == six }) {
			continue
		}
		w := walk{packet: forwarded{from: way[0], to: way[1], six: six, tracked: n.config.Masquerade}, rules: rules}
		f, decided := w.chain(base.Name, 0)
		if !decided && base.Policy != nil && *base.Policy == nftables.ChainPolicyDrop {
			f = w.dropped()
		}
		if f == fateDrop {
			return true
		}
	}
	return false
}

func concerns(f nftables.TableFamily, six bool) bool {
	return f == nftables.TableFamilyINet || f == nftables.TableFamilyIPv4 && !six || f == nftables.TableFamilyIPv6 && six
}

func familyName(f nftables.TableFamily) string {
	switch f {
	case nftables.TableFamilyIPv4:
		return "ip"
	case nftables.TableFamilyIPv6:
		return "ip6"
	}
	return "inet"
}

// allow is the command that lets packets pass a chain; those that iptables
// made are changed by iptables.
func allow(base *nftables.Chain, way [2]string) string {
	if base.Name == strings.ToUpper(base.Name) && base.Table.Family != nftables.TableFamilyINet {
		tool := "iptables"
		if base.Table.Family == nftables.TableFamilyIPv6 {
			tool = "ip6tables"
		}
		return fmt.Sprintf("%s -I %s -i %s -o %s -j ACCEPT", tool, base.Name, way[0], way[1])
	}
	return fmt.Sprintf("nft insert rule %s %s %s iifname %s oifname %s accept",
		familyName(base.Table.Family), base.Table.Name, base.Name, way[0], way[1])
}

// routeObstacles are routes and rules of others that lead the pool, or the
// inside network, elsewhere.
func (n *Node) routeObstacles(others []netip.Addr) (found []string, err error) {
	for _, p := range n.config.Pool {
		lease := within(p, 2)
		for _, other := range others {
			if other.Is4() != lease.Is4() {
				continue
			}
			ways := []struct {
				from, to netip.Addr
				in, out  string
				prefix   netip.Prefix
			}{
				{other, lease, n.config.InsideInterface, n.config.TUN, p},
				{lease, other, n.config.TUN, n.config.InsideInterface, n.networkOf(other)},
			}
			for _, w := range ways {
				out, err := leaves(w.from, w.to, w.in)
				if err != nil {
					return found, err
				}
				if out != "" && out != w.out {
					found = append(found, fmt.Sprintf("packets to %v leave by %s, not by %s (see `ip rule`): run `ip %s rule add to %v lookup main priority %d`",
						w.prefix, out, w.out, familyFlag(w.to), w.prefix, rulePriority))
				}
			}
			break // one speaks for all
		}
	}
	return found, nil
}

// networkOf is the inside interface's network that an address belongs to, or
// the address alone.
func (n *Node) networkOf(other netip.Addr) netip.Prefix {
	alone := netip.PrefixFrom(other, other.BitLen())
	link, err := device(n.config.InsideInterface)
	if err != nil {
		return alone
	}
	// Without the list, the address alone is asked about.
	addresses, _ := netlink.AddrList(link, netlink.FAMILY_ALL)
	for _, a := range addresses {
		if p := localNetwork(a); p.IsValid() && p.Contains(other) {
			return p
		}
	}
	return alone
}

func familyFlag(a netip.Addr) string {
	if a.Is6() {
		return "-6"
	}
	return "-4"
}

// leaves is the interface by which this host forwards a packet; none is known
// while the interface that it came in by does not forward.
func leaves(from, to netip.Addr, in string) (string, error) {
	routes, err := netlink.RouteGetWithOptions(to.AsSlice(), &netlink.RouteGetOptions{Iif: in, SrcAddr: from.AsSlice()})
	switch {
	case errors.Is(err, unix.EHOSTUNREACH):
		return "", nil
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENETUNREACH):
		return "no interface", nil
	case err != nil:
		return "", failed(err, "see `ip route get`", "ask for the route to %v", to)
	case len(routes) == 0:
		return "no interface", nil
	}
	link, err := netlink.LinkByIndex(routes[0].LinkIndex)
	if err != nil {
		return "", failed(err, "see `ip link`", "look up device %d", routes[0].LinkIndex)
	}
	return link.Attrs().Name, nil
}
