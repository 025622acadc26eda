package arbiter

import (
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// measures is what the client of a session said of its paths last. It belongs
// to this term: the client says it again to the next arbiter.
type measures struct {
	flow   protocol.Flow // as the egress was told
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
	m.paths = alive.Paths[:min(len(alive.Paths), registry.MaxSlices)]
	if now := a.config.Now(); m.flow != alive.Flow && now-m.toldAt >= MeasuresEvery {
		m.flow, m.toldAt = alive.Flow, now
		a.pushSessions(id)
	}
}

// flowOf is what the paths of a session differ by.
func (a *Arbiter) flowOf(id registry.SessionID) protocol.Flow {
	if m := a.measures[id]; m != nil {
		return m.flow
	}
	return protocol.Flow{}
}
