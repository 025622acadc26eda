package session

import (
	"encoding/binary"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/slicing"
)

// Every new weight is a commit for each session of a node, so weights must not follow
// what a node happens to do. They go by what it has free of what it offers over
// LoadOver, and by that only once it has been another for ShareHold: until then by
// what it was. Of that a session's weights are the capacity less what a node is busier
// than its other agents: load that all of them share is mostly the session's own
// traffic. slicing.Weight rounds it, and slicing.Reweigh leaves it where it is while
// little would change.

// average lets a load report count for the time since the one before it.
func (h *host) average(now time.Duration, used float64) {
	part := 1.0
	if h.reported {
		part = min(float64(now-h.reportedAt)/float64(LoadOver), 1)
	}
	h.mean += (used - h.mean) * part
	h.reported, h.reportedAt = true, now
}

// settle makes a node's capacity the one that weights go by once it has been another for
// ShareHold, always more or always less, and says whether that is now. The first is it
// at once.
func (h *host) settle(now time.Duration, node *registry.Node) bool {
	offered := h.offered(node)
	is := slicing.Capacity{Free: uint64(float64(offered) * (1 - h.mean)), Offered: offered}
	way := apart(is.Free, h.settled.Free)
	if way == 0 {
		way = apart(is.Offered, h.settled.Offered)
	}
	if way != h.apart {
		h.apart, h.apartAt = way, now
	}
	if way == 0 || h.settled.Offered != 0 && now-h.apartAt < ShareHold {
		return false
	}
	h.settled, h.apart = is, 0
	return true
}

// apart says whether one capacity is more, 1, or less, -1, than another by more than a
// part of ShareWithin.
func apart(is, was uint64) int {
	switch {
	case is > was+was/ShareWithin:
		return 1
	case is < was-was/ShareWithin:
		return -1
	}
	return 0
}

// reweighOn has the sessions on a node weighed, not all at the same moment.
func (a *Arbitrator) reweighOn(id identity.NodeID) {
	for session := range a.on[id] {
		l := a.lives[session]
		l.unweighed, l.weighAt = true, a.now+spreadOver(session, WeighEvery)
		if l.weighAt < l.due {
			a.schedule(l, l.weighAt)
		}
	}
}

// spreadOver is a time within a period that depends on the session alone.
func spreadOver(id registry.SessionID, period time.Duration) time.Duration {
	return period * time.Duration(binary.BigEndian.Uint16(id[len(id)-2:])) / (1 << 16)
}

// steady is the capacity of a node that weights go by, less what was given away just now.
func (h *host) steady(now time.Duration, node *registry.Node, session registry.SessionID) slicing.Capacity {
	is := h.settled
	if !h.reported {
		is.Offered = h.offered(node)
		is.Free = is.Offered
	}
	is.Free = h.left(now, float64(is.Free), session)
	return is
}

func (c candidate) capacity() slicing.Capacity {
	return slicing.Capacity{Free: c.free, Offered: c.host.offered(c.node)}
}

// weightBeside is the weight of a slice that joins, or moves within, a running
// session.
func (a *Arbitrator) weightBeside(view *registry.State, s *registry.Session, number uint8, c *candidate) uint32 {
	var beside []slicing.Capacity
	var given []uint32
	for _, sl := range s.Slices {
		if next := a.proposals[a.slot(s.ID, sl.Number).proposal].grants(sl.Number); next != nil {
			sl = *next // of the same moment
		}
		node, h := view.Nodes[sl.Agent], a.hosts[sl.Agent]
		if sl.Number == number || node == nil || h == nil || !a.owned(view, sl) {
			continue
		}
		beside, given = append(beside, h.steady(a.now, node, s.ID)), append(given, sl.Weight)
	}
	return slicing.Weight(c.host.steady(a.now, c.node, s.ID), beside, given)
}

// firstWeights are the weights of a session's first slices, in the order of
// their agents.
func (a *Arbitrator) firstWeights(session registry.SessionID, agents []candidate) []uint32 {
	all := make([]slicing.Capacity, len(agents))
	for i, c := range agents {
		all[i] = c.host.steady(a.now, c.node, session)
	}
	var weights []uint32
	for _, c := range all {
		weights = append(weights, slicing.Weight(c, all, weights))
	}
	return weights
}

// reweigh lets the shares of a healthy session follow the load of its agents.
// Keys and owners stay; ends that have not heard yet go on by the old weights.
func (a *Arbitrator) reweigh(view *registry.State, s *registry.Session, l *live) {
	if !l.unweighed || s.EqualShares() || l.weighed != 0 || mains(s) < 2 {
		return
	}
	if a.now < l.weighAt {
		l.again(l.weighAt)
		return
	}
	if !a.settled(view, s, l) {
		return
	}
	l.unweighed = false
	var agents []slicing.Capacity
	var present []uint32
	var weights []registry.SliceWeight
	for _, sl := range s.Slices {
		h := a.hosts[sl.Agent]
		if sl.Spare || sl.State != registry.SliceUp || h == nil || !h.reported {
			continue
		}
		agents = append(agents, h.settled)
		present = append(present, sl.Weight)
		weights = append(weights, registry.SliceWeight{Number: sl.Number, Epoch: sl.Epoch})
	}
	changed, ok := slicing.Reweigh(agents, present)
	if !ok {
		return
	}
	if !a.moves.take(a.now) {
		l.toWeigh(a.now, true)
		l.again(l.weighAt)
		return
	}
	for i := range weights {
		weights[i].Weight = changed[i]
	}
	l.weighed = a.propose(registry.Command{WeighSlices: &registry.WeighSlices{Session: s.ID, Weights: weights}})
	l.unweighed = l.weighed == 0
}

// weighOutcome lets the next weighing come; one that was refused met a newer
// epoch, and is made anew from what is then.
func (a *Arbitrator) weighOutcome(c *registry.WeighSlices, tag Tag, r registry.Result) {
	if l := a.lives[c.Session]; l != nil && l.weighed == tag {
		l.weighed = 0
		l.toWeigh(a.now, !ok(r))
	}
}

// toWeigh has a session weighed, WeighEvery from now, if something speaks for it.
func (l *live) toWeigh(now time.Duration, why bool) {
	if why {
		l.unweighed, l.weighAt = true, now+WeighEvery
	}
}
