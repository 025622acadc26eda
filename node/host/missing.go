package host

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
)

// missing is what this node set on the host and somebody took away.
func (n *Node) missing() (found []string, err error) {
	n.mu.Lock()
	var held []netip.Addr
	for a := range n.held {
		held = append(held, a)
	}
	n.mu.Unlock()
	link, err := device(n.config.TUN)
	switch {
	case errors.Is(err, ErrNoDevice):
		return []string{fmt.Sprintf("the interface %s is gone: restart the daemon", n.config.TUN)}, nil
	case err != nil:
		return nil, err
	case link.Attrs().Flags&net.FlagUp == 0:
		found = append(found, fmt.Sprintf("the interface %s is down: run `ip link set %s up`", n.config.TUN, n.config.TUN))
	}
	addresses, err := netlink.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		return found, err
	}
	stands := map[netip.Addr]bool{}
	for _, a := range addresses {
		if addr, ok := netip.AddrFromSlice(a.IP); ok {
			stands[addr.Unmap()] = true
		}
	}
	for _, a := range held {
		if !stands[a] {
			found = append(found, fmt.Sprintf("the moving inside address %v was taken from %s: see `ip monitor address` for who does that", a, n.config.TUN))
		}
	}
	filter, err := n.missingTable()
	return append(found, filter...), err
}

// missingTable says that this node's own filter is gone.
func (n *Node) missingTable() ([]string, error) {
	c, err := nftables.New()
	if err != nil {
		return nil, err
	}
	tables, err := c.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return nil, err
	}
	for _, t := range tables {
		if t.Name == tableNode {
			return nil, nil
		}
	}
	return []string{fmt.Sprintf("the nft table inet %s was taken away: see `nft monitor` for who does that, and restart the daemon", tableNode)}, nil
}
