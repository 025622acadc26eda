package mesh

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"github.com/hashicorp/memberlist"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// State is what gossip says of a member's life.
type State uint8

// The states. A suspect is Alive until the suspicion is confirmed.
const (
	Alive State = iota + 1
	Dead        // went silent
	Left        // said goodbye
)

// String is the state's name in tables and logs.
func (s State) String() string {
	switch s {
	case Alive:
		return "alive"
	case Dead:
		return "dead"
	case Left:
		return "left"
	}
	return "unknown"
}

// Member is one node as last heard.
type Member struct {
	Node    identity.NodeID
	Hint    Hint // zero while none, or none we can read, was heard
	State   State
	Address netip.AddrPort // of its gossip port
}

var (
	errUnknown = errors.New("mesh: not in the registry")
	errForeign = errors.New("mesh: peer knows no node of this mesh")
)

// members is the table of members and, at the same time, all delegates of the
// library. The library calls them under its own lock, so each only copies.
type members struct {
	known func(identity.NodeID) bool
	self  identity.NodeID
	watch chan struct{} // capacity 1

	mu      sync.Mutex // protects what follows
	table   map[identity.NodeID]Member
	hint    Hint // this node's own
	leaving bool
}

func newMembers(self identity.NodeID, known func(identity.NodeID) bool) *members {
	return &members{
		known: known, self: self,
		watch: make(chan struct{}, 1),
		table: make(map[identity.NodeID]Member),
	}
}

func (m *members) setHint(h Hint) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.hint = h
}

func (m *members) setLeaving() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.leaving = true
}

// list copies the table and forgets those whom the registry has forgotten.
func (m *members) list() []Member {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := make([]Member, 0, len(m.table))
	for id, member := range m.table {
		if !m.welcome(id) {
			delete(m.table, id)
			continue
		}
		list = append(list, member)
	}
	return sorted(list)
}

func (m *members) welcome(id identity.NodeID) bool { return id == m.self || m.known(id) }

// record enters what was heard of a member. A full table takes no new names.
func (m *members) record(n *memberlist.Node, gone bool) {
	var id identity.NodeID
	if id.UnmarshalText([]byte(n.Name)) != nil {
		return
	}
	hint, leaving, _ := parseHint(n.Meta) // unreadable: a member without a hint
	member := Member{Node: id, Hint: hint, State: Alive, Address: address(n.Addr, n.Port)}
	switch {
	case gone && leaving:
		member.State = Left
	case gone:
		member.State = Dead
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, present := m.table[id]; !present && len(m.table) >= MaxMembers {
		return
	}
	m.table[id] = member
	select {
	case m.watch <- struct{}{}:
	default:
	}
}

// NotifyJoin, NotifyLeave and NotifyUpdate are memberlist.EventDelegate.
func (m *members) NotifyJoin(n *memberlist.Node) { m.record(n, false) }

// NotifyLeave is called for the dead as well as for those who left.
func (m *members) NotifyLeave(n *memberlist.Node) { m.record(n, true) }

// NotifyUpdate is called when a member's metadata has changed.
func (m *members) NotifyUpdate(n *memberlist.Node) { m.record(n, false) }

// NotifyAlive is memberlist.AliveDelegate: an error drops the name.
func (m *members) NotifyAlive(n *memberlist.Node) error {
	var id identity.NodeID
	if err := id.UnmarshalText([]byte(n.Name)); err != nil {
		return err
	}
	if len(n.Meta) > MaxHint {
		return fmt.Errorf("%w: %d bytes", ErrHint, len(n.Meta))
	}
	if !m.welcome(id) {
		return errUnknown
	}
	return nil
}

// NotifyMerge is memberlist.MergeDelegate. One unknown name must not stop the
// exchange, or a node just removed would part the mesh: NotifyAlive drops the
// single names. A peer all of whose names are strange is refused whole.
func (m *members) NotifyMerge(peers []*memberlist.Node) error {
	if len(peers) > MaxMembers {
		return fmt.Errorf("%w: %d members", errForeign, len(peers))
	}
	for _, n := range peers {
		var id identity.NodeID
		if id.UnmarshalText([]byte(n.Name)) == nil && m.welcome(id) {
			return nil
		}
	}
	return errForeign
}

// NodeMeta is the part of memberlist.Delegate that we use.
func (m *members) NodeMeta(int) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return marshalHint(m.hint, m.leaving)
}

// NotifyMsg ignores user messages: gossip carries hints and nothing else (I9).
func (m *members) NotifyMsg([]byte) {}

// GetBroadcasts has none to give.
func (m *members) GetBroadcasts(int, int) [][]byte { return nil }

// LocalState adds nothing to an exchange of members.
func (m *members) LocalState(bool) []byte { return nil }

// MergeRemoteState ignores what another version may add.
func (m *members) MergeRemoteState([]byte, bool) {}
