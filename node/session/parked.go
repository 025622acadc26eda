package session

import (
	"slices"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
)

// A parked session has no client attached, and its client says to agents that it comes
// when it is called (node/DESIGN.md, "Parked clients"). So it is one whose client is
// away, but for two things: its time runs from when an agent last heard that, and who
// would grant it something calls it instead.

// park lets a client go of whose session nothing is under way, and nothing is to be moved
// as soon as it may be.
func (a *Arbitrator) park(view *registry.State, e Park) {
	l := a.attached[e.Request]
	if l == nil || !l.answered || l.end != nil || l.resuming != 0 {
		return
	}
	s := active(view, l.id)
	if s == nil || len(s.Retiring) > 0 || !a.settled(view, s, l) || leaves(view, s) {
		return
	}
	l.parked = a.now
	a.emit(SendClient{Request: e.Request, Session: l.id, What: Parked})
}

// leaves says that a slice of the session is at a node that gives its slices away.
func leaves(view *registry.State, s *registry.Session) bool {
	return slices.ContainsFunc(s.Slices, func(sl registry.Slice) bool {
		return sl.State != registry.SliceVoid && !mayCarry(view.Nodes[sl.Agent])
	})
}

// hearParked notes whose clients were heard to be parked. What an agent heard of a client
// that is back was said before.
func (a *Arbitrator) hearParked(e Heard) {
	for _, id := range e.Parked {
		l := a.lives[id]
		if l == nil || l.attached {
			continue
		}
		if l.parked == 0 {
			a.soon(l) // it may have to be called
		}
		l.parked = max(l.parked, a.now-e.Ago[id])
	}
}

// callParked has a parked client come, once; whoever calls it goes on until it does.
func (a *Arbitrator) callParked(l *live) {
	if l.callable() {
		l.called = true
		a.emit(CallClient{l.id})
	}
}

// callable says that a client is parked and was not called yet.
func (l *live) callable() bool { return !l.attached && l.parked != 0 && !l.called }

// callToRefill calls a client that there is a slice for. What that takes of the budgets it
// takes when the client is there; until then it has its siblings, which rest.
func (a *Arbitrator) callToRefill(view *registry.State, s *registry.Session, l *live, sl registry.Slice) {
	if l.callable() && !a.superfluous(view, s, sl) && a.choose(view, s, sl.Number, sl.Spare) != nil {
		a.callParked(l)
	}
}

// back notes that a client is attached.
func (l *live) back() { l.parked, l.called = 0, false }
