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
	"fmt"
	"io"
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
	unknown   int                             // of them, whose outcome was lost
	marks     marks                           // marks.go
	batches   bool                            // marks may share a command
	regrants  bool                            // resumptions may grant slices
	lastTag   Tag
	pools     uint64 // how often a node's prekeys began anew
	refills   budget
	moves     budget

	queue    queue                                               // lives by when they are due; due.go
	on       map[identity.NodeID]map[registry.SessionID]struct{} // sessions by the agents of their slices
	attached map[registry.RequestID]*live                        // by their clients' streams
	waiting  map[registry.RequestID]struct{}                     // resumptions without outcome whose clients are there
	over     []registry.SessionID                                // ended, and not forgotten here yet
	seen     registry.Mark                                       // of what the registry touched; notice.go
	doubted  []identity.NodeID                                   // nodes whose supply may have changed
	draining map[identity.NodeID]struct{}                        // drained, and not empty as far as is known
	rolesDue bool
	partsDue bool
	crowded  bool // a proposal found no room, in the look under way
	ticked   time.Duration
	looks    int // at sessions, for tests

	bare bare

	reservedUntil time.Duration // the last reservation ends; 0: none

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
		on:        map[identity.NodeID]map[registry.SessionID]struct{}{},
		attached:  map[registry.RequestID]*live{},
		waiting:   map[registry.RequestID]struct{}{},
		draining:  map[identity.NodeID]struct{}{},
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
		a.stir(e.Session)
	case SliceUp:
		a.sliceUp(view, e)
		a.stir(e.Session)
	case SliceSilent:
		a.sliceSilent(view, e)
		a.stir(e.Session)
	case Heard:
		a.heard(e)
		a.hearParked(e)
	case Park:
		a.park(view, e)
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

// Tick looks at what is due. It is to be called every 50 to 100 ms.
func (a *Arbitrator) Tick(now time.Duration, view *registry.State) []Action {
	a.now = max(a.now, now)
	a.retryUnknown()
	a.notice(view)
	a.doubtReserved()
	a.reviewSupply(view)
	if a.rolesDue {
		a.tendRoles(view)
	}
	if a.partsDue {
		a.tendParts(view)
	}
	a.tendDue(view)
	a.tendEnded(view)
	a.tendDrained(view)
	a.sayBare()
	a.ticked = a.now
	return a.flush()
}

func (a *Arbitrator) emit(action Action) { a.out = append(a.out, action) }

func (a *Arbitrator) flush() []Action {
	a.sendMarks()
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

// renewed is when there is something to take again.
func (b *budget) renewed() time.Duration { return b.since + time.Second }
