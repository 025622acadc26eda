package session

import (
	"github.com/meshcrypt/meshcrypt/consensus/registry"
)

// proposeAbout proposes a command about one slot, by which an epoch is over once it is
// committed.
func (a *Arbitrator) proposeAbout(known *slot, over former, c registry.Command) {
	known.proposal = a.propose(c)
	if p := a.proposals[known.proposal]; p != nil {
		p.former = over
	}
}

// sendGrant asks an agent to take an epoch that was committed in this term.
func (a *Arbitrator) sendGrant(id registry.SessionID, sl registry.Slice) {
	known := a.slot(id, sl.Number)
	known.follow(sl)
	known.phase, known.deadline = asked, a.now+AckTimeout
	a.emit(SendGrant{sl.Agent, id, sl})
}

// grantOutcome sends the grant to the new agent and tells the old one.
func (a *Arbitrator) grantOutcome(view *registry.State, c *registry.GrantSlice, p *proposal, r registry.Result) {
	s, l := active(view, c.Session), a.lives[c.Session]
	if s == nil || l == nil {
		a.giveBack(p.pools, []registry.Slice{c.Slice}, besides(r))
		return
	}
	known := a.slot(c.Session, c.Slice.Number)
	known.proposal = 0
	sl, found := sliceOf(s, c.Slice.Number)
	switch {
	case !ok(r):
		a.giveBack(p.pools, []registry.Slice{c.Slice}, besides(r))
		known.avoid(a.now, c.Slice.Agent) // or the same plan would fail at every tick
		if !stale(r) {
			known.retryAt = a.now + RetryEvery
			a.alert("slice %d of client %s can't be granted: %s %s", c.Slice.Number, s.Client, r.Code, r.Detail)
		}
		return
	case !found || sl.Epoch != c.Slice.Epoch:
		a.giveBack(p.pools, []registry.Slice{c.Slice}, false)
		return // superseded meanwhile
	}
	a.granted(s, l, sl, p.former, c.Retire)
}

// granted sends a committed epoch to its agent and, unless the one before retires, has
// that one's owner forget it.
func (a *Arbitrator) granted(s *registry.Session, l *live, sl registry.Slice, before former, retire bool) {
	known := a.slot(s.ID, sl.Number)
	known.moved, known.movedAt, known.holdUntil = true, a.now, 0
	l.toWeigh(a.now, true)
	if !retire {
		a.revoke(before, s.ID, sl.Number)
	}
	a.sendGrant(s.ID, sl)
}

// revoke reaches a node only while it has a stream; one that comes back gets
// the full list of what it holds first (design 9, Fence).
func (a *Arbitrator) revoke(over former, id registry.SessionID, number uint8) {
	if h := a.hosts[over.owner]; h != nil && h.up {
		a.emit(RevokeSlice{over.owner, id, number, over.epoch})
	}
}

// sliceAck takes an agent's answer to the grant it was asked last.
func (a *Arbitrator) sliceAck(view *registry.State, e SliceAck) {
	if h := a.hosts[e.Node]; h != nil {
		h.acked = a.now // of whatever epoch: it is at work
	}
	s := active(view, e.Session)
	sl, found := sliceOf(s, e.Number)
	if !found || sl.Epoch != e.Epoch || sl.Agent != e.Node {
		return
	}
	l, known := a.live(e.Session), a.slot(e.Session, e.Number)
	if known.epoch != e.Epoch || known.phase != asked || known.condemned {
		return
	}
	if e.Refused != "" {
		known.fail(a.now, e.Node)
		a.tend(view, s)
		return
	}
	known.phase = agreed
	if l.attached && l.answered {
		known.phase, known.deadline = offered, a.now+UpTimeout
		a.emit(SendClient{Request: l.request, Session: s.ID, What: Granted, Slices: []registry.Slice{sl}})
		return
	}
	a.tend(view, s)
}

// sliceUp remembers that the epoch is proven; tend has it committed.
func (a *Arbitrator) sliceUp(view *registry.State, e SliceUp) {
	s := active(view, e.Session)
	if sl, found := sliceOf(s, e.Number); found && sl.Epoch == e.Epoch {
		known := a.slot(e.Session, e.Number)
		known.follow(sl)
		known.heard = true
		if e.Client && known.proposal == 0 && a.stays(view, s, known, sl) {
			known.condemned = false // it is heard again, and that is not for its agent to say
			known.forgive()
		}
		a.live(e.Session).cameUp(a.now)
		a.tend(view, s)
	}
}

// sliceSilent condemns an epoch. Right after a move, and while its agent lives
// and a sibling carries the traffic, it waits for MoveHold, and stays where it is for StayFor: a
// client whose verdicts flap does not make the mesh flap. It may be the way that is silent, and the
// sibling the one that is cut off: then the client goes to another gateway, and hears the others
// again.
func (a *Arbitrator) sliceSilent(view *registry.State, e SliceSilent) {
	s := active(view, e.Session)
	sl, found := sliceOf(s, e.Number)
	if !found || sl.Epoch != e.Epoch || sl.State == registry.SliceVoid {
		return
	}
	known := a.slot(e.Session, e.Number)
	known.follow(sl)
	known.gone = known.gone || e.Gone
	if known.condemned {
		if e.Gone {
			a.tend(view, s)
		}
		return
	}
	if known.moved {
		known.holdUntil, known.staysUntil = known.movedAt+MoveHold, a.now+StayFor
	}
	known.fail(a.now, sl.Agent)
	a.tend(view, s)
}

// stays says that a slice that was up and is condemned waits for MoveHold where it is.
func (a *Arbitrator) stays(view *registry.State, s *registry.Session, known *slot, sl registry.Slice) bool {
	return known.condemned && !known.gone && a.now < min(known.holdUntil, known.staysUntil) && sl.State == registry.SliceUp &&
		a.owned(view, sl) && a.siblingUp(view, s, sl.Number)
}

// siblingUp says that another slice carries the session, as far as is known.
func (a *Arbitrator) siblingUp(view *registry.State, s *registry.Session, except uint8) bool {
	for _, sl := range s.Slices {
		known := a.slot(s.ID, sl.Number)
		condemned := known.condemned && known.epoch == sl.Epoch
		if sl.Number != except && sl.State == registry.SliceUp && a.owned(view, sl) && !condemned {
			return true
		}
	}
	return false
}
