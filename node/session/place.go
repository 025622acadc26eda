package session

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/slicing"
)

// placement is who carries a session at its start.
type placement struct {
	agents   []candidate // one slice each
	spare    *candidate  // warm standby of a single slice
	absorbed bool        // capacity lacks, policy takes the session all the same
}

// place chooses the agents of a new session, or says why there are none.
func (a *Arbitrator) place(view *registry.State, s *registry.Session, entered identity.NodeID) (placement, Code, string) {
	all, wanted := a.candidates(view, s), s.Bandwidth
	switch {
	case len(all) == 0 && !s.Peer.IsZero():
		return placement{}, Unavailable, "the peer is not connected and ready"
	case len(all) == 0:
		return placement{}, Unavailable, "no agent is connected and ready"
	}
	limit := sliceLimit(view.Policy)
	n, carried := needed(s, regular(all), limit)
	if !carried {
		n, carried = needed(s, all, limit)
	}
	var p placement
	switch {
	case carried && n == 1:
		p.agents = all[:1]
		if c := single(all, wanted, entered); c >= 0 {
			p.agents = []candidate{all[c]}
		}
	case carried:
		p.agents = all[:n]
	case view.Policy.Overload == registry.OverloadDeny:
		return placement{}, Denied, lack(wanted, all)
	case n > 0:
		p.agents, p.absorbed = all[:n], true
	default:
		p.agents, p.absorbed = []candidate{all[max(indexOf(all, entered), 0)]}, true
	}
	if len(p.agents) == 1 && spareFits(view.Policy, 1) {
		p.spare = spareFor(all, p.agents[0])
	}
	return p, "", ""
}

// needed is the number of agents, of those with room, that a session's
// bandwidth takes: all of them, up to limit, when it is unknown.
func needed(s *registry.Session, list []candidate, limit int) (n int, carried bool) {
	var capacities []slicing.Capacity
	for _, c := range list {
		if c.room() {
			capacities = append(capacities, c.capacity())
		}
	}
	if s.Bandwidth == 0 {
		n = min(len(capacities), limit)
		return n, n > 0
	}
	return need(s)(s.Bandwidth, capacities, limit)
}

// need is how many agents a bandwidth takes by the shares of a session.
func need(s *registry.Session) func(wanted uint64, agents []slicing.Capacity, limit int) (n int, ok bool) {
	if s.EqualShares() {
		return slicing.NeedEqual
	}
	return slicing.Need
}

// regular is the list without the arbiter's own node where that comes last.
func regular(all []candidate) []candidate {
	if n := len(all); all[n-1].last {
		return all[:n-1]
	}
	return all
}

// single is who carries a session that one node can: the node it entered by,
// if it has room and may (the patent's letter), else the freest that can.
func single(all []candidate, wanted uint64, entered identity.NodeID) int {
	carries := func(c candidate) bool { return c.room() && c.free >= wanted }
	if i := indexOf(all, entered); i >= 0 && carries(all[i]) && !all[i].last {
		return i
	}
	return slices.IndexFunc(all, carries)
}

func spareFor(all []candidate, main candidate) *candidate {
	for _, c := range all {
		if c.node.ID != main.node.ID {
			return &c
		}
	}
	return nil
}

func indexOf(list []candidate, id identity.NodeID) int {
	return slices.IndexFunc(list, func(c candidate) bool { return c.node.ID == id })
}

func lack(wanted uint64, all []candidate) string {
	var free uint64
	for _, c := range all {
		free += c.free
	}
	const mega = 1_000_000
	if wanted == 0 {
		return fmt.Sprintf("capacity: %d Mbit/s free on %d agents", free/mega, len(all))
	}
	return fmt.Sprintf("capacity: %d Mbit/s wanted, %d free on %d agents", wanted/mega, free/mega, len(all))
}

// sliceLimit is the most slices of one session.
func sliceLimit(p registry.Policy) int {
	if p.Slices <= 0 {
		return DefaultSlices
	}
	return min(p.Slices, registry.MaxSlices)
}

// spareFits says that the registry takes a spare beside n slices.
func spareFits(p registry.Policy, n int) bool {
	return n < registry.MaxSlices && (p.Slices <= 0 || n < p.Slices)
}

