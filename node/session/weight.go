package session

import (
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/slicing"
)

// A weight is fixed when its slice is granted, so it must not follow what a
// node happens to do in that second. It is the node's capacity less what it is
// busier than the session's other agents, over LoadOver: load that all of them
// share is mostly this session's own traffic. slicing.Weight rounds it.

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
