package session

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// partWatch is what this term knows of a part of the pool.
type partWatch struct {
	epoch    uint64
	proposal Tag
	taken    bool // its second took the inside address over, in this epoch
}

func (a *Arbitrator) watch(p registry.Part) *partWatch {
	key := p.Prefix.String()
	w := a.parts[key]
	if w == nil {
		w = &partWatch{epoch: p.Epoch}
		a.parts[key] = w
	}
	if w.epoch != p.Epoch {
		w.epoch, w.taken = p.Epoch, false
	}
	return w
}

// tendParts sees that every part has an egress and, where there is another
// node, a second.
func (a *Arbitrator) tendParts(view *registry.State) {
	for _, p := range view.Parts {
		if a.watch(p).proposal != 0 {
			continue
		}
		egress, second := a.egressOf(view, p)
		if node := view.Nodes[egress]; node == nil || node.Removed || node.Drained {
			continue // nobody else is able
		}
		if egress == p.Egress && second == p.Second {
			continue
		}
		a.watch(p).proposal = a.propose(registry.Command{MovePart: &registry.MovePart{
			Prefix: p.Prefix, Epoch: p.Epoch, Egress: egress, Second: second,
		}})
	}
}

// egressOf is who should be egress and second of a part now. The egress stays
// while it can; its second comes next.
func (a *Arbitrator) egressOf(view *registry.State, p registry.Part) (egress, second identity.NodeID) {
	able := a.egressesByLoad(view, p)
	egress = p.Egress
	if !a.keepsEgress(view, p, able) {
		egress = pick(able, p.Second, identity.NodeID{})
		if egress.IsZero() {
			egress = p.Egress
		}
	}
	second = p.Second
	if second == egress || !a.mayEgress(view, p, second) || a.goneFor(second, EgressGrace) {
		second = pick(able, identity.NodeID{}, egress)
	}
	return egress, second
}

// keepsEgress says that the present egress is to go on: it lives, or it has
// just gone and its second did not say that it took over. The arbiter's own
// node gives the role to another, but not from under a session.
func (a *Arbitrator) keepsEgress(view *registry.State, p registry.Part, able []identity.NodeID) bool {
	if p.Egress == a.self && len(able) >= 3 && able[0] != a.self && !leased(view, p) {
		return false
	}
	if !a.mayEgress(view, p, p.Egress) || a.goneFor(p.Egress, EgressGrace) {
		return false
	}
	h := a.hosts[p.Egress]
	return !a.watch(p).taken || h == nil || h.up
}

// leased says that an active session has its address from the part.
func leased(view *registry.State, p registry.Part) bool {
	for _, s := range view.Sessions {
		if s.State == registry.SessionActive && slices.ContainsFunc(s.Leases, p.Contains) {
			return true
		}
	}
	return false
}

// mayEgress says that a node may face the inside network for the clients of a
// part.
func (a *Arbitrator) mayEgress(view *registry.State, p registry.Part, id identity.NodeID) bool {
	node := view.Nodes[id]
	return node != nil && mayCarry(node) && node.Inside.IsValid() && (attached(node, p) || nowhere(view, p))
}

// attached says that a node's neighbours are those who ask for the part's moving
// addresses. Behind a router nobody would hear it say that it has them.
func attached(node *registry.Node, p registry.Part) bool {
	return !slices.ContainsFunc(p.Insides(), func(inside netip.Addr) bool { return !node.Attached(inside) })
}

// nowhere says that no member is attached to where the part's moving addresses
// are: then its operator has other means.
func nowhere(view *registry.State, p registry.Part) bool {
	for _, node := range view.Nodes {
		if !node.Removed && attached(node, p) {
			return false
		}
	}
	return true
}

// egressesByLoad is the nodes that may be the part's egress and have a stream, the one
// with the fewest parts first; the arbiter's own last while two others can.
func (a *Arbitrator) egressesByLoad(view *registry.State, part registry.Part) []identity.NodeID {
	parts := map[identity.NodeID]int{}
	for _, p := range view.Parts {
		parts[p.Egress]++
	}
	var able []identity.NodeID
	for id := range view.Nodes {
		if h := a.hosts[id]; h != nil && h.up && a.mayEgress(view, part, id) {
			able = append(able, id)
		}
	}
	enough := len(able) >= 3
	slices.SortFunc(able, func(x, y identity.NodeID) int {
		return cmp.Or(
			compareBool(enough && x == a.self, enough && y == a.self),
			cmp.Compare(parts[x], parts[y]),
			cmp.Compare(a.hosts[x].used, a.hosts[y].used),
			cmp.Compare(view.Nodes[x].Index, view.Nodes[y].Index))
	})
	return able
}

// pick is the favourite if it is able, else the first who is not excluded.
func pick(able []identity.NodeID, favourite, excluded identity.NodeID) identity.NodeID {
	if slices.Contains(able, favourite) {
		return favourite
	}
	for _, id := range able {
		if id != excluded {
			return id
		}
	}
	return identity.NodeID{}
}

// takeover believes a second only when the arbiter has lost the egress too.
func (a *Arbitrator) takeover(view *registry.State, e Takeover) {
	for _, p := range view.Parts {
		if p.Prefix != e.Part || p.Second != e.Node {
			continue
		}
		a.watch(p).taken = true
		if h := a.hosts[p.Egress]; h != nil && h.up {
			a.alert("node %s took %v over, but its egress %s is connected", name(view, e.Node), p.Prefix, name(view, p.Egress))
		}
	}
	a.tendParts(view)
}

func (a *Arbitrator) moveOutcome(view *registry.State, c *registry.MovePart, r registry.Result) {
	if w := a.parts[c.Prefix.String()]; w != nil {
		w.proposal = 0
	}
	if !ok(r) && !stale(r) {
		a.alert("part %v can't be moved: %s %s", c.Prefix, r.Code, r.Detail)
	}
}

// name is a node's name for the operator's eyes.
func name(view *registry.State, id identity.NodeID) string {
	if node := view.Nodes[id]; node != nil && node.Name != "" {
		return node.Name
	}
	return id.Short()
}
