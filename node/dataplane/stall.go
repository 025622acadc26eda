package dataplane

import (
	"math"
	"sync/atomic"
	"time"
)

// stall notices that this process stood still (SIGSTOP, a paused VM, a laptop
// asleep): others may have taken its slices over since. The owner ticks;
// whoever first sees a gap, a tick or a worker, stops the engine until the
// owner resumes it.
type stall struct {
	last  atomic.Int64 // clock of the last tick; 0 before the first
	gap   atomic.Int64 // that stopped the engine; 0 while it runs, or halted
	heard func(gap time.Duration)
}

// halted is the gap of an engine that waits for Revive.
const halted = math.MaxInt64

// Tick says that the owner runs; call it at least every 100 ms. The rule is
// off before the first tick. It returns 0, or how long this process stood
// still while the engine waits for Resume. Config.Busy is called by it.
func (e *Engine) Tick() (stood time.Duration) {
	s, now := &e.stall, e.config.Clock()
	e.lookBusy(now)
	if s.check(now) {
		// A worker may have seen only the beginning of the gap.
		gap := s.gap.Load()
		s.gap.CompareAndSwap(gap, max(gap, now-s.last.Load()))
	}
	s.last.Store(max(now, 1))
	if gap := s.gap.Load(); gap != halted {
		return time.Duration(gap)
	}
	return 0
}

// Resume says that the owner has confirmed which slices are still its own.
func (e *Engine) Resume() {
	e.stall.last.Store(max(e.config.Clock(), 1))
	if gap := e.stall.gap.Load(); gap != halted {
		e.stall.gap.CompareAndSwap(gap, 0)
	}
}

// Halt stops the engine at once, whatever the clock says: the keys in it may be in
// use elsewhere. Packets are dropped as while a process stands still. Resume does
// not end it, only Revive.
func (e *Engine) Halt() { e.stall.gap.Store(halted) }

// Revive says that the owner has given up every key that the engine had when it was
// halted, and has published what is left.
func (e *Engine) Revive() {
	e.stall.last.Store(max(e.config.Clock(), 1))
	e.stall.gap.CompareAndSwap(halted, 0)
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
