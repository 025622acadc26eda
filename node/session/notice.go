package session

import (
	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// notice takes over what the registry changed, whoever proposed it.
func (a *Arbitrator) notice(view *registry.State) {
	touched, mark := view.Touched(a.seen)
	a.seen = mark
	if touched.All {
		a.noticeAll(view)
		return
	}
	for _, id := range touched.Sessions {
		switch {
		case active(view, id) != nil:
			a.soon(a.live(id))
		case a.lives[id] != nil:
			a.over, a.partsDue = append(a.over, id), true
		}
	}
	for _, id := range touched.Nodes {
		a.stirNode(id)
		a.noticeNode(view, id)
	}
	if touched.Mesh {
		a.stirAll(view)
		a.partsDue = true
	}
}

func (a *Arbitrator) noticeAll(view *registry.State) {
	for id := range a.lives {
		if active(view, id) == nil {
			a.over = append(a.over, id)
		}
	}
	for id := range view.Nodes {
		a.noticeNode(view, id)
	}
	a.stirAll(view)
	a.rolesDue, a.partsDue = true, true
}

func (a *Arbitrator) noticeNode(view *registry.State, id identity.NodeID) {
	h, node := a.host(id), view.Nodes[id]
	a.doubt(id)
	a.rolesDue, a.partsDue = true, true
	drained := node != nil && node.Drained && !node.Removed // who left was drained, and told of then
	if h.drainedTold = h.drainedTold && drained; drained && !h.drainedTold {
		a.draining[id] = struct{}{}
	} else {
		delete(a.draining, id)
	}
}

// supply is what decides whether a node can be given a slice, but for how much of one
// and what a session holds against it. A session that found nobody, or needs nobody,
// finds the same until the supply of some node changes.
type supply struct{ up, prekeys, carries, broken, room bool }

func (a *Arbitrator) supplyOf(view *registry.State, id identity.NodeID) supply {
	h, node := a.hosts[id], view.Nodes[id]
	if h == nil || node == nil {
		return supply{}
	}
	return supply{
		up: h.up, prekeys: len(h.prekeys) > 0, carries: mayCarry(node), broken: h.sound == Broken,
		room: h.free(a.now, node, registry.SessionID{}) >= MinRoom,
	}
}

// doubt has a node's supply reviewed.
func (a *Arbitrator) doubt(id identity.NodeID) { a.doubted = append(a.doubted, id) }

// reviewSupply makes due what waits for a change of supply, and says whether there is one.
func (a *Arbitrator) reviewSupply(view *registry.State) (changed bool) {
	doubted := a.doubted
	a.doubted = nil
	for _, id := range doubted {
		if h, now := a.host(id), a.supplyOf(view, id); h.supply != now {
			h.supply, changed = now, true
		}
	}
	if !changed {
		return false
	}
	for _, l := range a.lives {
		switch {
		case l.wants:
			a.soon(l)
		case l.sated && l.due > a.now:
			l.catchUp(a.ticked)
			a.schedule(l, min(l.due, max(l.growAt, a.now)))
		}
	}
	return true
}

// doubtReserved has nodes reviewed while capacity is reserved: that ends by itself.
func (a *Arbitrator) doubtReserved() {
	if a.reservedUntil == 0 {
		return
	}
	for id := range a.hosts {
		a.doubt(id)
	}
	if a.now >= a.reservedUntil {
		a.reservedUntil = 0
	}
}
