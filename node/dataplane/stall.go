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
	hung   atomic.Bool  // the last one was the owner's, while this process ran
	heard  func(gap time.Duration)
}

// halted is the gap of an engine that waits for Revive.
const halted = math.MaxInt64

// Tick says that the owner runs; call it every 100 ms. The rule is
// off before the first tick. It returns 0, or how long this process stood
// still, or the owner did not tick, while the engine waits for Resume.
// Config.Busy is called by it.
func (e *Engine) Tick() (stood time.Duration) {
	s, now := &e.stall, e.config.Clock()
	e.lookBusy(now)
	if s.check(now) {
		// A worker may have seen only the beginning of the gap.
		gap, since := s.gap.Load(), &s.ran
		if s.hung.Load() {
			since = &s.ticked
		}
		s.gap.CompareAndSwap(gap, max(gap, now-since.Load()))
	}
	s.tick(now)
	if gap := s.gap.Load(); gap != halted {
		return time.Duration(gap)
	}
	return 0
}

// Hung reports whether the engine stopped last because its owner did not tick, while this
// process ran.
func (e *Engine) Hung() bool { return e.stall.hung.Load() }

// Pulse says that this process runs, whatever its owner is at: where no packet comes
// nobody else shows it.
func (e *Engine) Pulse() { e.stall.check(e.config.Clock()) }

// Resume says that the owner has confirmed which slices are still its own. It has not if this
// process stood still once more meanwhile: then the next tick says for how long.
func (e *Engine) Resume() {
	s, now := &e.stall, e.config.Clock()
	gap := s.gap.Load()
	if again, _ := s.late(now); gap == halted || gap != 0 && again != 0 {
		return
	}
	s.tick(now)
	s.gap.CompareAndSwap(gap, 0)
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
	s.runs(now)
	s.ticked.Store(max(now, 1)) // last: from now on the rule is on
}

// runs notes that this process does. Whoever read the clock and had to wait does not take
// back what others have noted since.
func (s *stall) runs(now int64) {
	for ran := s.ran.Load(); ran < now && !s.ran.CompareAndSwap(ran, now); ran = s.ran.Load() {
	}
}

// check reports whether nothing may be opened or sealed at this moment. Whoever asks
// shows that this process runs, also while it waits for its owner.
func (s *stall) check(now int64) bool {
	if s.ticked.Load() == 0 {
		return s.gap.Load() != 0
	}
	if gap, hung := s.late(now); gap != 0 {
		if hung {
			s.runs(now)
		}
		s.stop(now, gap, hung)
		return true
	}
	if now-s.ran.Load() >= int64(RanEvery) {
		s.runs(now)
	}
	return s.gap.Load() != 0
}

// stop is for a gap that was seen. Who saw it may have had to wait until the owner had
// heard of it from another and has resumed: it is not to hear of it twice.
func (s *stall) stop(now, gap int64, hung bool) {
	if s.gap.Load() != 0 {
		return
	}
	s.hung.Store(hung) // before anybody can see the gap
	if !s.gap.CompareAndSwap(0, gap) {
		return
	}
	if still, _ := s.late(now); still == 0 {
		s.gap.CompareAndSwap(gap, 0)
	} else if s.heard != nil {
		s.heard(time.Duration(gap))
	}
}

// late is for how long this process was not seen to run, or, hung, its owner; 0 while that is
// no longer than may be.
func (s *stall) late(now int64) (gap int64, hung bool) {
	if stood := now - s.ran.Load(); stood > int64(StallLimit) {
		return stood, false
	}
	if busy := now - s.ticked.Load(); busy > int64(OwnerLimit) {
		return busy, true
	}
	return 0, false
}
