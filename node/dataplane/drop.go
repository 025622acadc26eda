package dataplane

import "sync/atomic"

// Reason says why a packet was not delivered. Zero means that it goes on.
type Reason uint8

// The reasons. Their names are what metrics and status show.
const (
	Pass Reason = iota
	DropShort
	DropMalformed
	DropOffload
	DropTooBig
	DropNoRoute
	DropNoSlice
	DropNoPath
	DropExhausted
	DropLoop
	DropSource
	DropDestination
	DropForeign
	DropUnknownSPI
	DropEarly
	DropReplay
	DropAuth
	DropPadding
	DropNextHeader
	DropPeer
	DropHops
	DropType
	DropSend
	DropWriteTUN
	DropStalled
	DropECN
	DropPart
	DropIncomplete
	DropQueue
	DropClear
	DropUnproven
	DropNotAllowed
	reasonCount
)

// String returns the reason's name.
func (r Reason) String() string {
	names := [reasonCount]string{
		"pass", "short", "malformed", "offload", "too-big", "no-route", "no-slice", "no-path",
		"exhausted", "loop", "source", "destination", "foreign", "unknown-spi", "early",
		"replay", "auth", "padding", "next-header", "peer", "hops", "type", "send",
		"write-tun", "stalled", "ecn", "part", "incomplete", "queue", "clear", "unproven", "not-allowed",
	}
	if r >= reasonCount {
		return "unknown"
	}
	return names[r]
}

// Reasons lists every reason a packet can be dropped for.
func Reasons() []Reason {
	all := make([]Reason, 0, reasonCount-1)
	for r := Pass + 1; r < reasonCount; r++ {
		all = append(all, r)
	}
	return all
}

// Port is one of the ways into or out of the engine.
type Port uint8

// The ports. Received counts use the first three and PortPiece, Delivered counts
// all. A piece is received when a packet is cut: its first piece goes on as the
// packet. It is delivered when it waits for its other half, and received again
// if it waits in vain.
const (
	PortTUN Port = iota
	PortOuter
	PortInside
	PortControl
	PortForward
	PortPiece
	portCount
)

// String returns the port's name.
func (p Port) String() string {
	names := [portCount]string{"tun", "outer", "inside", "control", "forward", "piece"}
	if p >= portCount {
		return "unknown"
	}
	return names[p]
}

// Stats counts packets: a segment of a super-packet or one datagram each. The
// sum of Received is the sum of Delivered and Dropped whenever no packet is in
// flight (I8).
type Stats struct {
	Received  [portCount]uint64
	Delivered [portCount]uint64
	Dropped   [reasonCount]uint64
	// Lost is what the kernel dropped before the engine could receive it.
	Lost uint64
}

// Balance is received minus delivered minus dropped: packets in flight.
func (s Stats) Balance() int64 {
	var n int64
	for i := range s.Received {
		n += int64(s.Received[i]) - int64(s.Delivered[i])
	}
	for _, d := range s.Dropped {
		n -= int64(d)
	}
	return n
}

func (s *Stats) add(o Stats) {
	for i := range s.Received {
		s.Received[i] += o.Received[i]
		s.Delivered[i] += o.Delivered[i]
	}
	for i := range s.Dropped {
		s.Dropped[i] += o.Dropped[i]
	}
	s.Lost += o.Lost
}

// ledger is one worker's counters. Only its worker writes; anybody reads. Packets
// are decided on in the order they were taken, and leave in the order they were
// admitted.
type ledger struct {
	received  [portCount]atomic.Uint64
	delivered [portCount]atomic.Uint64
	dropped   [reasonCount]atomic.Uint64
	trace     *tracer // nil outside of tests
	_         [64]byte
}

// take counts n packets received at a port.
func (l *ledger) take(port Port, n int) {
	l.received[port].Add(uint64(n))
	if l.trace != nil {
		l.trace.take(n)
	}
}

// decide says that the n oldest packets taken are admitted and will be sent.
func (l *ledger) decide(n int) {
	if l.trace != nil {
		l.trace.decide(n)
	}
}

// deliver counts the n oldest admitted packets as delivered.
func (l *ledger) deliver(port Port, n int) {
	l.delivered[port].Add(uint64(n))
	if l.trace != nil {
		l.trace.leave(n, ActionSend)
	}
}

// fail counts the n oldest admitted packets as dropped.
func (l *ledger) fail(reason Reason, n int) {
	l.dropped[reason].Add(uint64(n))
	if l.trace != nil {
		l.trace.leave(n, ActionDiscard)
	}
}

// drop counts the n oldest packets not yet decided on as dropped.
func (l *ledger) drop(reason Reason, n int) {
	l.dropped[reason].Add(uint64(n))
	if l.trace != nil {
		l.trace.settle(n, ActionDiscard)
	}
}

// consume counts the n oldest packets not yet decided on as delivered at once.
func (l *ledger) consume(port Port, n int) {
	l.delivered[port].Add(uint64(n))
	if l.trace != nil {
		l.trace.settle(n, ActionSend)
	}
}

func (l *ledger) stats() (s Stats) {
	for i := range l.received {
		s.Received[i] = l.received[i].Load()
		s.Delivered[i] = l.delivered[i].Load()
	}
	for i := range l.dropped {
		s.Dropped[i] = l.dropped[i].Load()
	}
	return s
}
