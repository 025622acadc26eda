package session

import (
	"fmt"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
)

// reasonOf says why the registry refused a session, in words for its client.
func reasonOf(view *registry.State, c *registry.OpenSession, r registry.Result) string {
	switch r.Code {
	case registry.ErrTooMany.Code:
		return fmt.Sprintf("%s has %d sessions open, and may have %d (policy sessions-per-client)",
			c.Session.Client, view.LivingSessions(c.Session.Client), view.Policy.Sessions)
	case registry.ErrExhausted.Code:
		return poolReason(view)
	}
	return "registry: " + string(r.Code) + " " + r.Detail
}

// refuseOpen says why the registry refused a session, and when a silent one gives
// way to it.
func (a *Arbitrator) refuseOpen(view *registry.State, c *registry.OpenSession, r registry.Result) {
	no := Refuse{Request: c.Session.Request, Code: codeOf(r), Reason: reasonOf(view, c, r)}
	if no.Code == TooMany {
		if no.Wait = a.roomIn(view, c.Session.Client); no.Wait > 0 {
			no.Reason += fmt.Sprintf("; one is not connected, and gives way in %v if nothing is heard of it", no.Wait.Round(time.Second))
		}
	}
	a.emit(no)
}

// poolReason says by what the pool is empty.
func poolReason(view *registry.State) string {
	var full registry.RangeUse
	for _, u := range view.PoolUse() {
		if u.Free() > 0 {
			continue
		}
		full.Open, full.Held = full.Open+u.Open, full.Held+u.Held
		if u.Until > 0 && (full.Until == 0 || u.Until < full.Until) {
			full.Until = u.Until
		}
	}
	reason := fmt.Sprintf("the pool has no free address: %d are in sessions", full.Open)
	if full.Held > 0 {
		reason += fmt.Sprintf(", %d wait until agents confirm that their sessions ended, the first for %v at most",
			full.Held, time.Duration(full.Until-view.Tick)*time.Second)
	}
	return reason
}

// tellReplaced has agents and client hear at once that a session was replaced by a
// new login of its device. A client that was still there may be a copy of the device.
func (a *Arbitrator) tellReplaced(view *registry.State, by *registry.Session) {
	a.notice(view)
	for _, id := range a.over {
		s, l := view.Sessions.Get(id), a.lives[id]
		if s != nil && l != nil && s.State == registry.SessionEnded && s.Reason == registry.ReasonReplaced && s.Client == by.Client && l.attached {
			a.alert("client %s logged in again on a device whose session was still connected; if this repeats, two machines use copies of one data directory", s.Client)
			break
		}
	}
	a.tendEnded(view)
}
