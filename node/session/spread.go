package session

import (
	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// A session of unknown bandwidth has one slice on every node that is able and
// no second one on any: two slices on one node carry no more than one. When an
// agent is lost and nobody else is free, its slice stays void, which is called
// vacant here, until there is a node for it. The number is not dropped, because
// its epochs must go on from where they were (I3).
//
// A session of known bandwidth needs its share carried, so a lost slice goes to
// a sibling's node meanwhile; spread moves it on when a node is free.

// ableNodes is how many slices a session of unknown bandwidth is to have: one
// for each node that carries one already or has room for one. The arbiter's
// own node counts only while it carries one, or is needed.
func (a *Arbitrator) ableNodes(view *registry.State, s *registry.Session) int {
	able := map[identity.NodeID]bool{}
	for _, c := range a.eligible(view, s) {
		if c.room() && !c.last {
			able[c.node.ID] = true
		}
	}
	for _, sl := range s.Slices {
		known, h := a.slot(s.ID, sl.Number), a.hosts[sl.Agent]
		failed := (known.condemned && known.epoch == sl.Epoch) || (h != nil && h.seen && !h.up)
		if !sl.Spare && !failed && a.owned(view, sl) && mayCarry(view.Nodes[sl.Agent]) {
			able[sl.Agent] = true
		}
	}
	return min(max(len(able), 1), sliceLimit(view.Policy))
}

// carried is how many slices, spares and one number aside, somebody living
// owns, or is about to by a grant under way.
func (a *Arbitrator) carried(view *registry.State, s *registry.Session, except int) int {
	n := 0
	for _, sl := range s.Slices {
		known := a.slot(s.ID, sl.Number)
		granted := a.proposals[known.proposal].grants(sl.Number) != nil
		condemned := known.condemned && known.epoch == sl.Epoch
		if !sl.Spare && int(sl.Number) != except && (granted || (a.owned(view, sl) && !condemned)) {
			n++
		}
	}
	for _, sl := range a.coming(s) {
		if !sl.Spare {
			n++
		}
	}
	return n
}

// superfluous says that a session of unknown bandwidth has slices enough
// without this one. Where its spare is to become a slice, that is enough.
func (a *Arbitrator) superfluous(view *registry.State, s *registry.Session, sl registry.Slice) bool {
	return a.enough(view, s, sl, a.carried(view, s, int(sl.Number)))
}

// enough is superfluous beside so many others.
func (a *Arbitrator) enough(view *registry.State, s *registry.Session, sl registry.Slice, others int) bool {
	if s.Bandwidth != 0 || sl.Spare {
		return false
	}
	if spare := spareOf(s); spare != nil && spare.State != registry.SliceVoid && others > 0 {
		others++
	}
	return others >= a.ableNodes(view, s)
}

// vacant says that a slice is void because there is no node for it.
func (a *Arbitrator) vacant(view *registry.State, s *registry.Session, sl registry.Slice) bool {
	return sl.State == registry.SliceVoid && a.superfluous(view, s, sl)
}

// spread takes one slice from a node that has two of the session: it moves to
// a free node, make before break, or becomes vacant where two are no use. It
// says whether two are on one node at all. Not twice in MoveHold.
func (a *Arbitrator) spread(view *registry.State, s *registry.Session) (doubled bool) {
	held := a.slicesByNode(s, everySlice)
	for _, sl := range s.Slices {
		if sl.Spare || sl.State == registry.SliceVoid || held[sl.Agent].main < 2 {
			continue
		}
		known := a.slot(s.ID, sl.Number)
		c := a.choose(view, s, sl.Number, false)
		free := c != nil && c.room() && !c.last && held[c.node.ID].main == 0
		doubled = doubled || free || s.Bandwidth == 0
		switch {
		case known.proposal != 0 || (known.moved && a.now-known.movedAt < MoveHold) || retiring(s, sl.Number):
			continue
		case free && a.moves.take(a.now):
			a.grant(view, s, sl, c, true)
			return true
		case !free && a.superfluous(view, s, sl) && a.moves.take(a.now):
			a.mark(s, known, sl, registry.SliceVoid)
			return true
		}
	}
	return doubled
}
