package check

import (
	"fmt"
	"slices"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/node/session"
)

// sessionSeen is what was seen of one session.
type sessionSeen struct {
	opened time.Duration
	heard  time.Duration // its client, by anybody
	up     bool          // a slice of it was
	had    bool          // by a client, which said so
	over   bool
	overAt time.Duration
	sudden bool // nothing was wrong then, nor lately, and its client could be called
}

// Heard is a sign of life of a session's client.
func (j *Judge) Heard(at time.Duration, id registry.SessionID) {
	if s := j.sessions[id]; s != nil {
		s.heard, s.had = at, true
	}
}

// Left says that a client ended its session, on purpose.
func (j *Judge) Left(client string) { j.left[client] = true }

// Ordered says that an operator, or the policy, ends a session.
func (j *Judge) Ordered(id registry.SessionID, why string) { j.ordered[id] = why }

// lookAtEnd holds I12: a session ends by its client, its policy, or its headless time.
func (j *Judge) lookAtEnd(at time.Duration, s *registry.Session, c registry.Command) {
	seen := j.sessions[s.ID]
	if seen == nil {
		seen = &sessionSeen{opened: at, heard: at}
		j.sessions[s.ID] = seen
	}
	for _, sl := range s.Slices {
		seen.up = seen.up || sl.State == registry.SliceUp
	}
	if s.State != registry.SessionEnded || seen.over {
		return
	}
	seen.over, seen.overAt, seen.sudden = true, at, j.settled(at) && j.callable(s)
	if why := j.whyEnded(at, s, seen, c); !why {
		j.fail(at, "I12", "session %s of %s ended (%q), %v after it was opened and %v after its client was heard: neither its client, "+
			"nor policy, nor the headless time of %v ended it", s.ID.Short(), s.Client, s.Reason,
			(at - seen.opened).Round(time.Millisecond), (at - seen.heard).Round(time.Millisecond), j.headless())
	}
}

// whyEnded says whether there was a reason, by what was seen and not by what is said.
func (j *Judge) whyEnded(at time.Duration, s *registry.Session, seen *sessionSeen, c registry.Command) bool {
	open := c.OpenSession
	_, ordered := j.ordered[s.ID]
	silent := at - seen.heard
	switch {
	case open != nil && open.Session.Client == s.Client && open.Session.Device == s.Device: // logged in anew
	case j.left[s.Client], ordered:
	case !seen.up && (!seen.had || at-seen.opened >= session.AckTimeout): // no agent took it
	case j.history.state.Policy.Sessions > 0 && silent >= session.SilentAfter:
	case silent >= j.headless():
	default:
		return false
	}
	return true
}

func (j *Judge) headless() time.Duration {
	return time.Duration(j.history.state.Headless()) * time.Second
}

// ClientEnded says that a client gave its session up, and why.
func (j *Judge) ClientEnded(at time.Duration, client string, id registry.SessionID, why string) {
	seen := j.sessions[id]
	if _, ordered := j.ordered[id]; seen == nil || seen.over || ordered || j.left[client] || at-seen.heard >= j.headless() {
		return
	}
	j.fail(at, "I12", "client %s gave session %s up (%q), which lives in the registry", client, id.Short(), why)
}

// ToldWithin is how long after the end of its session a client knows, by whom it hears or by
// hearing nobody: parked it asks each agent once a minute. ToldAtOnce is how long where nothing
// is wrong.
const (
	ToldWithin = 65 * time.Second
	ToldAtOnce = 2 * time.Second
)

// Way says by which gateway a parked client asks the agent of a slice, and when it heard that
// last; no gateway: it is not parked.
func (j *Judge) Way(id registry.SessionID, number uint8, epoch uint32, gateway identity.NodeID, heard time.Duration) {
	j.ways[slot{id, number, epoch}] = way{gateway, heard}
}

// way is how an agent reaches a parked client.
type way struct {
	gateway identity.NodeID // zero: it is not parked
	heard   time.Duration
}

// lost is when a way was, if it is. All that an agent knows of a parked client's way is a port of
// its gateway, whose process has the row behind it. With that process the row is gone, though the
// node is back at once, and nobody reaches the client until it asks again
// (node/DESIGN.md, "A gateway or an agent dies"): so no order of an arbiter does, and no call.
func (j *Judge) lost(w way) (at time.Duration, is bool) {
	at, died := j.gone[w.gateway]
	return at, died && at >= w.heard
}

