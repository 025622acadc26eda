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
	const data = registry.RoleGateway | registry.RoleAgent
	for _, node := range view.Members() {
		h := a.host(node.ID)
		if h.up && !node.Drained && h.roles == 0 && node.May&data&^node.Is != 0 {
			h.roles = a.propose(registry.Command{SetRoles: &registry.SetRoles{ID: node.ID, Is: node.Is | node.May&data}})
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
	a.host(c.ID).roles = 0
	if !ok(r) {
		a.alert("roles of node %s can't be changed: %s %s", name(view, c.ID), r.Code, r.Detail)
	}
}

// tendDrained says once when a drained node holds nothing any more.
func (a *Arbitrator) tendDrained(view *registry.State) {
	var done []*registry.Node
	for id, node := range view.Nodes {
		switch h := a.host(id); {
		case !node.Drained:
			h.drainedTold = false
		case !h.drainedTold && !Holds(view, id):
			h.drainedTold = true
			done = append(done, node)
		}
	}
	slices.SortFunc(done, func(x, y *registry.Node) int { return cmp.Compare(x.Index, y.Index) })
	for _, node := range done {
		a.emit(NodeDrained{node.ID})
	}
}

// Holds says that a node still owns a slice, keeps an old epoch or is egress.
func Holds(view *registry.State, id identity.NodeID) bool {
	for _, p := range view.Parts {
		if p.Egress == id || p.Second == id {
			return true
		}
	}
	for _, s := range view.Sessions {
		if s.State != registry.SessionActive {
			continue
		}
		for _, sl := range s.Slices {
			if sl.Agent == id && sl.State != registry.SliceVoid {
				return true
			}
		}
		if slices.ContainsFunc(s.Retiring, func(sl registry.Slice) bool { return sl.Agent == id }) {
			return true
		}
	}
	return false
}
