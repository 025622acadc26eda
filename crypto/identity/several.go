package identity

import "unique"

// Several are nodes in an order, as the bytes of their IDs. Thousands of sessions are of
// the same few nodes, and share one.
type Several string

// SeveralOf are these nodes, in their order.
func SeveralOf(ids []NodeID) Several {
	raw := make([]byte, 0, len(ids)*len(NodeID{}))
	for _, id := range ids {
		raw = append(raw, id[:]...)
	}
	return unique.Make(Several(raw)).Value()
}

// Are reports whether the nodes are these, in this order.
func (m Several) Are(ids []NodeID) bool {
	if len(m) != len(ids)*len(NodeID{}) {
		return false
	}
	for i, id := range ids {
		if m.At(i) != id {
			return false
		}
	}
	return true
}

// All are the nodes.
func (m Several) All() []NodeID {
	ids := make([]NodeID, len(m)/len(NodeID{}))
	for i := range ids {
		ids[i] = m.At(i)
	}
	return ids
}

// At is the node at a place.
func (m Several) At(i int) (id NodeID) {
	copy(id[:], m[i*len(id):])
	return id
}

// Index is where a node is; -1: not among them.
func (m Several) Index(node NodeID) int {
	for i := range len(m) / len(node) {
		if m.At(i) == node {
			return i
		}
	}
	return -1
}