// callable says that a session's client can be called: by a process that has a slice of it still
// that it was granted to, and that the client was heard by since the gateway of both began.
func (j *Judge) callable(s *registry.Session) bool {
	return slices.ContainsFunc(s.Slices, func(sl registry.Slice) bool {
		a, key := j.agents[sl.Agent], slot{s.ID, sl.Number, sl.Epoch}
		_, lost := j.lost(j.ways[key])
		return a != nil && a.boot == sl.Boot && a.had[key] && !lost
	})
}

// Has says which session a client takes for its own. It hears of the end in time, parked or not.
func (j *Judge) Has(at time.Duration, client, session string) {
	for id, s := range j.sessions {
		if !s.over || id.String() != session || j.calm.wrong > 0 {
			continue
		}
		since, within := max(s.overAt, j.calm.since), ToldWithin
		if s.sudden && j.calm.since <= s.overAt {
			within = ToldAtOnce
		}
		if at-since > within {
			j.fail(at, "told", "client %s takes session %s for its own, which ended at %v", client, id.Short(), s.overAt)
		}
	}
}

// lookAtLeases holds I13 where it counts: nobody has keys for an address that is another
// client's by now.
func (j *Judge) lookAtLeases(at time.Duration, t Table, h Holding) {
	state := j.history.state
	old, known := state.Sessions.Find(h.Session)
	if !known {
		return // long over; its addresses are nobody's that is in the registry
	}
	for _, a := range h.Leases {
		lease, held := state.Leases.Find(a)
		if !held || lease.Session == h.Session || lease.Session == (registry.SessionID{}) {
			continue
		}
		now, _ := state.Sessions.Find(lease.Session)
		if now == nil || now.Client == old.Client {
			continue // a client has its own back, where nothing else is left also another device's
		}
		j.fail(at, "I13", "%s has keys of session %s of %s for address %v, which was given to session %s of %s meanwhile",
			j.name(t.Agent), h.Session.Short(), old.Client, a, now.ID.Short(), now.Client)
	}
}

// CalledWithin is how long a parked client takes to come that is called for a slice, and
// FindsOutWithin one that nobody can call: it asks an agent each 20 s, and waits for an answer by
// its gateway and by the next.
const (
	CalledWithin   = time.Second
	FindsOutWithin = 25 * time.Second
)

// Rests says that a session's client is parked, after its ways were told. Where nobody can call it
// it finds out and comes, and is on its way then, though it is not parked any more.
func (j *Judge) Rests(at time.Duration, s *registry.Session) {
	if !j.callable(s) {
		j.comes[s.ID] = min(at+CalledWithin, j.uncallable(s)+FindsOutWithin)
	}
}

// uncallable is since when nobody can call a client, at the latest: the last of its slices was
// given to a process that has it no more, or lost, or the way to its agent was.
func (j *Judge) uncallable(s *registry.Session) (since time.Duration) {
	for _, sl := range s.Slices {
		key := slot{s.ID, sl.Number, sl.Epoch}
		since = max(since, j.since(key))
		if at, is := j.lost(j.ways[key]); is {
			since = max(since, at)
		}
	}
	return since
}

// since is when something last became of an epoch of a slice: it was granted, or lost.
func (j *Judge) since(key slot) time.Duration { return max(j.owned[key].at, j.void[key]) }

// Lacking says which slice of a session should be up by now and is not; empty: none. One
// that was granted or lost lately, or whose node is not to be given it again yet, may wait where
// another slice carries the session, for a parked client is called when that time is over; all
// may while it comes that nobody could call.
func (j *Judge) Lacking(at time.Duration, s *registry.Session) string {
	carried := slices.ContainsFunc(s.Slices, func(sl registry.Slice) bool { return sl.State == registry.SliceUp })
	for _, sl := range s.Slices {
		held := j.since(slot{s.ID, sl.Number, sl.Epoch}) + session.MoveHold
		if sl.State == registry.SliceUp || carried && at < held+CalledWithin || at < j.comes[s.ID] {
			continue
		}
		return fmt.Sprintf("slice %d of %s is %s at %s, epoch %d", sl.Number, s.Client, sl.State, j.name(sl.Agent), sl.Epoch)
	}
	return ""
}
