package gateway

import "sync/atomic"

// Reason says why a datagram was not forwarded. Zero means that it was.
type Reason uint8

// The reasons. Their names are what metrics and status show.
const (
	Pass Reason = iota
	DropFromNode
	DropImplausible
	DropUnknownIndex
	DropDead
	DropRate
	DropFull
	DropPort
	DropSend
	DropStranger
	DropNoRow
	DropDuplicate
	DropQueue
	reasonCount
)

// String returns the reason's name.
func (r Reason) String() string {
	names := [reasonCount]string{
		"pass", "from-node", "implausible", "unknown-index", "dead", "rate", "full", "port",
		"send", "stranger", "no-row", "duplicate", "queue",
	}
	if r >= reasonCount {
		return "unknown"
	}
	return names[r]
}

// Reasons lists every reason a datagram can be dropped for.
func Reasons() []Reason {
	all := make([]Reason, 0, reasonCount-1)
	for r := Pass + 1; r < reasonCount; r++ {
		all = append(all, r)
	}
	return all
}

// Stats counts datagrams. Received is Forwarded plus Answered plus Dropped
// whenever none is in flight (I8).
type Stats struct {
	Received, Forwarded, Answered uint64
	Bytes                         uint64
	Dropped                       [reasonCount]uint64
	// Lost is what the kernel dropped at the inside ports.
	Lost uint64
	// Rows, Confirmed, Ports and Streams are what there is at this moment, MaxPorts is
	// how many ports there may be. PortFault says why one did not open lately.
	Rows, Confirmed, Ports, Streams int
	MaxPorts                        int
	PortFault                       error
	// StreamsOpened and StreamsRefused count since the start.
	StreamsOpened, StreamsRefused uint64
}

type counters struct {
	received, forwarded, answered, bytes atomic.Uint64
	dropped                              [reasonCount]atomic.Uint64
}

func (c *counters) stats() (s Stats) {
	s.Received, s.Forwarded = c.received.Load(), c.forwarded.Load()
	s.Answered, s.Bytes = c.answered.Load(), c.bytes.Load()
	for i := range c.dropped {
		s.Dropped[i] = c.dropped[i].Load()
	}
	return s
}
