package agent

import (
	"bytes"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/node/dataplane"
	"github.com/meshcrypt/meshcrypt/node/probe"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// A client that is parked has no connection to the arbiter. It hears of it by what this
// agent answers to its probes, and comes when it is called. What an agent knows of it
// it has from the client alone: the mark under which that says that it is parked.

// parking is that; packet workers read and write it, but for calls.
type parking struct {
	word  atomic.Int64 // when an arbiter that knows of parked clients was heard last; 0: never
	other atomic.Bool  // the present one does not know of them: they have to come
	calls map[registry.SessionID]*call

	closing atomic.Pointer[closing] // gateways
}

// call is that a client is to come to the arbiter.
type call struct {
	next time.Duration // when it is said again
	wait time.Duration // after that
	said int
}

// answerParked is what a parked client hears, on a worker of the packet engine.
func (a *Agent) answerParked(mark *atomic.Uint64, pair *dataplane.Pair, payload []byte) {
	age := probe.NoWord
	if at := a.parking.word.Load(); at != 0 {
		age = a.config.Now() - time.Duration(at)
	}
	reply, under, ok := probe.AnswerParked(payload, a.probes.answerVerdict(), a.probes.ownLoad(), age)
	if !ok {
		return
	}
	mark.Store(uint64(under))
	_ = pair.SendControl(reply) // a lost reply looks like a lost probe
	if a.parking.other.Load() {
		_ = pair.SendControl([]byte{probe.KindCall})
	}
	a.warnOfClosing(pair)
}

// hearArbiter notes a word of an arbiter for the clients that have no other. It counts
// once the arbiter has said which slices this agent is to hold: others are freed by then.
func (a *Agent) hearArbiter(s *streamState) {
	if s.calls && s.viewed {
		a.parking.word.Store(int64(a.wordAt))
	}
}

// takeCall has the clients of sessions come.
func (a *Agent) takeCall(m *protocol.Sessions) {
	now := a.config.Now()
	for _, id := range m.Sessions {
		if len(a.slices.bySession[id]) > 0 { // no more than there are slices
			a.parking.calls[id] = &call{next: now, wait: CallAgain}
		}
	}
	a.superviseCalls(now)
}

// superviseCalls says again what is due. A client that asks as one that is not parked is
// on its way; one that was called before it said that it is parked is called CallLeast
// times all the same, for its word may be.
func (a *Agent) superviseCalls(now time.Duration) {
	if len(a.parking.calls) == 0 {
		return
	}
	inOrder := slices.SortedFunc(maps.Keys(a.parking.calls), func(x, y registry.SessionID) int { return bytes.Compare(x[:], y[:]) })
	for _, id := range inOrder {
		c := a.parking.calls[id]
		held := a.slices.bySession[id]
		if len(held) == 0 || c.said >= CallLeast && !slices.ContainsFunc(held, (*slice).isParked) {
			delete(a.parking.calls, id) // now: it may be parked again when the next one is due
			continue
		}
		if now < c.next {
			continue
		}
		for _, s := range held {
			if s.pair != nil {
				_ = s.pair.SendControl([]byte{probe.KindCall}) // a lost one is said again
			}
		}
		c.said++
		c.next, c.wait = now+c.wait, min(2*c.wait, CallMost)
	}
}

// isParked reports whether the client says so by this slice.
func (s *slice) isParked() bool { return s.mark.Load() != 0 }

// forgetCalls drops those of an arbiter whose stream is over: the next one decides itself.
func (a *Agent) forgetCalls() { a.parking.calls = make(map[registry.SessionID]*call) }
