package session

import "github.com/meshcrypt/meshcrypt/consensus/registry"

// end ends a session once; what for, the first who says so decides.
func (a *Arbitrator) end(view *registry.State, e End) {
	if active(view, e.Session) == nil {
		return
	}
	l := a.live(e.Session)
	if l.end == nil {
		l.end = &e
	}
	a.soon(l)
	a.proposeEnd(l)
}

func (a *Arbitrator) proposeEnd(l *live) {
	if l.ending == 0 {
		l.ending = a.propose(registry.Command{EndSession: &registry.EndSession{
			Session: l.end.Session, Reason: l.end.Reason, Bytes: l.end.Bytes,
		}})
	}
}

func (a *Arbitrator) endOutcome(view *registry.State, c *registry.EndSession, r registry.Result) {
	l := a.lives[c.Session]
	if l == nil {
		return
	}
	l.ending = 0
	if active(view, c.Session) == nil {
		a.forget(view, c.Session)
		return
	}
	l.end = nil
	a.alert("session of client %s can't be ended: %s %s", view.Sessions.Get(c.Session).Client, r.Code, r.Detail)
}

// forget tells agents and client that a session is over and drops what this
// term knows of it.
func (a *Arbitrator) forget(view *registry.State, id registry.SessionID) {
	l, s := a.lives[id], view.Sessions.Get(id)
	if l == nil {
		return
	}
	delete(a.lives, id)
	a.schedule(l, never)
	a.leave(l)
	if a.attached[l.request] == l {
		delete(a.attached, l.request)
	}
	a.partsDue = true // it may have been the last of its part
	if s == nil || s.Bandwidth > 0 {
		a.release(id)
	}
	l.called = false
	a.callParked(l) // ahead of the revocations, which end what it is called by
	reason := "session is over"
	if s != nil {
		reason = s.Reason
		for _, sl := range s.Slices {
			a.revoke(former{sl.Agent, sl.Epoch}, id, sl.Number)
		}
		for _, old := range s.Retiring {
			a.revoke(former{old.Agent, old.Epoch}, id, old.Number)
		}
	}
	if l.attached {
		a.emit(SendClient{Request: l.request, Session: id, What: Ended, Reason: reason})
	}
}
