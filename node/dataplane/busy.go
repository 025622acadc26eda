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

// lookBusy tells the owner when the engine becomes busy, and when it is no more.
func (e *Engine) lookBusy(now int64) {
	b := &e.busy
	b.mu.Lock()
	defer b.mu.Unlock()
	if e.config.Busy == nil || b.over || now-b.looked < int64(BusyEvery) {
		return
	}
	was, s := b.is, e.Stats()
	b.look(s.Received[PortTUN]+s.Received[PortOuter]+s.Received[PortInside], now)
	if b.is != was {
		e.config.Busy(b.is)
	}
}

// closeBusy ends it.
func (e *Engine) closeBusy() {
	b := &e.busy
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.is {
		e.config.Busy(false)
	}
	b.is, b.over = false, true
}
