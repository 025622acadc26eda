package session

import (
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// look looks after one active session: what nobody living owns is granted
// elsewhere, what is proven is committed, what is too little grows. Whatever it leaves
// for later it notes in l, or nobody looks again.
func (a *Arbitrator) look(view *registry.State, s *registry.Session, l *live) {
	if l.end == nil && !l.attached {
		abandoned := max(l.since, l.parked) + headless(view) + AbandonAfter
		if l.again(abandoned); a.now >= abandoned {
			l.end = &End{Session: s.ID, Reason: "client gone for longer than headless"}
		}
	}
	if l.end != nil {
		a.proposeEnd(l)
		return
	}
	for _, sl := range s.Slices {
		a.tendSlice(view, s, l, sl)
	}
	for _, old := range s.Retiring {
		a.tendRetiring(view, s, l, old)
	}
	a.grow(view, s, l)
	a.reweigh(view, s, l)
	a.tendOpening(s, l)
}

func headless(view *registry.State) time.Duration {
	return time.Duration(view.Headless()) * time.Second
}

// tendSlice does the one thing that the present epoch of a slice needs most.
func (a *Arbitrator) tendSlice(view *registry.State, s *registry.Session, l *live, sl registry.Slice) {
	known := a.slot(s.ID, sl.Number)
	known.follow(sl)
	if sl.State == registry.SliceUp && !known.settled {
		known.recover(a.now)
	}
	a.againWhenGone(l, sl)
	if known.proposal != 0 {
		return
	}
	granted := sl.State == registry.SliceGranted
	switch {
	case known.condemned || !a.owned(view, sl):
		a.refill(view, s, l, sl)
	case granted && known.heard && !a.gather(s, l):
		a.mark(s, known, sl, registry.SliceUp)
	case granted && known.heard:
	case granted && !l.attached:
		a.callParked(l) // it left while the grant was on its way
	case granted && l.attached && a.overdue(known, sl.Agent):
		known.fail(a.now, sl.Agent)
		a.refill(view, s, l, sl)
	case granted && l.attached && known.phase == untold:
		a.refill(view, s, l, sl) // committed, but not by a proposal of this term
	case !mayCarry(view.Nodes[sl.Agent]):
		a.move(view, s, l, sl)
	}
	if until := a.patience(known, sl.Agent); granted && a.now < until {
		l.again(until)
	}
}

// againWhenGone notes when the slice's agent, which is away, counts as gone.
func (a *Arbitrator) againWhenGone(l *live, sl registry.Slice) {
	if at := a.goneAt(sl.Agent, NodeGone); sl.State != registry.SliceVoid && at > a.now {
		l.again(at)
	}
}

// awaitAgent notes what a slice waits for that finds no agent, or needs none: that
// others are able, or that it is no longer kept away from one.
func (a *Arbitrator) awaitAgent(l *live, known *slot) {
	l.wants = true
	for _, f := range known.tried {
		if f.until > a.now {
			l.again(f.until)
		}
	}
}

// overdue says that the agent did not answer, or the client did not bring the
// slice up.
func (a *Arbitrator) overdue(known *slot, agent identity.NodeID) bool {
	return (known.phase == asked || known.phase == offered) && a.now >= a.patience(known, agent)
}

// patience is until when a slice that was granted is waited for. An agent takes grants
// in their order: as long as it answers others it is at work, and what it has begun is not
// thrown away, to be begun elsewhere by agents that are as busy.
func (a *Arbitrator) patience(known *slot, agent identity.NodeID) time.Duration {
	h := a.hosts[agent]
	if known.phase != asked || h == nil || !h.up {
		return known.deadline
	}
	return max(known.deadline, min(h.acked+AckTimeout, known.deadline+AckMost))
}

// refill grants a slice elsewhere at its next epoch. Without a client to take
// it, or without an agent to give it to, it is void until there is one. But one that
// waits for MoveHold stays with its agent for a while.
func (a *Arbitrator) refill(view *registry.State, s *registry.Session, l *live, sl registry.Slice) {
	known := a.slot(s.ID, sl.Number)
	var c *candidate
	until := known.retryAt
	stays := a.stays(view, s, known, sl)
	if stays {
		l.again(known.staysUntil)
	}
	if (sl.State == registry.SliceVoid || a.owned(view, sl)) && a.siblingUp(view, s, sl.Number) {
		until = max(until, known.holdUntil)
	}
	held := a.now < until
	if held {
		l.again(until)
	}
	if l.attached || l.callable() { // else it waits for its client, whatever nodes are able to do
		a.awaitAgent(l, known)
	}
	if l.attached && !held && !a.superfluous(view, s, sl) {
		if c = a.choose(view, s, sl.Number, sl.Spare); c != nil && !a.refills.take(a.now) {
			l.again(a.refills.renewed())
			return
		}
		if l.first && !l.answered {
			l.again(a.now) // it may wait for room, which is a matter of each moment
		}
		if c == nil && !known.alerted {
			known.alerted = true
			a.noteBare(s.Client, sl.Number)
		}
	}
	if !held {
		a.callToRefill(view, s, l, sl)
	}
	if c == nil {
		if sl.State != registry.SliceVoid && !stays {
			a.mark(s, known, sl, registry.SliceVoid)
		}
		return
	}
	a.grant(view, s, sl, c, false)
}

// move grants the slice of a node that is drained, or no agent any more,
// elsewhere while the old epoch goes on: make before break. Not twice in
// MoveHold. Where the others are all there can be it becomes vacant: its agent
// opens and seals until nobody sends it anything any more.
func (a *Arbitrator) move(view *registry.State, s *registry.Session, l *live, sl registry.Slice) {
	known := a.slot(s.ID, sl.Number)
	if known.moved && a.now-known.movedAt < MoveHold {
		l.again(known.movedAt + MoveHold)
		return
	}
	if !l.attached && !l.callable() || retiring(s, sl.Number) {
		return
	}
	a.awaitAgent(l, known)
	enough := a.superfluous(view, s, sl)
	c := a.choose(view, s, sl.Number, sl.Spare)
	switch {
	case !enough && c == nil:
	case !l.attached:
		a.callParked(l)
	case !a.moves.take(a.now):
		l.again(a.moves.renewed())
	case enough:
		a.mark(s, known, sl, registry.SliceVoid)
	default:
		a.grant(view, s, sl, c, sl.State == registry.SliceUp)
	}
}

// grant proposes the epoch after sl for another agent.
func (a *Arbitrator) grant(view *registry.State, s *registry.Session, sl registry.Slice, c *candidate, retire bool) {
	next := a.next(view, s, sl, c)
	known := a.slot(s.ID, sl.Number)
	a.proposeAbout(known, formerOf(sl), registry.Command{GrantSlice: &registry.GrantSlice{
		Session: s.ID, Slice: next, Retire: retire,
	}})
	if known.proposal == 0 {
		a.giveBack(a.pools, []registry.Slice{next}, true)
	}
}

// next is the epoch after sl for another agent, whose prekey it spends.
func (a *Arbitrator) next(view *registry.State, s *registry.Session, sl registry.Slice, c *candidate) registry.Slice {
	next := a.grantTo(c, a.weightBeside(view, s, sl.Number, c), s, sl.Number, view.NextEpoch(sl.Epoch), mains(s))
	next.Class, next.Suite, next.Spare = sl.Class, sl.Suite, sl.Spare
	return next
}

// tendRetiring frees an older epoch: at once when its owner is dead or its slice
// is vacant, else RetireDelay after the newer one came up.
func (a *Arbitrator) tendRetiring(view *registry.State, s *registry.Session, l *live, old registry.Slice) {
	known := a.slot(s.ID, old.Number)
	a.againWhenGone(l, old)
	l.wants = true // where a node less is able the present epoch may be vacant
	if known.proposal != 0 {
		return
	}
	if known.settled {
		l.again(known.settledAt + RetireDelay)
	}
	present, _ := sliceOf(s, old.Number)
	if !a.owned(view, old) || a.vacant(view, s, present) || (known.settled && a.now-known.settledAt >= RetireDelay) {
		a.mark(s, known, old, registry.SliceVoid)
	}
}

func retiring(s *registry.Session, number uint8) bool {
	for _, old := range s.Retiring {
		if old.Number == number {
			return true
		}
	}
	return false
}

// mains is the number of slices that are not spare.
func mains(s *registry.Session) int {
	n := 0
	for _, sl := range s.Slices {
		if !sl.Spare {
			n++
		}
	}
	return n
}
