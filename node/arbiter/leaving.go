package arbiter

import (
	"context"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/node/protocol"
	"github.com/meshcrypt/meshcrypt/node/session"
)

// leaver is a member on its way out. It is drained first; what it carried
// lingers until the last packet on its way has come; then its vote goes; then
// its key is refused. If this term ends before, the node asks the next arbiter.
type leaver struct {
	since    time.Duration
	least    int           // sessions that it had at least at a time
	moved    time.Duration // when it last had fewer than ever before
	emptyAt  time.Duration // since when it holds nothing; 0 while it holds something
	removing bool          // RemoveNode without outcome
}

// beginLeave starts a member's way out; asking again changes nothing.
func (a *Arbiter) beginLeave(id identity.NodeID) {
	if a.leavers[id] != nil || !a.listed(id) {
		return
	}
	now := a.config.Now()
	l := &leaver{since: now, moved: now}
	a.config.Store.View(func(s *registry.State) { l.least = a.judge.Has(s, id) })
	a.leavers[id] = l
	a.config.Log.Info("node is leaving", "node", a.nodeName(id))
	a.step(session.Drain{Node: id, On: true})
}

// tendLeavers takes each leaver its next step.
func (a *Arbiter) tendLeavers() {
	now := a.config.Now()
	for id, l := range a.leavers {
		if a.nodes[id] == nil {
			delete(a.leavers, id) // its daemon stopped; it is a drained member when it is back
			continue
		}
		holds := false
		a.config.Store.View(func(s *registry.State) {
			holds = session.Holds(s, id)
			l.has(a.judge.Has(s, id), now)
		})
		switch {
		case holds:
			l.emptyAt = 0
		case l.emptyAt == 0:
			l.emptyAt = now
		}
		empty := l.emptyAt != 0 && now-l.emptyAt >= LeaveLinger
		if l.removing || !(empty || l.overdue(now)) || a.inRaft(id) {
			continue
		}
		l.removing = true
		a.removeNode(id)
	}
}

// has notes how many sessions the leaver has still.
func (l *leaver) has(sessions int, now time.Duration) {
	if sessions < l.least {
		l.least, l.moved = sessions, now
	}
}

// overdue says that nothing more can be moved from the leaver, or that it took very long.
// Thousands of sessions are moved one after the other, and each whose client is parked
// has to be called first.
func (l *leaver) overdue(now time.Duration) bool {
	return now-l.moved >= LeaveWithin || now-l.since >= LeaveMost
}

func (a *Arbiter) inRaft(id identity.NodeID) bool {
	for _, server := range a.config.Store.Servers() {
		if server.ID == id {
			return true
		}
	}
	return false
}

// readyToLeave says that a leaver's vote may go: it carries nothing any more.
func (a *Arbiter) readyToLeave(id identity.NodeID) bool {
	l := a.leavers[id]
	return l != nil && (l.emptyAt != 0 || l.overdue(a.config.Now()))
}

// overdue says that a leaver has waited long enough for a successor.
func (a *Arbiter) overdue() bool {
	for _, l := range a.leavers {
		if l.overdue(a.config.Now()) {
			return true
		}
	}
	return false
}

// removeNode ends a membership and tells the node.
func (a *Arbiter) removeNode(id identity.NodeID) {
	a.submit(proposal{
		command: registry.Command{ID: a.commandID(), RemoveNode: &registry.RemoveNode{ID: id}},
		done: func(r registry.Result, err error) {
			n, l := a.nodes[id], a.leavers[id]
			switch {
			case err != nil || r.Code != "":
				if l != nil {
					l.removing = false
				}
			case n != nil:
				n.Say(&protocol.Node{Left: &protocol.Leave{Reason: "left"}})
				a.pushViews()
			}
		},
	})
}

// Leaving lets a member, by its own wish, hand everything on and be removed.
func (a *Arbiter) Leaving(ctx context.Context, id identity.NodeID) error {
	return a.ask(ctx, func() { a.beginLeave(id) })
}

// Holds says whether a node still has slices, old epochs or a part of the pool.
func (a *Arbiter) Holds(ctx context.Context, id identity.NodeID) (holds bool, err error) {
	err = a.ask(ctx, func() {
		a.config.Store.View(func(s *registry.State) { holds = session.Holds(s, id) })
	})
	return holds, err
}

// Heir says whether somebody connected could be arbiter in a node's place: of the
// servers of the log those whose Raft port answers, and who may still become one.
func (a *Arbiter) Heir(ctx context.Context, id identity.NodeID) (found bool, err error) {
	err = a.ask(ctx, func() {
		a.config.Store.View(func(s *registry.State) {
			for _, n := range s.Members() {
				_, leaving := a.leavers[n.ID]
				found = found || (n.ID != id && !leaving && n.May&registry.RoleVoter != 0 && a.nodes[n.ID] != nil && !a.passedOver(n.ID) && !a.tooOld(n.ID) &&
					a.replicas[n.ID].standing != unanswered)
			}
		})
	})
	return found, err
}
