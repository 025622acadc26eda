package dataplane

import (
	"sync/atomic"
	"time"
)

// stall notices that this process stood still (SIGSTOP, a paused VM, a laptop
// asleep): others may have taken its slices over since. The owner ticks;
// whoever first sees a gap, a tick or a worker, stops the engine until the
// owner resumes it.
type stall struct {
	last  atomic.Int64 // clock of the last tick; 0 before the first
	gap   atomic.Int64 // that stopped the engine; 0 while it runs
	heard func(gap time.Duration)
}

// Tick says that the owner runs; call it at least every 100 ms. The rule is
// off before the first tick. It returns 0, or how long this process stood
// still while the engine waits for Resume.
func (e *Engine) Tick() (stood time.Duration) {
	s, now := &e.stall, e.config.Clock()
	if s.check(now) {
		// A worker may have seen only the beginning of the gap.
		s.gap.Store(max(s.gap.Load(), now-s.last.Load()))
	}
	s.last.Store(max(now, 1))
	return time.Duration(s.gap.Load())
}

// Resume says that the owner has confirmed which slices are still its own.
func (e *Engine) Resume() {
	e.stall.last.Store(max(e.config.Clock(), 1))
	e.stall.gap.Store(0)
}

// check reports whether nothing may be opened or sealed at this moment.
func (s *stall) check(now int64) bool {
	if s.gap.Load() != 0 {
		return true
	}
	last := s.last.Load()
	if last == 0 || now-last <= int64(StallLimit) {
		return false
	}
	if s.gap.CompareAndSwap(0, now-last) && s.heard != nil {
		s.heard(time.Duration(now - last))
	}
	return true
}
