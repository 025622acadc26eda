package session

import (
	"bytes"
	"container/heap"
	"math"
	"slices"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// A tick looks at the sessions that are due and at no other: ten thousand of which
// nothing is to be done cost nothing. Looking at one that is not due would do nothing,
// so the actions are those of a look at all of them. Due is a session
//   - of which the registry changed anything, or an event said something;
//   - that is on a node of which either is true;
//   - at the earliest of the times that its last look left something for;
//   - that waits for an agent, when another node is able, or one is no longer;
//   - whichever it is, when policy or parts changed, or more than can be listed did.

// never is when a session is due that waits for no time.
const never = time.Duration(math.MaxInt64)

// unqueued is the place of a session that is not in the queue.
const unqueued = -1

// queue is the sessions by when they are due, the earliest first.
type queue []*live

// Len, Less, Swap, Push and Pop are container/heap's.
func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].due < q[j].due }
func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].place, q[j].place = i, j
}

// Push appends.
func (q *queue) Push(l any) {
	l.(*live).place = len(*q)
	*q = append(*q, l.(*live))
}

// Pop takes the last.
func (q *queue) Pop() any {
	last := len(*q) - 1
	l := (*q)[last]
	(*q)[last], l.place = nil, unqueued
	*q = (*q)[:last]
	return l
}

// schedule puts a session where its due time belongs.
func (a *Arbitrator) schedule(l *live, due time.Duration) {
	l.due = due
	switch {
	case l.place == unqueued && due == never:
	case l.place == unqueued:
		heap.Push(&a.queue, l)
	case due == never:
		heap.Remove(&a.queue, l.place)
	default:
		heap.Fix(&a.queue, l.place)
	}
}

// soon has the next tick look at a session.
func (a *Arbitrator) soon(l *live) {
	if l.due > a.now {
		a.schedule(l, a.now)
	}
}

// stir is soon for a session that may be unknown.
func (a *Arbitrator) stir(id registry.SessionID) {
	if l := a.lives[id]; l != nil {
		a.soon(l)
	}
}

// stirNode stirs the sessions on a node.
func (a *Arbitrator) stirNode(id identity.NodeID) {
	for session := range a.on[id] {
		a.stir(session)
	}
}

// stirAll stirs every active session, those too that this term has not seen yet.
func (a *Arbitrator) stirAll(view *registry.State) {
	for id := range view.Sessions.Active() {
		a.soon(a.live(id))
	}
}

// takeDue is the sessions that are due, by their IDs, so that the same inputs give the
// same actions. after is the one that was looked at last in this tick: those before it
// wait for the next.
func (a *Arbitrator) takeDue(after *live) (list []*live) {
	var early []*live
	for len(a.queue) > 0 && a.queue[0].due <= a.now {
		l := heap.Pop(&a.queue).(*live)
		if after != nil && compareLives(l, after) <= 0 {
			early = append(early, l)
		} else {
			list = append(list, l)
		}
	}
	for _, l := range early {
		heap.Push(&a.queue, l)
	}
	slices.SortFunc(list, compareLives)
	return list
}

func compareLives(x, y *live) int { return bytes.Compare(x.id[:], y.id[:]) }

// tendDue looks at what is due. What that takes of the nodes' supply may make others
// due in the same tick.
func (a *Arbitrator) tendDue(view *registry.State) {
	for list := a.takeDue(nil); len(list) > 0; {
		l := list[0]
		if list = list[1:]; active(view, l.id) == nil {
			continue // tendEnded forgets it
		}
		a.tend(view, view.Sessions.Get(l.id))
		if a.reviewSupply(view) {
			list = append(list, a.takeDue(l)...)
			slices.SortFunc(list, compareLives)
		}
	}
}

// tend looks at one active session, and notes when to do so again. Where something was
// done there may be more to do.
func (a *Arbitrator) tend(view *registry.State, s *registry.Session) {
	l, said, marked := a.live(s.ID), len(a.out), len(a.marks.list)
	a.looks++
	l.catchUp(a.ticked)
	l.wait, l.wants, l.sated, a.crowded = never, false, false, false
	a.look(view, s, l)
	if len(a.out) != said || len(a.marks.list) != marked || a.crowded {
		l.wait, l.sated = a.now, false
	}
	a.enter(s, l)
	a.schedule(l, l.wait)
}

// again notes a time at which a session is to be looked at.
func (l *live) again(at time.Duration) { l.wait = min(l.wait, at) }

// enter notes the nodes that a session is on.
func (a *Arbitrator) enter(s *registry.Session, l *live) {
	var room [2 * usual]identity.NodeID
	agents := agentsOf(s, room[:0])
	if l.agents.Are(agents) {
		return
	}
	a.leave(l)
	l.agents = identity.SeveralOf(agents)
	for _, id := range agents {
		if a.on[id] == nil {
			a.on[id] = map[registry.SessionID]struct{}{}
		}
		a.on[id][l.id] = struct{}{}
	}
}

// leave takes a session off the nodes that it was on.
func (a *Arbitrator) leave(l *live) {
	for _, id := range l.agents.All() {
		if delete(a.on[id], l.id); len(a.on[id]) == 0 {
			delete(a.on, id)
		}
	}
	l.agents = ""
}

// agentsOf appends the owners of a session's slices, older epochs and void ones too.
func agentsOf(s *registry.Session, agents []identity.NodeID) []identity.NodeID {
	for _, list := range [][]registry.Slice{s.Slices, s.Retiring} {
		for _, sl := range list {
			if !slices.Contains(agents, sl.Agent) {
				agents = append(agents, sl.Agent)
			}
		}
	}
	return agents
}
