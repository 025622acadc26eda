package session

import (
	"cmp"
	"slices"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// tendRoles has every connected node do the data roles it may: it never takes
// one away, and what a node is beside them stays.
func (a *Arbitrator) tendRoles(view *registry.State) {
	a.rolesDue = false
	const data = registry.RoleGateway | registry.RoleAgent
	for _, node := range view.Members() {
		h := a.host(node.ID)
		if h.up && !node.Drained && h.roles == 0 && node.May&data&^node.Is != 0 {
			h.roles = a.propose(registry.Command{SetRoles: &registry.SetRoles{ID: node.ID, Is: node.Is | node.May&data}})
			a.rolesDue = a.rolesDue || h.roles == 0
		}
	}
}

// drain withdraws a node's data roles, or gives them back.
func (a *Arbitrator) drain(view *registry.State, e Drain) {
	node := view.Nodes[e.Node]
	if node == nil || node.Drained == e.On {
		return
	}
	h := a.host(e.Node)
	h.roles = a.propose(registry.Command{SetRoles: &registry.SetRoles{ID: e.Node, Is: node.Is, Drained: e.On}})
}

func (a *Arbitrator) rolesOutcome(view *registry.State, c *registry.SetRoles, r registry.Result) {
	a.host(c.ID).roles, a.rolesDue = 0, true
	if !ok(r) {
		a.alert("roles of node %s can't be changed: %s %s", name(view, c.ID), r.Code, r.Detail)
	}
}

// tendDrained says once when a drained node holds nothing any more.
func (a *Arbitrator) tendDrained(view *registry.State) {
	var done []*registry.Node
	for id := range a.draining {
		if node := view.Nodes[id]; node != nil && !a.holds(view, id) {
			a.host(id).drainedTold = true
			delete(a.draining, id)
			done = append(done, node)
		}
	}
	slices.SortFunc(done, func(x, y *registry.Node) int { return cmp.Compare(x.Index, y.Index) })
	for _, node := range done {
		a.emit(NodeDrained{node.ID})
	}
}

// Has is how many sessions have a slice or an old epoch at a node.
func (a *Arbitrator) Has(view *registry.State, id identity.NodeID) (n int) {
	for session := range a.on[id] {
		if s := active(view, session); s != nil && isOn(s, id) {
			n++
		}
	}
	return n
}

// holds is Holds by the sessions that are entered with the node.
func (a *Arbitrator) holds(view *registry.State, id identity.NodeID) bool {
	for session := range a.on[id] {
		if s := active(view, session); s != nil && isOn(s, id) {
			return true
		}
	}
	return egresses(view, id)
}

// Holds says that a node still owns a slice, keeps an old epoch or is egress.
func Holds(view *registry.State, id identity.NodeID) bool {
	for _, s := range view.Sessions.Active() {
		if isOn(s, id) {
			return true
		}
	}
	return egresses(view, id)
}

// egresses says that a node is egress or second of a part.
func egresses(view *registry.State, id identity.NodeID) bool {
	return slices.ContainsFunc(view.Parts, func(p registry.Part) bool { return p.Egress == id || p.Second == id })
}

// isOn says that a node owns a slice of a session, or keeps an old epoch.
func isOn(s *registry.Session, id identity.NodeID) bool {
	owns := func(sl registry.Slice) bool { return sl.Agent == id && sl.State != registry.SliceVoid }
	return slices.ContainsFunc(s.Slices, owns) || slices.ContainsFunc(s.Retiring, func(sl registry.Slice) bool { return sl.Agent == id })
}
