package arbiter

import (
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
	a.tellFlow(id, m, a.config.Now())
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

// flowOf is what the paths of a session differ by.
func (a *Arbiter) flowOf(id registry.SessionID) protocol.Flow {
	if m := a.measures[id]; m != nil {
		return m.flow
	}
	return protocol.Flow{}
}
