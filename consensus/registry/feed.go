package registry

import (
	"bytes"
	"slices"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// Feed lists what commands changed, in order, so that a reader looks at that alone
// and not at all there is. It is no part of the state: replicas do not share it, a
// clone and a snapshot have none. Apply writes it, any number of readers read it,
// each with a Mark of its own, under whatever guards the state.
type Feed struct {
	sessions ring[SessionID]
	nodes    ring[identity.NodeID]
	mesh     uint64 // how often anything else changed that Touched tells of
	whole    uint64 // how often the state was replaced
}

// Mark is how far a reader has read. The zero Mark is that of a new reader.
type Mark struct {
	read                         bool
	sessions, nodes, mesh, whole uint64
}

// Touched is what may have changed between two looks. What is not told of: tokens,
// accounts that no session is of, secrets, certificates, leases, the SPIs that a node
// has spent, where a part looks for its next lease, and time.
type Touched struct {
	// All says that anything may have: the reader is new, or was away for longer than
	// the feed reaches. The rest is empty then.
	All      bool
	Sessions []SessionID       // new, changed, over, forgotten, or their client's networks changed
	Nodes    []identity.NodeID // the same of nodes
	Mesh     bool              // parts, policy or count of voters
}

// Touched is what changed since a mark, each thing once and in order, and the mark
// to ask with next.
func (s *State) Touched(since Mark) (Touched, Mark) {
	f := s.Feed
	if f == nil {
		return Touched{All: true}, Mark{}
	}
	now := Mark{read: true, sessions: f.sessions.count, nodes: f.nodes.count, mesh: f.mesh, whole: f.whole}
	sessions, told := f.sessions.since(since.sessions)
	nodes, toldNodes := f.nodes.since(since.nodes)
	if !since.read || since.whole != f.whole || !told || !toldNodes {
		return Touched{All: true}, now
	}
	slices.SortFunc(sessions, func(a, b SessionID) int { return bytes.Compare(a[:], b[:]) })
	slices.SortFunc(nodes, func(a, b identity.NodeID) int { return bytes.Compare(a[:], b[:]) })
	return Touched{
		Sessions: slices.Compact(sessions), Nodes: slices.Compact(nodes), Mesh: since.mesh != f.mesh,
	}, now
}

// Replaced notes that the state is another one.
func (f *Feed) Replaced() { f.whole++ }

func (s *State) touchSession(id SessionID) {
	if s.Feed != nil {
		s.Feed.sessions.add(id)
	}
}

// touchSessionsOf is for what a client's sessions go by.
func (s *State) touchSessionsOf(client string) {
	for ses := range s.Living(client) {
		s.touchSession(ses.ID)
	}
}

func (s *State) touchNode(id identity.NodeID) {
	if s.Feed != nil {
		s.Feed.nodes.add(id)
	}
}

func (s *State) touchMesh() {
	if s.Feed != nil {
		s.Feed.mesh++
	}
}

func (s *State) touchAll() {
	if s.Feed != nil {
		s.Feed.whole++
	}
}

// ring is the newest entries of a list that never ends.
type ring[T any] struct {
	kept  []T // at most MaxTouched; entry n at n modulo that
	count uint64
}

func (r *ring[T]) add(v T) {
	if len(r.kept) < MaxTouched {
		r.kept = append(r.kept, v)
	} else {
		r.kept[r.count%MaxTouched] = v
	}
	r.count++
}

// since lists the entries from the n-th on; not ok if some are no longer kept.
func (r *ring[T]) since(n uint64) (list []T, ok bool) {
	if n > r.count || r.count-n > uint64(len(r.kept)) {
		return nil, false
	}
	for ; n < r.count; n++ {
		list = append(list, r.kept[n%MaxTouched])
	}
	return list, true
}
