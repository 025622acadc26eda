package arbiter

import (
	"hash/fnv"
	"slices"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/node/protocol"
	"github.com/meshcrypt/meshcrypt/node/session"
)

// A parked session is one whose client closed its connection by agreement, and comes when
// its agents call it (node/DESIGN.md, "Parked clients"). Who is parked, and under which
// mark, is what agents report: so it is known to every arbiter, and a call that was lost
// is made again because of what is reported after it.

// parking is what a term knows of parked sessions.
type parking struct {
	sessions map[registry.SessionID]parked
	waiting  []registry.SessionID        // to be called, no faster than CallsRate
	inLine   map[registry.SessionID]bool // are those
	pace     bucket
}

// parked is one of them.
type parked struct {
	mark     uint64        // that its client says to its agents
	calledAt time.Duration // last; 0: it is not
}

// markOf stands for what a client is told beside its slices: of two clients that were
// told different things it differs. It is the same in every term, and never 0. Gateways
// are not in it: agents tell of one that is to stop, and a new one can wait.
func markOf(s *registry.State, live *registry.Session) uint64 {
	told := protocol.Update{Prefixes: Reach(s, live), DNS: s.Policy.DNS, Search: s.Policy.Search}
	h := fnv.New64a()
	h.Write([]byte(encoded(told)))
	return max(h.Sum64(), 1)
}

// mayPark says that a client was told all there is, and that its agents can call it.
func (a *Arbiter) mayPark(s *registry.State, live *registry.Session) bool {
	if encoded(a.gateways(s, identity.NodeID{})) != a.told {
		return false // they are pushed within a second
	}
	return !slices.ContainsFunc(live.Slices, func(sl registry.Slice) bool {
		n := a.nodes[sl.Agent]
		return sl.State != registry.SliceVoid && (n == nil || !n.hello.Calls)
	})
}

// park asks the arbitrator, who answers if nothing is under way. A client that gets no
// answer stays.
func (a *Arbiter) park(c *clientStream) {
	s := a.clone()
	if live := active(s, c.session); live != nil && a.mayPark(s, live) {
		a.step(session.Park{Request: c.request})
	}
}

// letGo says the last that there is to say to a client, and what stands for all of it.
func (a *Arbiter) letGo(c *clientStream) {
	s := a.clone()
	live := active(s, c.session)
	if live == nil {
		return
	}
	a.tellClient(s, c, live)
	c.mark = markOf(s, live)
	c.Say(&protocol.Client{Parked: &protocol.Parked{Mark: c.mark}})
}

// parted notes that a client closed its connection as it was let to. What it did not
// hear any more it is called for.
func (a *Arbiter) parted(c *clientStream) {
	if c.mark == 0 {
		return
	}
	s := a.clone()
	if live := active(s, c.session); live != nil {
		a.parking.sessions[c.session] = parked{mark: c.mark}
		a.compareMark(s, live)
	}
}

// hearParked takes an agent's word on a client, and reports whether that is parked. One
// that is connected said so before; of sessions that the agent has no part in its word is
// nothing. The first word of a stream is of an agent that forgot the calls of the one before.
// That a client was called is kept until it is there: of several agents one may not have
// heard yet that it is parked, and what it was called for nobody calls it for again.
func (a *Arbiter) hearParked(n *nodeStream, u *protocol.SliceUsage, first bool) bool {
	id := u.Slice.Session
	switch {
	case a.served[id] != nil || a.book.of[n.node][id] == nil:
		return false
	case u.Parked == 0:
		if a.parking.sessions[id].calledAt == 0 {
			delete(a.parking.sessions, id)
		}
		return false
	}
	p, known := a.parking.sessions[id]
	if p.calledAt != 0 && (first || a.config.Now()-p.calledAt >= CallAgain) {
		a.line(id)
	}
	if !known || p.mark != u.Parked {
		p.mark = u.Parked
		a.parking.sessions[id] = p
		s := a.clone()
		if live := active(s, id); live != nil {
			a.compareMark(s, live)
		}
	}
	return true
}

// compareMark calls the client of a session, if it is parked, for what it was not told.
func (a *Arbiter) compareMark(s *registry.State, live *registry.Session) {
	if p, is := a.parking.sessions[live.ID]; is && p.calledAt == 0 && p.mark != markOf(s, live) {
		a.line(live.ID)
	}
}

// line has a client wait for its call, once, however often an agent says that it is
// parked, and is not.
func (a *Arbiter) line(id registry.SessionID) {
	if !a.parking.inLine[id] {
		a.parking.inLine[id] = true
		a.parking.waiting = append(a.parking.waiting, id)
	}
}

// callWaiting calls those whose turn it is. Each costs a resumption, so a change that
// concerns all must not bring all at once.
func (a *Arbiter) callWaiting(now time.Duration) {
	var due []registry.SessionID
	for len(a.parking.waiting) > 0 {
		id := a.parking.waiting[0]
		_, is := a.parking.sessions[id]
		if is && a.parking.pace.take(now, CallsFree, CallsRate) > 0 {
			break
		}
		a.parking.waiting = a.parking.waiting[1:]
		if delete(a.parking.inLine, id); is {
			due = append(due, id)
		}
	}
	a.call(due...)
}

// callFor calls a client that the arbitrator has something for: in its turn, since an agent
// that dies concerns many. Who is to hear that its session is over is called at once, for
// that ends what it is called by.
func (a *Arbiter) callFor(id registry.SessionID) {
	if _, is := a.parking.sessions[id]; is && active(a.clone(), id) != nil {
		a.line(id)
		return
	}
	a.call(id)
}

// call has the agents of sessions call their clients, now.
func (a *Arbiter) call(ids ...registry.SessionID) {
	if len(ids) == 0 {
		return
	}
	by := make(map[identity.NodeID]*protocol.Sessions)
	s := a.clone()
	for _, id := range ids {
		if p, is := a.parking.sessions[id]; is {
			p.calledAt = max(a.config.Now(), 1)
			a.parking.sessions[id] = p
		}
		live := s.Sessions.Get(id) // it may be over: that is what it is called for
		if live == nil {
			continue
		}
		for _, sl := range slices.Concat(live.Slices, live.Retiring) {
			if by[sl.Agent] == nil {
				by[sl.Agent] = &protocol.Sessions{}
			}
			if of := by[sl.Agent]; !slices.Contains(of.Sessions, id) {
				of.Sessions = append(of.Sessions, id)
			}
		}
	}
	for node, of := range by {
		if n := a.nodes[node]; n != nil && n.hello.Calls {
			n.Say(&protocol.Node{Call: of})
		}
	}
}
