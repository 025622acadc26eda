package dataplane

import (
	"math"
	"sync/atomic"
	"time"
)

// stall notices that this process stood still (SIGSTOP, a paused VM, a laptop
// asleep): others may have taken its slices over since. Ticks, pulses and workers
// show that it runs; whoever first sees that none did for StallLimit stops the engine
// until the owner resumes it. An owner that is late by itself has much to do, as after an
// election among ten thousand sessions, and its packets go on; not beyond OwnerLimit, for
// what it is told meanwhile, that a session is over, is not done.
type stall struct {
	ran    atomic.Int64 // clock when this process was last seen to run
	ticked atomic.Int64 // clock of the last tick; 0 before the first
	gap    atomic.Int64 // that stopped the engine; 0 while it runs, or halted
	heard  func(gap time.Duration)
}

// halted is the gap of an engine that waits for Revive.
const halted = math.MaxInt64

// Tick says that the owner runs; call it every 100 ms. The rule is
// off before the first tick. It returns 0, or how long this process stood
// still while the engine waits for Resume. Config.Busy is called by it.
func (e *Engine) Tick() (stood time.Duration) {
	s, now := &e.stall, e.config.Clock()
	e.lookBusy(now)
	if s.check(now) {
		// A worker may have seen only the beginning of the gap.
		gap := s.gap.Load()
		s.gap.CompareAndSwap(gap, max(gap, s.late(now)))
	}
	s.tick(now)
	if gap := s.gap.Load(); gap != halted {
		return time.Duration(gap)
	}
	return 0
}

// Pulse says that this process runs, whatever its owner is at: where no packet comes
// nobody else shows it.
func (e *Engine) Pulse() { e.stall.check(e.config.Clock()) }

// Resume says that the owner has confirmed which slices are still its own.
func (e *Engine) Resume() {
	e.stall.tick(e.config.Clock())
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
	e.stall.tick(e.config.Clock())
	e.stall.gap.CompareAndSwap(halted, 0)
}

// tick notes that the owner runs, and so this process.
func (s *stall) tick(now int64) {
	s.ran.Store(now)
	s.ticked.Store(max(now, 1)) // last: from now on the rule is on
}

// check reports whether nothing may be opened or sealed at this moment. Whoever asks
// shows that this process runs.
func (s *stall) check(now int64) bool {
	if s.gap.Load() != 0 {
		return true
	}
	if s.ticked.Load() == 0 {
		return false
	}
	if gap := s.late(now); gap != 0 {
		if s.gap.CompareAndSwap(0, gap) && s.heard != nil {
			s.heard(time.Duration(gap))
		}
		return true
	}
	if now-s.ran.Load() >= int64(RanEvery) {
		s.ran.Store(now)
	}
	return false
}

// late is for how long this process, or its owner, was not seen to run; 0 while that is no
// longer than may be.
func (s *stall) late(now int64) int64 {
	if stood := now - s.ran.Load(); stood > int64(StallLimit) {
		return stood
	}
	if busy := now - s.ticked.Load(); busy > int64(OwnerLimit) {
		return busy
	}
	return 0
}
