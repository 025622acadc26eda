package arbiter

import (
	"unique"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// members are nodes in an order, as the bytes of their IDs. Thousands of sessions are of
// the same few nodes, and share one.
type members string

func membersOf(ids []identity.NodeID) members {
	raw := make([]byte, 0, len(ids)*len(identity.NodeID{}))
	for _, id := range ids {
		raw = append(raw, id[:]...)
	}
	return unique.Make(members(raw)).Value()
}

// all are the nodes.
func (m members) all() []identity.NodeID {
	ids := make([]identity.NodeID, len(m)/len(identity.NodeID{}))
	for i := range ids {
		ids[i] = m.at(i)
	}
	return ids
}

func (m members) at(i int) (id identity.NodeID) {
	copy(id[:], m[i*len(id):])
	return id
}

// index is where a node is; -1: not among them.
func (m members) index(node identity.NodeID) int {
	for i := range len(m) / len(node) {
		if m.at(i) == node {
			return i
		}
	}
	return -1
}
