package registry

import (
	"iter"
	"net/netip"
	"slices"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// Holder is a process of an agent that was granted an SA of a session and has not
// acknowledged that it ended.
type Holder struct {
	Session SessionID       `json:"session"`
	Agent   identity.NodeID `json:"agent"`
	Boot    identity.BootID `json:"boot"`
	// Until is when it can run no more, whatever it says; 0 while its session is active.
	Until Tick `json:"until,omitempty"`
}

// Holding is who may run an SA for the addresses of a session or lease (I13).
type Holding struct {
	// Tracked says that Holders are all, but for what Blind is about.
	Tracked bool     `json:"tracked,omitempty"`
	Holders []Holder `json:"holders,omitempty"` // at most MaxHolders
	// Blind is the tick until which agents that were not recorded may run one, since
	// an earlier session of the same address was not tracked.
	Blind Tick `json:"blind,omitempty"`
}

// recorded reports whether it says what only version 4 of the codecs knows.
func (h Holding) recorded() bool { return h.Tracked || len(h.Holders) > 0 || h.Blind > 0 }

func (h Holding) clone() Holding {
	h.Holders = slices.Clone(h.Holders)
	return h
}

// add records one more holder. Where there are too many, time alone frees the
// address: nobody is forgotten.
func (h *Holding) add(one Holder) {
	switch {
	case !h.Tracked || slices.Contains(h.Holders, one):
	case len(h.Holders) >= MaxHolders:
		*h = Holding{}
	default:
		h.Holders = append(h.Holders, one)
	}
}

// inherit takes over who may still run an SA for an address that a session gets.
func (s *State) inherit(ses *Session, from *Lease) {
	switch {
	case !ses.Tracked || from == nil || s.free(from):
		return
	case !from.Tracked:
		ses.Blind = max(ses.Blind, from.Free)
		return
	}
	ses.Blind = max(ses.Blind, from.Blind)
	for _, one := range from.Holders {
		if s.mayRun(one) {
			ses.Holding.add(one)
		}
	}
}

// limitHolders refuses one more session on addresses of which too many agents have
// not acknowledged the end. To record no more would leave them to time alone, and a
// client that logs in and out could so use a pool up.
func (c *OpenSession) limitHolders(s *State, leases []netip.Addr, ends []*Session) *Error {
	if !c.Track {
		return nil
	}
	waiting := make(map[Holder]bool)
	note := func(h Holding) {
		for _, one := range h.Holders {
			if s.mayRun(one) {
				one.Until = 0 // an ended session's and a living one's is the same holder
				waiting[one] = true
			}
		}
	}
	for _, a := range leases {
		if l := s.Leases.Get(a); l != nil && !s.free(l) {
			note(l.Holding)
		}
	}
	for _, old := range ends {
		note(old.Holding)
	}
	if n := len(waiting) + len(c.Slices); n > MaxHolders {
		return ErrUnconfirmed.with("agents have yet to confirm the end of earlier sessions of this device: wait some seconds")
	}
	return nil
}

// hold records the agents of granted slices.
func (ses *Session) hold(granted ...Slice) {
	for _, sl := range granted {
		ses.Holding.add(Holder{Session: ses.ID, Agent: sl.Agent, Boot: sl.Boot})
	}
}

// over is the holding of a session that ends now.
func (h Holding) over(until Tick) Holding {
	h = h.clone()
	for i := range h.Holders {
		if h.Holders[i].Until == 0 {
			h.Holders[i].Until = until
		}
	}
	return h
}

// free reports whether an idle lease may go to anybody: all that held an SA for it
// have acknowledged its end, or the time is over in which one could run (I13).
func (s *State) free(l *Lease) bool {
	if l.Free <= s.Tick {
		return true
	}
	return l.Tracked && l.Blind <= s.Tick && !slices.ContainsFunc(l.Holders, s.mayRun)
}

// mayRun reports whether a holder could still run: a removed node may for as long
// as its index is kept from others.
func (s *State) mayRun(h Holder) bool {
	if h.Until != 0 && h.Until <= s.Tick {
		return false
	}
	switch n := s.Nodes[h.Agent]; {
	case n != nil && !n.Removed:
		return true
	case n != nil && s.Indexes[n.Index].Node == n.ID:
		hold := s.Indexes[n.Index]
		return hold.Free == 0 || hold.Free > s.Tick
	}
	for _, hold := range s.Indexes {
		if hold.Node == h.Agent && (hold.Free == 0 || hold.Free > s.Tick) {
			return true
		}
	}
	return false
}

// forgetHolders drops holders whose SAs have ended from where they are recorded.
func (s *State) forgetHolders(at iter.Seq[place], over func(Holder) bool) {
	for p := range at {
		if l := s.Leases.Get(p.lease); l != nil && slices.ContainsFunc(l.Holders, over) {
			without := *l
			without.Holding = l.Holding.without(over)
			s.putLease(p.lease, &without)
		}
		if ses := s.Sessions.Get(p.in); ses != nil && slices.ContainsFunc(ses.Holders, over) {
			without := ses.copy()
			without.Holding = ses.Holding.without(over)
			s.putSession(without)
		}
	}
}

func (h Holding) without(over func(Holder) bool) Holding {
	h = h.clone()
	if h.Holders = slices.DeleteFunc(h.Holders, over); len(h.Holders) == 0 {
		h.Holders = nil // as a snapshot brings it back
	}
	return h
}

// forgetTracking leaves all addresses to time: there may be holders that are not
// recorded.
func (s *State) forgetTracking() {
	for _, ses := range s.Sessions.All() {
		untracked := ses.copy()
		untracked.Holding = Holding{}
		s.putSession(untracked)
	}
	for a, l := range s.Leases.All() {
		untracked := *l
		untracked.Holding = Holding{}
		s.putLease(a, &untracked)
	}
}

// apply believes an agent about its own present process only, and about sessions
// that are over: these are granted nothing more.
func (c *Acknowledge) apply(s *State, _ entry) (Result, *Error) {
	n, err := s.member(c.Agent)
	if err != nil {
		return Result{}, err
	}
	if n.Boot != c.Boot {
		return Result{}, ErrStale.with("boot %s of node %s", c.Boot, n.ID.Short())
	}
	if len(c.Sessions) == 0 || len(c.Sessions) > MaxAcknowledged {
		return Result{}, ErrInvalid.with("%d sessions, want 1 to %d", len(c.Sessions), MaxAcknowledged)
	}
	over := make(map[SessionID]bool, len(c.Sessions))
	for _, id := range c.Sessions {
		if ses := s.Sessions.Get(id); ses != nil && ses.State == SessionActive {
			return Result{}, ErrInvalid.with("session %s is not over", id.Short())
		}
		over[id] = true
	}
	gone := func(h Holder) bool { return h.Agent == c.Agent && h.Boot == c.Boot && over[h.Session] }
	for _, id := range c.Sessions {
		s.forgetHolders(s.placesWith(c.Agent, id), gone)
	}
	return Result{Node: n.ID}, nil
}

// Unacknowledged calls f for every holder of a session that is over, as often as it
// is recorded.
func (s *State) Unacknowledged(f func(Holder)) {
	for p := range s.index.waits.All() {
		for _, h := range s.recorded(p) {
			if h.Agent == p.agent && h.Session == p.session {
				f(h)
			}
		}
	}
}

// recorded are the holders that stand at a place; none where a lease is free.
func (s *State) recorded(at place) []Holder {
	if l := s.Leases.Get(at.lease); l != nil && l.idle() && !s.free(l) {
		return l.Holders
	}
	if ses := s.Sessions.Get(at.in); ses != nil {
		return ses.Holders
	}
	return nil
}
