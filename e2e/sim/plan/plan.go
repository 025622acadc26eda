// Package plan says what goes wrong in one run of the simulation, and when: a seed and
// the shape of a mesh give a list of faults. Every fault ends, and the last one early
// enough that the mesh can be seen to recover. Without Beyond no plan asks for more than
// the mesh promises to bear.
//
// The package owns what may go wrong together. It owns neither how a fault is done (sim)
// nor how the mesh is judged (check). It is pure.
package plan

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Kind is what goes wrong.
type Kind int

// What may go wrong. The one it happens to is Who; of cuts between two, Other is the
// second.
const (
	Kill       Kind = iota // kill -9: the kernel says goodbye
	PowerOff               // nobody says goodbye
	Stop                   // SIGSTOP, then SIGCONT
	Isolate                // nothing comes or goes
	Mute                   // what it sends is lost
	Deafen                 // what is sent to it is lost
	Part                   // two do not hear each other
	PartOneWay             // Other does not hear Who
	Loss                   // of packets, everywhere
	Delay                  // of packets, everywhere
	Clock                  // its wall clock is set, by Step
	OldDisk                // killed, and started from the disk that it had Step earlier
	EmptyDisk              // killed, and started from nothing
	LostWrites             // without power, and its disk lacks the last Writes
	Restart                // all nodes are killed at once
	drawn                  // what follows is drawn for itself, where clients park

	Lie        // its agent says of its clients that they are parked, or are not, as it likes
	Kick       // an operator ends its session
	KickUnsaid // the same, and the arbiter is killed when that is committed, before it says so
	Revoke     // an operator takes its account away, and gives it again
	kinds
)

var words = [kinds]string{
	"is killed", "loses power", "is stopped", "is isolated", "is not heard", "hears nothing", "is apart from", "is not heard by",
	"packets are lost", "packets are late", "has its clock set", "is killed, and comes back with an older disk",
	"is killed, and comes back with an empty disk", "loses power, and its last writes", "all nodes are killed", "",
	"lies about parked clients", "is kicked", "is kicked by an arbiter that is killed", "is revoked",
}

// String is the kind in words.
func (k Kind) String() string { return words[k] }

// Who is a node or a client, by number from 0. The zero Who is the first node.
type Who struct {
	Client bool
	Number int
}

// String is n1 or c1.
func (w Who) String() string {
	if w.Client {
		return fmt.Sprintf("c%d", w.Number+1)
	}
	return fmt.Sprintf("n%d", w.Number+1)
}

// Fault is one thing that goes wrong, and for how long.
type Fault struct {
	At, Lasts time.Duration
	Kind      Kind
	Who       Who
	Other     Who
	Step      time.Duration // of Clock ahead, of OldDisk back, of Delay the longest
	Percent   int           // of Loss
	Writes    int           // of LostWrites
}

// End is when it is over.
func (f Fault) End() time.Duration { return f.At + f.Lasts }

// String is a line of the trace.
func (f Fault) String() string {
	at, lasts := f.At.Round(time.Millisecond), f.Lasts.Round(time.Millisecond)
	switch f.Kind {
	case Loss:
		return fmt.Sprintf("%v %d %% of packets are lost for %v", at, f.Percent, lasts)
	case Delay:
		return fmt.Sprintf("%v packets are late by up to %v for %v", at, f.Step, lasts)
	case Restart:
		return fmt.Sprintf("%v %v, and back after %v", at, f.Kind, lasts)
	case Part, PartOneWay:
		return fmt.Sprintf("%v %v %v %v for %v", at, f.Who, f.Kind, f.Other, lasts)
	case Clock:
		return fmt.Sprintf("%v %v has its clock set by %v for %v", at, f.Who, f.Step, lasts)
	case OldDisk:
		return fmt.Sprintf("%v %v %v (of %v earlier) after %v", at, f.Who, f.Kind, f.Step.Round(time.Millisecond), lasts)
	case LostWrites:
		return fmt.Sprintf("%v %v %v (%d), for %v", at, f.Who, f.Kind, f.Writes, lasts)
	}
	return fmt.Sprintf("%v %v %v for %v", at, f.Who, f.Kind, lasts)
}

// Shape is what a plan is for.
type Shape struct {
	Nodes, Voters, Clients int
	Start                  time.Duration // before which nothing goes wrong
	Length                 time.Duration // of the run
	Settle                 time.Duration // at its end, in which nothing does
	Beyond                 bool          // more may go wrong at once than is promised to be borne
	Parks                  bool          // clients are parked within the run
}

// Plan is what goes wrong in one run, by time.
type Plan struct {
	Seed   uint64
	Shape  Shape
	Faults []Fault
	Orders []Fault // what operators do and agents say meanwhile: nothing breaks by it
}

// String is the plan, a fault in a line.
func (p Plan) String() string {
	var b strings.Builder
	for _, f := range slices.Concat(p.Faults, p.Orders) {
		fmt.Fprintln(&b, f)
	}
	return b.String()
}

// Healed is when the last fault is over, and the last order.
func (p Plan) Healed() (at time.Duration) {
	for _, f := range slices.Concat(p.Faults, p.Orders) {
		at = max(at, f.End())
	}
	return at
}
