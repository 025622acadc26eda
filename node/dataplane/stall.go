package dataplane

import (
	"sync/atomic"
	"time"
)

// stall notices that this process stood still (SIGSTOP, a paused VM): others
// may have taken its slices over since. The owner ticks; whoever first sees a
// gap, a tick or a worker, stops the engine until the owner resumes it.
type stall struct {
	last    atomic.Int64 // clock of the last tick; 0 before the first
	stopped atomic.Bool
	heard   func(gap time.Duration)
}

// Tick says that the owner runs; call it at least every 100 ms. The rule is
// off before the first tick.
func (e *Engine) Tick() {
	now := e.config.Clock()
	e.stall.check(now)
	e.stall.last.Store(max(now, 1))
}

// Resume says that the owner has confirmed which slices are still its own.
func (e *Engine) Resume() {
	e.stall.last.Store(max(e.config.Clock(), 1))
	e.stall.stopped.Store(false)
}

// check reports whether nothing may be opened or sealed at this moment.
func (s *stall) check(now int64) bool {
	if s.stopped.Load() {
		return true
	}
	last := s.last.Load()
	if last == 0 || now-last <= int64(StallLimit) {
		return false
	}
	if s.stopped.CompareAndSwap(false, true) && s.heard != nil {
		s.heard(time.Duration(now - last))
	}
	return true
}