// choose finds another agent for one slice of a running session; nil when
// there is none. Never a node that the slice is still held away from, never
// more than half of the slices on one node. The arbiter's own node waits until
// others have failed, where the bandwidth needs nobody in particular.
func (a *Arbitrator) choose(view *registry.State, s *registry.Session, number uint8, spare bool) *candidate {
	sl := a.slot(s.ID, number)
	limit, held := nodeLimit(s, number, spare), a.slicesByNode(s, int(number))
	l := a.live(s.ID)
	strict := l.first && !l.answered && view.Policy.Overload == registry.OverloadDeny
	list := slices.DeleteFunc(a.candidates(view, s), func(c candidate) bool {
		unneeded := c.last && s.Bandwidth == 0 && !spare && sl.failures < LastResort
		return unneeded || sl.avoids(c.node.ID, a.now) || held[c.node.ID].main >= limit || (strict && !c.room())
	})
	if len(list) == 0 {
		return nil
	}
	best := slices.MinFunc(list, func(x, y candidate) int {
		hx, hy := held[x.node.ID], held[y.node.ID]
		return cmp.Or(
			compareBool(x.node.ID == sl.lastFailed(), y.node.ID == sl.lastFailed()),
			compareBool(x.last, y.last),
			compareBool(!x.room(), !y.room()),
			cmp.Compare(hx.main+hx.spare, hy.main+hy.spare),
			cmp.Compare(y.free, x.free),
			cmp.Compare(x.node.Index, y.node.Index))
	})
	return &best
}

// holding is how many slices of one session a node has.
type holding struct{ main, spare int }

// slicesByNode counts every slice but one, where it is and, while a grant is
// under way, where that puts it: the grant may yet be refused.
func (a *Arbitrator) slicesByNode(s *registry.Session, except int) map[identity.NodeID]holding {
	held := map[identity.NodeID]holding{}
	count := func(sl registry.Slice) {
		h := held[sl.Agent]
		if sl.Spare {
			h.spare++
		} else {
			h.main++
		}
		held[sl.Agent] = h
	}
	for _, sl := range s.Slices {
		if int(sl.Number) == except {
			continue
		}
		present := sl.State != registry.SliceVoid
		if present {
			count(sl)
		}
		next := a.proposals[a.slot(s.ID, sl.Number).proposal].grants(sl.Number)
		if next != nil && (!present || next.Agent != sl.Agent || next.Spare != sl.Spare) {
			count(*next)
		}
	}
	for _, sl := range a.coming(s) {
		count(sl)
	}
	return held
}

// coming is the slices of numbers that the registry does not know yet, while
// their first grants are under way.
func (a *Arbitrator) coming(s *registry.Session) (list []registry.Slice) {
	for _, known := range a.live(s.ID).slots {
		first := a.proposals[known.proposal].grants(known.number)
		if _, found := sliceOf(s, known.number); !found && first != nil {
			list = append(list, *first)
		}
	}
	return list
}

// nodeLimit is how many other slices a node must stay below to be given this
// one: ceil(N/2) of N. A spare goes where no other slice is, and so does every
// slice of a session whose bandwidth is unknown.
func nodeLimit(s *registry.Session, number uint8, spare bool) int {
	if spare || s.Bandwidth == 0 {
		return 1
	}
	n := 1
	for _, sl := range s.Slices {
		if !sl.Spare && sl.Number != number {
			n++
		}
	}
	return (n + 1) / 2
}

// grantTo is a slice as it is to be granted to a candidate, whose prekey it
// spends. parts is how many share the session's bandwidth, 0 for a spare.
func (a *Arbitrator) grantTo(c *candidate, weight uint32, s *registry.Session, number uint8, epoch uint32, parts int) registry.Slice {
	if s.EqualShares() {
		weight = slicing.EqualWeight
	}
	if s.Bandwidth > 0 && parts > 0 {
		c.host.reserve(a.now, s.ID, s.Bandwidth/uint64(parts))
		a.reservedUntil = a.now + ReserveFor
	}
	a.doubt(c.node.ID)
	return registry.Slice{
		Number: number, Epoch: epoch, Agent: c.node.ID, Boot: c.host.boot,
		SPI: c.host.takePrekey(), Weight: weight, State: registry.SliceGranted,
	}
}
