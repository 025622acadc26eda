package session

import (
	"bytes"
	"fmt"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
)

// A client that crashes without its data directory is a new device at each start,
// and each leaves a session. Where the client has as many as it may, the one that
// was silent longest gives way to the next login, if it is dead as far as the mesh
// can know: for SilentAfter, and longer if it is parked, it had no connection to the
// arbiter, and each agent that may run an SA of it was connected, as the process that
// was granted it, and heard nothing. An agent that cannot be asked may be hearing it
// just now: then it stays (I12). A new arbiter knows nothing of before its term, and
// waits.

// ReasonSilent is why a session ended that gave way.
var ReasonSilent = fmt.Sprintf("silent for more than %v, and its client logged in anew with as many sessions as it may have", SilentAfter)

// heard notes when agents heard clients last.
func (a *Arbitrator) heard(e Heard) {
	for id, ago := range e.Ago {
		if l := a.lives[id]; l != nil {
			l.heard = max(l.heard, a.now-ago)
		}
	}
}

// silence is for how long nobody can have heard a session's client. It is not known
// of one that is connected, or of which an agent cannot be asked.
func (a *Arbitrator) silence(s *registry.Session) (_ time.Duration, known bool) {
	l := a.lives[s.ID]
	if l == nil || l.attached || l.resuming != 0 || l.end != nil || !s.Tracked {
		return 0, false
	}
	since := max(l.since, l.heard)
	for _, h := range s.Holders {
		host := a.hosts[h.Agent]
		switch {
		case h.Session != s.ID: // of an earlier session of that address
		case host == nil || !host.up || host.boot != h.Boot:
			return 0, false
		default:
			since = max(since, host.since)
		}
	}
	return a.now - since, true
}

// mayBeSilent is for how long a session's client may be silent and live all the same.
func (a *Arbitrator) mayBeSilent(view *registry.State, s *registry.Session) time.Duration {
	if l := a.lives[s.ID]; l == nil || l.parked == 0 {
		return SilentAfter
	}
	return time.Duration(registry.ParkedWord(view.Headless()))*time.Second + ParkedSilent
}

// mostSilent is the session of a client that was silent for longest beyond what it may be,
// or is the nearest to that; nil when all live as far as is known.
func (a *Arbitrator) mostSilent(view *registry.State, client string) (most *registry.Session, over time.Duration) {
	for s := range view.Living(client) {
		d, known := a.silence(s)
		d -= a.mayBeSilent(view, s)
		if known && (most == nil || d > over || d == over && bytes.Compare(s.ID[:], most.ID[:]) < 0) {
			most, over = s, d
		}
	}
	return most, over
}

// makeRoom ends the session of a client that gives way to its new login, if one does.
func (a *Arbitrator) makeRoom(view *registry.State, client string) bool {
	s, over := a.mostSilent(view, client)
	if s == nil || over < 0 {
		return false
	}
	a.end(view, End{Session: s.ID, Reason: ReasonSilent})
	return a.live(s.ID).ending != 0
}

// roomIn is when a client's session gives way if nobody hears of it; 0 where none does.
func (a *Arbitrator) roomIn(view *registry.State, client string) time.Duration {
	s, over := a.mostSilent(view, client)
	if s == nil {
		return 0
	}
	return max(-over, 0)
}
