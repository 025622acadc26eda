package registry

import (
	"bytes"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// allRoles is every role a node may be given.
const allRoles = RoleVoter | RoleGateway | RoleAgent | RoleWitness

// joined is the node as the registry takes it in: only what the joiner may say.
func (n Node) joined() *Node {
	id := n.Key.ID()
	name := n.Name
	if name == "" {
		name = id.Short()
	}
	return &Node{
		ID: id, Key: n.Key, WrapKey: slices.Clone(n.WrapKey), Name: name, May: n.May,
		Outer: n.Outer, Other: n.Other, Inside: n.Inside, Capacity: n.Capacity, Mbit: n.Mbit,
	}
}

// Outers are the addresses where a node is reached, the one it put first first.
func Outers(outer, other netip.AddrPort) []netip.AddrPort {
	if !other.IsValid() {
		return []netip.AddrPort{outer}
	}
	return []netip.AddrPort{outer, other}
}

// exposed reports whether strangers reach the node's inside interface. A build
// that does not say so still shows it where both addresses are one.
func (n *Node) exposed() bool {
	return n.Exposed || n.Inside.IsValid() && (n.Inside == n.Outer.Addr() || n.Inside == n.Other.Addr())
}

// Outers are the node's.
func (n *Node) Outers() []netip.AddrPort { return Outers(n.Outer, n.Other) }

// anyOther reports whether a node has addresses of both families.
func (s *State) anyOther() bool {
	for _, n := range s.Nodes {
		if n != nil && n.Other.IsValid() {
			return true
		}
	}
	return false
}

// checkOuters wants a second address to be of the other family.
func checkOuters(outer, other netip.AddrPort) *Error {
	if other.IsValid() && outer.Addr().BitLen() == other.Addr().BitLen() {
		return ErrInvalid.with("outer addresses %s and %s are of one family", outer, other)
	}
	return nil
}

// checkNetworks wants networks, and no addresses in them; what is their name.
func checkNetworks(what string, most int, all []netip.Prefix) *Error {
	if len(all) > most {
		return ErrInvalid.with("%d %s, at most %d", len(all), what, most)
	}
	for _, p := range all {
		if !p.IsValid() || p != p.Masked() {
			return ErrInvalid.with("%s among the %s is no network", p, what)
		}
	}
	return nil
}

// Attached reports whether the node is asked for an address of the inside
// network: its neighbours are on that network. Who has told of none of the family
// is believed to be.
func (n *Node) Attached(a netip.Addr) bool {
	told := false
	for _, p := range n.Networks {
		if p.Contains(a) {
			return true
		}
		told = told || p.Addr().BitLen() == a.BitLen()
	}
	return !told
}

func (n *Node) check() *Error {
	switch {
	case n.Key == (identity.PublicKey{}):
		return ErrInvalid.with("no node key")
	case !validName(n.Name):
		return ErrInvalid.with("node name %q", n.Name)
	case len(n.WrapKey) > MaxBlob:
		return ErrInvalid.with("wrap key of %d bytes", len(n.WrapKey))
	case n.May == 0 || n.May&^allRoles != 0:
		return ErrInvalid.with("roles %#x", uint8(n.May))
	}
	return checkOuters(n.Outer, n.Other)
}

func (c *JoinNode) apply(s *State, _ entry) (Result, *Error) {
	n := c.Node.joined()
	known, member := s.Nodes[n.ID]
	if member && known.Removed {
		return Result{}, ErrRevoked.with("node %s was removed", n.ID.Short())
	}
	t, ok := s.Tokens[c.Token]
	if !ok || t.Revoked {
		return Result{}, ErrToken.with("token is unknown or revoked")
	}
	if _, burned := t.Burned[n.ID]; burned && member {
		return Result{Node: n.ID}, nil // a retry: the token was burned for this key
	}
	if t.Uses <= 0 || s.Tick >= t.Expires {
		return Result{}, ErrToken.with("token is used up or expired")
	}
	if member {
		return Result{}, ErrExists.with("node %s has joined before", n.ID.Short())
	}
	if n.May == 0 {
		n.May = t.May
	}
	if n.May&^t.May != 0 {
		return Result{}, ErrToken.with("token does not name the roles asked for")
	}
	if err := n.check(); err != nil {
		return Result{}, err
	}
	index, ok := s.freeIndex()
	if !ok {
		return Result{}, ErrExhausted.with("no free node index")
	}
	n.Index, n.Joined, n.Name = index, s.Tick, s.uniqueName(n.Name)
	s.putToken(t.burn(n))
	s.putNode(n)
	s.hold(index, IndexHold{Node: n.ID})
	return Result{Node: n.ID}, nil
}

// freeIndex is the lowest index that no node has and no SA could still carry (I13).
func (s *State) freeIndex() (identity.Index, bool) {
	for i := identity.Index(1); i <= identity.MaxIndex; i++ {
		hold, held := s.Indexes[i]
		if !held || hold.Free != 0 && hold.Free <= s.Tick {
			return i, true
		}
	}
	return 0, false
}

// uniqueName appends a number to a name that a living node has: two hosts that
// call themselves the same must both be able to join.
func (s *State) uniqueName(name string) string {
	taken := make(map[string]bool, len(s.Nodes))
	for _, n := range s.Nodes {
		taken[n.Name] = taken[n.Name] || !n.Removed
	}
	unique := name
	for i := 2; taken[unique]; i++ {
		suffix := fmt.Sprintf("-%d", i)
		unique = name[:min(len(name), MaxName-len(suffix))] + suffix
	}
	return unique
}

// member finds a node that is not removed.
func (s *State) member(id identity.NodeID) (*Node, *Error) {
	n, ok := s.Nodes[id]
	if !ok {
		return nil, ErrNotFound.with("node %s", id.Short())
	}
	if n.Removed {
		return nil, ErrRevoked.with("node %s was removed", id.Short())
	}
	return n, nil
}

func (c *UpdateNode) apply(s *State, _ entry) (Result, *Error) {
	n, err := s.member(c.ID)
	if err != nil {
		return Result{}, err
	}
	if c.Boot != (identity.BootID{}) && slices.Contains(n.PastBoots, c.Boot) {
		return Result{}, ErrStale.with("boot %s of node %s", c.Boot, n.ID.Short())
	}
	if err := checkOuters(c.Outer, c.Other); err != nil {
		return Result{}, err
	}
	if err := checkNetworks("inside networks", MaxNetworks, c.Networks); err != nil {
		return Result{}, err
	}
	told := *n
	told.Outer, told.Other, told.Inside, told.Capacity, told.Mbit = c.Outer, c.Other, c.Inside, c.Capacity, c.Mbit
	told.Networks, told.Exposed = slices.Clone(c.Networks), c.Exposed
	s.putNode(&told)
	if c.Boot != (identity.BootID{}) {
		s.enterBoot(told.ID, c.Boot)
	}
	return Result{}, nil
}

// enterBoot makes boot the node's one process: what another process of it held
// is void, for its keys died with it (I2).
func (s *State) enterBoot(id identity.NodeID, boot identity.BootID) {
	if s.Nodes[id].Boot == boot {
		return
	}
	n := *s.Nodes[id]
	if n.Boot != (identity.BootID{}) {
		n.PastBoots = append(slices.Clone(n.PastBoots), n.Boot)
		n.PastBoots = n.PastBoots[max(0, len(n.PastBoots)-MaxPastBoots):]
	}
	n.Boot = boot
	s.putNode(&n)
	s.spent.Delete(id)
	s.voidSlices(id, func(sl Slice) bool { return sl.Agent == id && sl.Boot != boot })
	s.forgetHolders(s.placesOf(id), func(h Holder) bool { return h.Agent == id && h.Boot != boot })
}

func (c *SetRoles) apply(s *State, _ entry) (Result, *Error) {
	n, err := s.member(c.ID)
	if err != nil {
		return Result{}, err
	}
	if c.Is&^n.May != 0 {
		return Result{}, ErrInvalid.with("node %s may not be %#x", n.ID.Short(), uint8(c.Is&^n.May))
	}
	told := *n
	told.Is, told.Drained = c.Is, c.Drained
	s.putNode(&told)
	return Result{}, nil
}

func (c *RemoveNode) apply(s *State, _ entry) (Result, *Error) {
	n, err := s.member(c.ID)
	if err != nil {
		return Result{}, err
	}
	s.forgetOldestRemoved()
	removed := *n
	removed.Removed, removed.RemovedAt, removed.Is = true, s.Tick, 0
	s.putNode(&removed)
	s.spent.Delete(n.ID)
	s.hold(n.Index, IndexHold{Node: n.ID, Free: s.holdUntil()})
	if len(s.Cluster.Recovery) == 0 {
		s.Wraps = maps.Clone(s.Wraps)
		delete(s.Wraps, n.ID.String()) // else it stays until the data key is renewed: see Holders
	}
	s.voidSlices(n.ID, func(sl Slice) bool { return sl.Agent == n.ID })
	s.withdrawEgress(n.ID)
	return Result{}, nil
}

// forgetOldestRemoved keeps the memory of removed nodes bounded. A forgotten key
// is still not listed, so nothing it holds counts.
func (s *State) forgetOldestRemoved() {
	var oldest *Node
	count := 0
	for _, n := range s.Nodes {
		if !n.Removed {
			continue
		}
		count++
		if oldest == nil || n.RemovedAt < oldest.RemovedAt ||
			n.RemovedAt == oldest.RemovedAt && bytes.Compare(n.ID[:], oldest.ID[:]) < 0 {
			oldest = n
		}
	}
	if count >= MaxRemoved {
		s.Nodes = maps.Clone(s.Nodes)
		delete(s.Nodes, oldest.ID)
		s.touchNode(oldest.ID)
	}
}

// Members returns the nodes that are not removed, by index.
func (s *State) Members() []*Node {
	var members []*Node
	for _, n := range s.Nodes {
		if !n.Removed {
			members = append(members, n)
		}
	}
	slices.SortFunc(members, func(a, b *Node) int { return int(a.Index) - int(b.Index) })
	return members
}

// PathTestAddress is the reserved address of a pool that nodes test their
// plaintext path with; no client ever gets it.
func PathTestAddress(pool netip.Prefix) netip.Addr { return pool.Masked().Addr().Next() }
