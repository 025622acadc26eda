package gateway

import (
	"net/netip"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// Node is what a gateway knows of a node.
type Node struct {
	Index identity.Index
	// Outer is where the node's data port is reached from here.
	Outer netip.AddrPort
	// Hosts is every address of the node's: none of them is a client's.
	Hosts []netip.AddrPort
	Alive bool
}

// Nodes is the node list, immutable: a fresh gateway is ready with it.
type Nodes struct {
	byIndex []*Node
	byOuter map[netip.AddrPort]identity.Index
	hosts   map[netip.Addr]bool
}

// NewNodes makes the list. Indexes beyond the protocol's are left out.
func NewNodes(all []Node) *Nodes {
	n := &Nodes{
		byIndex: make([]*Node, identity.MaxIndex+1),
		byOuter: map[netip.AddrPort]identity.Index{},
		hosts:   map[netip.Addr]bool{},
	}
	for _, node := range all {
		if node.Index == 0 || node.Index > identity.MaxIndex || !node.Outer.IsValid() {
			continue
		}
		node.Outer = netip.AddrPortFrom(node.Outer.Addr().Unmap(), node.Outer.Port())
		n.byIndex[node.Index] = &node
		n.byOuter[node.Outer] = node.Index
		n.hosts[node.Outer.Addr()] = true
		for _, at := range node.Hosts {
			n.hosts[at.Addr().Unmap()] = true
		}
	}
	return n
}

// node gives the node of an index; nil if there is none.
func (n *Nodes) node(ix identity.Index) *Node {
	if n == nil || int(ix) >= len(n.byIndex) {
		return nil
	}
	return n.byIndex[ix]
}
