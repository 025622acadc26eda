package agent

import (
	"bytes"
	"cmp"
	"maps"
	"slices"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// sliceTable is every slice this agent holds, by name, by SPI, and by whom it is for.
type sliceTable struct {
	byKey     map[sliceKey]*slice
	bySPI     map[uint32]*slice // the granted SPI and those of rekeys
	bySession map[registry.SessionID][]*slice
	byNode    map[identity.NodeID][]*slice // those that are for other nodes
	due       dueSlices
}

// sliceName names a slice whatever its epoch.
type sliceName struct {
	session registry.SessionID
	number  uint8
}

func (k sliceKey) name() sliceName { return sliceName{k.session, k.number} }

func newSliceTable() *sliceTable {
	return &sliceTable{
		byKey: make(map[sliceKey]*slice), bySPI: make(map[uint32]*slice),
		bySession: make(map[registry.SessionID][]*slice), byNode: make(map[identity.NodeID][]*slice),
	}
}

func (t *sliceTable) add(s *slice) {
	if t.byKey[s.key] == s {
		return
	}
	t.byKey[s.key], t.bySPI[s.grant.SPI] = s, s
	t.schedule(s, 0)
	if s.from.IsZero() {
		t.bySession[s.key.session] = append(t.bySession[s.key.session], s)
	} else {
		t.byNode[s.from] = append(t.byNode[s.from], s)
	}
}

// remove forgets a slice and all its SPIs.
func (t *sliceTable) remove(s *slice) {
	t.unschedule(s)
	delete(t.byKey, s.key)
	delete(t.bySPI, s.grant.SPI)
	for _, p := range s.pairs() {
		delete(t.bySPI, p.In.SPI())
	}
	if s.from.IsZero() {
		takeOut(t.bySession, s.key.session, s)
	} else {
		takeOut(t.byNode, s.from, s)
	}
}

// takeOut removes one of what stands under a key; the key goes with the last.
func takeOut[K, V comparable](rows map[K][]V, key K, v V) {
	left := slices.DeleteFunc(rows[key], func(other V) bool { return other == v })
	if len(left) == 0 {
		delete(rows, key)
		return
	}
	rows[key] = left
}

// supersedes reports whether a newer epoch of a slice is held.
func (t *sliceTable) supersedes(s *slice) bool {
	others := t.byNode[s.from]
	if s.from.IsZero() {
		others = t.bySession[s.key.session]
	}
	return slices.ContainsFunc(others, func(o *slice) bool { return o.key.name() == s.key.name() && o.key.epoch > s.key.epoch })
}

// holds reports whether a slice is one of these still.
func (t *sliceTable) holds(s *slice) bool { return t.byKey[s.key] == s }

func (t *sliceTable) usesSPI(spi uint32) bool { return t.bySPI[spi] != nil }

// ofClients is how many are for clients, not for other nodes.
func (t *sliceTable) ofClients() int {
	n := len(t.byKey)
	for _, all := range t.byNode {
		n -= len(all)
	}
	return n
}

// inOrder is every slice, by name: what is said of several, and what follows from it, is
// the same whenever the same happens.
func (t *sliceTable) inOrder() []*slice {
	return slices.SortedFunc(maps.Values(t.byKey), func(x, y *slice) int {
		return cmp.Or(bytes.Compare(x.key.session[:], y.key.session[:]), cmp.Compare(x.key.number, y.key.number), cmp.Compare(x.key.epoch, y.key.epoch))
	})
}

// held names every slice with a living machine in this process.
func (t *sliceTable) held() []protocol.SliceRef {
	refs := make([]protocol.SliceRef, 0, len(t.byKey))
	for _, s := range t.inOrder() {
		if s.from.IsZero() {
			refs = append(refs, s.key.ref())
		}
	}
	return refs
}
