package session

import (
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/slicing"
)

// A weight stays for WeighEvery at least, so it must not follow what a node
// happens to do in a second. It is the node's capacity less what it is busier
// than the session's other agents, over LoadOver: load that all of them share
// is mostly this session's own traffic. slicing.Weight rounds it, and
// slicing.Reweigh leaves it where it is while little would change.

// average lets a load report count for the time since the one before it.
func (h *host) average(now time.Duration, used float64) {
	part := 1.0
	if h.reported {
		part = min(float64(now-h.reportedAt)/float64(LoadOver), 1)
	}
	h.mean += (used - h.mean) * part
	h.reported, h.reportedAt = true, now
}

// steady is a node's capacity by its average load, for weights.
func (h *host) steady(now time.Duration, node *registry.Node, session registry.SessionID) slicing.Capacity {
	offered := h.offered(node)
	return slicing.Capacity{Free: h.left(now, float64(offered)*(1-h.mean), session), Offered: offered}
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
		if p := a.proposals[a.slot(s.ID, sl.Number).proposal]; p != nil && p.command.GrantSlice != nil {
			sl = p.command.GrantSlice.Slice // of the same moment
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
	if s.EqualShares() || l.weighed != 0 || mains(s) < 2 {
		return
	}
	if a.now < l.weighAt {
		l.again(l.weighAt)
		return
	}
	if !a.settled(view, s, l) {
		return
	}
	l.weighAt = a.now + WeighEvery
	l.again(l.weighAt)
	var agents []slicing.Capacity
	var present []uint32
	var weights []registry.SliceWeight
	for _, sl := range s.Slices {
		if h := a.hosts[sl.Agent]; sl.Spare || sl.State != registry.SliceUp || h == nil || !h.reported {
			continue
		}
		agents = append(agents, a.hosts[sl.Agent].steady(a.now, view.Nodes[sl.Agent], s.ID))
		present = append(present, sl.Weight)
		weights = append(weights, registry.SliceWeight{Number: sl.Number, Epoch: sl.Epoch})
	}
	changed, ok := slicing.Reweigh(agents, present)
	if !ok || !a.moves.take(a.now) {
		return
	}
	for i := range weights {
		weights[i].Weight = changed[i]
	}
	l.weighed = a.propose(registry.Command{WeighSlices: &registry.WeighSlices{Session: s.ID, Weights: weights}})
}

// weighOutcome lets the next weighing come; one that was refused met a newer
// epoch, and is made anew from what is then.
func (a *Arbitrator) weighOutcome(c *registry.WeighSlices, tag Tag) {
	if l := a.lives[c.Session]; l != nil && l.weighed == tag {
		l.weighed = 0
	}
}
