// Package slicing decides which slice of a session carries the next run. It
// owns the modes, the deficit arithmetic by bytes and weight, the rendezvous
// hash of flows that must stay together, the comparison of paths that probes
// have measured, the quota arithmetic of admission (how many agents a wanted
// bandwidth needs), and the order of what arrives.
//
// It does not own slices, keys or sockets, does not know whether an agent
// lives (a weight of 0 says it), has no clock and starts nothing.
package slicing

import (
	"errors"
	"fmt"
	"time"
)

// ErrMode says that a mode's name is unknown.
var ErrMode = errors.New("slicing: mode not available")

// Mode is how runs are spread over the slices of a session.
type Mode uint8

// The modes.
const (
	Burst   Mode = iota // deficit by bytes and weight, a visit of one quantum at a time
	Pin                 // every inner flow stays on one slice
	Packet              // packet i to usable slice i mod N, weights aside (the patent's letter)
	Flowlet             // a flow may change its slice after a pause longer than the skew
)

// String returns the word used in the command line, the policy and the grant.
func (m Mode) String() string {
	switch m {
	case Burst:
		return "burst"
	case Pin:
		return "pin"
	case Packet:
		return "packet"
	case Flowlet:
		return "flowlet"
	}
	return fmt.Sprintf("mode(%d)", uint8(m))
}

// ParseMode reads the word of a mode. An empty word and "auto" leave the
// choice to this package, which is Burst.
func ParseMode(word string) (Mode, error) {
	switch word {
	case "", "auto", "burst":
		return Burst, nil
	case "pin":
		return Pin, nil
	case "packet":
		return Packet, nil
	case "flowlet":
		return Flowlet, nil
	}
	return 0, fmt.Errorf("%w: %q", ErrMode, word)
}

// Set is the slices of a session at one moment. It is immutable: a change is
// another Set, and a Picker notices by the pointer. A slice keeps its place in
// every Set, whatever becomes of the others, or flows would follow the places.
type Set struct {
	Mode    Mode
	Weights []uint32 // by slice; 0 is not usable; at most MaxSlices are looked at
	Quantum int      // bytes of one visit; 0 is DefaultQuantum, never above MaxQuantum
	// Gap is the pause after which a flow may change its slice in mode Flowlet:
	// longer than what one slice is slower than another. 0: not known, none does.
	Gap time.Duration
	// Step is the step of mode auto; when it changes, every flow is placed anew.
	Step int
}

// Run is what is sealed whole under one SA. In mode Packet it is one packet.
type Run struct {
	Bytes     int
	Flow      uint64        // hash of the inner flow
	Sprayable bool          // its flow bears reordering (TCP); otherwise the flow stays on one slice
	Now       time.Duration // on any clock that does not go back
}

// quantum is the bytes of one visit.
func (s *Set) quantum() int {
	switch {
	case s.Quantum <= 0:
		return DefaultQuantum
	case s.Quantum > MaxQuantum:
		return MaxQuantum
	}
	return s.Quantum
}

// usable is the weights a Picker may look at.
func (s *Set) usable() []uint32 {
	if len(s.Weights) > MaxSlices {
		return s.Weights[:MaxSlices]
	}
	return s.Weights
}
