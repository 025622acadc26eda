package agent

import (
	"bytes"
	"slices"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// takeEnded frees what this agent holds of sessions that are over; what was revoked
// already lingers as long as it was allowed to. The arbiter hears when none is left.
func (a *Agent) takeEnded(m *protocol.Sessions) {
	now := a.config.Now()
	for _, id := range m.Sessions {
		if len(a.ended) >= MaxEnded {
			break
		}
		a.ended[id] = true
		for _, s := range a.slices.bySession[id] {
			if !s.revoked() {
				s.dropAt = now
				a.touched(s)
			}
		}
	}
	a.superviseSlices(now)
	a.tellFreed()
}

// tellFreed answers for the sessions of which nothing runs any more. The packet
// engine has the table without them before anybody hears.
func (a *Agent) tellFreed() {
	if len(a.ended) == 0 {
		return
	}
	a.publishIfDirty()
	freed := &protocol.Sessions{}
	for id := range a.ended {
		if len(a.slices.bySession[id]) == 0 {
			freed.Sessions = append(freed.Sessions, id)
			delete(a.ended, id)
		}
	}
	slices.SortFunc(freed.Sessions, func(x, y registry.SessionID) int { return bytes.Compare(x[:], y[:]) })
	if len(freed.Sessions) > 0 {
		a.say(&protocol.Node{Freed: freed})
	}
}

// forgetEnded drops the questions of an arbiter whose stream is over: the next one
// asks itself.
func (a *Agent) forgetEnded() { a.ended = make(map[registry.SessionID]bool) }
