package arbiter

import (
	"maps"
	"slices"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// measures is what the client of a session said of its paths last. It belongs
// to this term: the client says it again to the next arbiter.
type measures struct {
	flow   protocol.Flow // as the egress was told
	said   protocol.Flow // as the client said it last; one at rest does not say it again
	toldAt time.Duration
	paths  []protocol.Path
}

// takeMeasures keeps what a client measured, and tells the egress when what
// the paths differ by has changed, not more often than MeasuresEvery.
func (a *Arbiter) takeMeasures(id registry.SessionID, alive *protocol.Alive) {
	m := a.measures[id]
	if m == nil {
		if a.book.sessions[id] == nil {
			return // over, or not yet what nodes are told of
		}
		m = &measures{toldAt: -MeasuresEvery}
		a.measures[id] = m
	}
	m.paths = slices.Clone(alive.Paths[:min(len(alive.Paths), registry.MaxSlices)]) // without the decoder's room
	m.said = alive.Flow
	a.noteMoved(id, alive.Bytes)
	a.tellFlow(id, m, a.config.Now())
}

// noteMoved keeps the most that a session is known to have moved. What agents say falls when
// a slice moves, or has new keys; what its client says does not.
func (a *Arbiter) noteMoved(id registry.SessionID, bytes uint64) {
	if bytes > a.moved[id] && a.book.sessions[id] != nil {
		a.moved[id] = bytes
	}
}

// reportMoved is what each session moved, as far as is known in this term: what was said once
// is not taken back.
func (a *Arbiter) reportMoved() map[registry.SessionID]uint64 {
	agents := make(map[registry.SessionID]uint64)
	for _, n := range a.nodes {
		for key, u := range n.usage {
			agents[key.session] += u.in + u.out
		}
	}
	for id, bytes := range agents {
		a.noteMoved(id, bytes)
	}
	return maps.Clone(a.moved)
}

// tellFlow tells a session's egress now, or later when its time has come.
func (a *Arbiter) tellFlow(id registry.SessionID, m *measures, now time.Duration) {
	switch {
	case m.flow == m.said:
		delete(a.lateFlows, id)
	case now-m.toldAt < MeasuresEvery:
		a.lateFlows[id] = m
	default:
		delete(a.lateFlows, id)
		m.flow, m.toldAt = m.said, now
		a.pushSessions(id)
	}
}

// tellFlows is called once a tick for those that had to wait.
func (a *Arbiter) tellFlows(now time.Duration) {
	for id, m := range a.lateFlows {
		if a.measures[id] != m {
			delete(a.lateFlows, id) // its session is over
			continue
		}
		a.tellFlow(id, m, now)
	}
}

// accounted gives a command that ends a session what that moved, whoever ends it: the most
// of what its client said, now or last, and what the agents say of its slices. It costs a
// look at each slice.
func (a *Arbiter) accounted(c registry.Command) registry.Command {
	if c.EndSession == nil {
		return c
	}
	end := *c.EndSession // the arbitrator keeps its own
	end.Bytes = max(end.Bytes, a.moved[end.Session])
	var moved uint64
	a.config.Store.View(func(s *registry.State) {
		if live := active(s, end.Session); live != nil {
			moved = a.movedBy(live.ID, live.Slices) + a.movedBy(live.ID, live.Retiring)
		}
	})
	end.Bytes = max(end.Bytes, moved)
	c.EndSession = &end
	return c
}

// movedBy is what their agents said last that slices of a session moved.
func (a *Arbiter) movedBy(session registry.SessionID, of []registry.Slice) (sum uint64) {
	for _, sl := range of {
		if n := a.nodes[sl.Agent]; n != nil {
			u := n.usage[sliceKey{session, sl.Number, sl.Epoch}]
			sum += u.in + u.out
		}
	}
	return sum
}

// flowOf is what the paths of a session differ by.
func (a *Arbiter) flowOf(id registry.SessionID) protocol.Flow {
	if m := a.measures[id]; m != nil {
		return m.flow
	}
	return protocol.Flow{}
}
