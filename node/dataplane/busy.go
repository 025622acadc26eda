package dataplane

import (
	"sync"
	"time"
)

// busy is whether so many packets come that the workers are in system calls for a good
// part of the time.
type busy struct {
	mu       sync.Mutex // protects what follows
	looked   int64      // clock of the last look; 0 before the first
	received uint64     // until then
	last     int64      // look that found so many
	is       bool
	over     bool // the engine is closed
}

// look takes how many packets were received so far. It is busy from the first look on that
// finds so many, until none did for CalmAfter.
func (b *busy) look(received uint64, now int64) {
	past := now - b.looked
	switch much := BusyRate * uint64(past) / uint64(time.Second); {
	case b.looked != 0 && received-b.received >= much:
		b.is, b.last = true, now
	case now-b.last >= int64(CalmAfter):
		b.is = false
	}
	b.looked, b.received = max(now, 1), received
}

// lookBusy tells the owner when the engine becomes busy, and when it is no more. In between its
// receivers wait in system calls: who does so without a seat of his own keeps another worker,
// or a control loop, from its turn for up to 5 ms.
func (e *Engine) lookBusy(now int64) {
	b := &e.busy
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.over || now-b.looked < int64(BusyEvery) {
		return
	}
	was, s := b.is, e.Stats()
	b.look(s.Received[PortTUN]+s.Received[PortOuter]+s.Received[PortInside], now)
	if b.is != was && e.config.Busy != nil {
		e.config.Busy(b.is)
	}
	if b.is || was {
		e.waitInCalls(b.is)
	}
}

// caller is a socket or a queue whose reader can wait in system calls. That costs half of a wait
// in Go's poller, and keeps a seat meanwhile.
type caller interface{ WaitInCalls(bool) }

func (e *Engine) waitInCalls(calls bool) {
	for _, q := range e.queues {
		if c, ok := q.(caller); ok {
			c.WaitInCalls(calls)
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, s := range e.workers {
		if c, ok := s.(caller); ok {
			c.WaitInCalls(calls)
		}
	}
}

// closeBusy ends it.
func (e *Engine) closeBusy() {
	b := &e.busy
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.is && e.config.Busy != nil {
		e.config.Busy(false)
	}
	b.is, b.over = false, true
}
