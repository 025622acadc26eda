// Package session is the arbiter's judgement: which agents carry a session,
// when a slice goes elsewhere, who is egress. It owns liveness: what is tried,
// when, how often. It does not own safety, which is registry.Apply's: every
// decision here is a command that Apply may refuse, and nothing is sent to an
// agent or a client before the commit that allows it (I6).
//
// An Arbitrator lives as long as one term. It has no clock, socket or
// goroutine: events and the time go in, actions come out.
package session

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// Config is what an Arbitrator starts with.
type Config struct {
	Self   identity.NodeID // the arbiter's own node
	Start  time.Duration   // time at the start of the term
	Random io.Reader       // for command and session identifiers; never fails
}

// Arbitrator is owned by one goroutine of the arbiter. All its state is
// volatile and rebuilt by events in the next term; the durable part is the
// registry, lent to each call as view and only read.
type Arbitrator struct {
	self   identity.NodeID
	random io.Reader
	start  time.Duration
	now    time.Duration

	hosts     map[identity.NodeID]*host       // streams, prekeys and load; host.go
	openings  map[registry.RequestID]*opening // requests before their commit; open.go
	lives     map[registry.SessionID]*live    // clients and slots of sessions; live.go
	parts     map[string]*partWatch           // by prefix; part.go
	proposals map[Tag]*proposal               // without outcome; propose.go
	lastTag   Tag
	pools     uint64 // how often a node's prekeys began anew
	refills   budget
	moves     budget

	out []Action
}

// New makes the arbitrator of a term, after Barrier.
func New(c Config) *Arbitrator {
	return &Arbitrator{
		self: c.Self, random: c.Random, start: c.Start, now: c.Start,
		hosts:     map[identity.NodeID]*host{},
		openings:  map[registry.RequestID]*opening{},
		lives:     map[registry.SessionID]*live{},
		parts:     map[string]*partWatch{},
		proposals: map[Tag]*proposal{},
		refills:   budget{rate: RefillsPerSecond},
		moves:     budget{rate: MovesPerSecond},
	}
}

// Step takes one event. view is the registry as of now, with every command
// whose Committed was or is being delivered.
func (a *Arbitrator) Step(now time.Duration, view *registry.State, e Event) []Action {
	a.now = max(a.now, now)
	switch e := e.(type) {
	case NodeUp:
		a.nodeUp(view, e)
	case NodeDown:
		a.nodeDown(e)
	case Prekeys:
		a.addPrekeys(view, e)
	case Load:
		a.load(view, e)
	case Open:
		a.open(view, e)
	case Resume:
		a.resume(view, e)
	case ClientGone:
		a.clientGone(e)
	case Committed:
		a.committed(view, e)
	case SliceAck:
		a.sliceAck(view, e)
	case SliceUp:
		a.sliceUp(view, e)
	case SliceSilent:
		a.sliceSilent(view, e)
	case Heard:
		a.heard(e)
	case Takeover:
		a.takeover(view, e)
	case Condition:
		a.condition(view, e)
	case Drain:
		a.drain(view, e)
	case End:
		a.end(view, e)
	default:
		panic(fmt.Sprintf("session: unknown event %T", e))
	}
	return a.flush()
}

// Tick looks at everything that only time changes. It is to be called every
// 50 to 100 ms.
func (a *Arbitrator) Tick(now time.Duration, view *registry.State) []Action {
	a.now = max(a.now, now)
	a.retryUnknown()
	a.tendRoles(view)
	a.tendParts(view)
	for _, id := range sortedSessions(view) {
		a.tend(view, view.Sessions[id])
	}
	a.tendEnded(view)
	a.tendDrained(view)
	return a.flush()
}

func (a *Arbitrator) emit(action Action) { a.out = append(a.out, action) }

func (a *Arbitrator) flush() []Action {
	out := a.out
	a.out = nil
	return out
}

func (a *Arbitrator) refuse(request registry.RequestID, code Code, reason string) {
	a.emit(Refuse{Request: request, Code: code, Reason: reason})
}

func (a *Arbitrator) alert(format string, args ...any) {
	a.emit(AlertOperator{fmt.Sprintf(format, args...)})
}

// sortedSessions is the active sessions in an order that does not depend on
// the map, so that the same inputs give the same actions.
func sortedSessions(view *registry.State) []registry.SessionID {
	ids := make([]registry.SessionID, 0, len(view.Sessions))
	for id, s := range view.Sessions {
		if s.State == registry.SessionActive {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, func(x, y registry.SessionID) int { return bytes.Compare(x[:], y[:]) })
	return ids
}

// budget is how much may be done in one second.
type budget struct {
	rate, left int
	since      time.Duration
	started    bool
}

func (b *budget) take(now time.Duration) bool {
	if !b.started || now-b.since >= time.Second {
		b.started, b.since, b.left = true, now, b.rate
	}
	if b.left == 0 {
		return false
	}
	b.left--
	return true
}
