// Package pmtu finds the largest inner packet that one datagram of a path
// carries both ways, by padded probes that the far end answers at the same size
// (RFC 8899): a round of the sizes that links really have, then bisection; the
// size in use is confirmed while there is traffic, so that a black hole is
// noticed, and from time to time larger ones are tried again.
//
// It is a pure state machine of one path. It sends nothing, has no clock, and
// does not know what the sizes of several paths make of a session.
package pmtu

import (
	"cmp"
	"slices"
	"time"
)

// Overheads of an inner packet.
const (
	overheadESP = 34 // header, IV, trailer without padding, ICV
	overheadUDP = 8
	headerIPv4  = 20
	headerIPv6  = 40
)

// Inner is the largest inner packet whose sealed datagram makes an outer packet
// of at most so many bytes.
func Inner(outer int, v6 bool) int {
	network := headerIPv4
	if v6 {
		network = headerIPv6
	}
	const trailer = 2
	sealed := outer - network - overheadUDP - overheadESP + trailer
	return sealed&^3 - trailer
}

// Search is the knowledge of one path. It is owned by one control loop.
type Search struct {
	sizes    []int // Outers, as inner sizes of this path's family
	size     int   // in use
	passed   int   // the largest that came back; 0: none
	failed   int   // the smallest that does not pass, or one above the largest
	attempts []attempt
	ever     bool          // something came back once
	moved    bool          // the path changed: what passed is to be shown again first
	shrunk   bool          // a size that passed does not any more
	settled  bool          // nothing is left to try
	raiseAt  time.Duration // once settled: when larger sizes are tried again
	shownAt  time.Duration // when passed last came back

	expected int // what another path carries that is probably like this one; 0: none
	beyond   int // and the smallest that it does not

	pause    time.Duration // of the present rest, 0: none, see rest
	restedAt time.Duration
}

// attempt is one size under test.
type attempt struct {
	size, tries int
	first, last time.Duration // tries
}

// New begins the search on a path of one outer family.
func New(v6 bool) *Search {
	s := &Search{size: Inner(BaseOuter, v6)}
	s.set(v6)
	return s
}

// Like begins the search on a path that is probably as another one is: through the same
// gateway, for the same session. Nothing is believed of it, but the other's size is
// tried first and alone, and if it passes, larger ones are tried as soon as after a
// shrinking. Where nothing is known of the other it is New.
func Like(other *Search, v6 bool) *Search {
	s := New(v6)
	if other.known() && other.passed < s.top() {
		s.expected, s.beyond = other.passed, min(other.failed, s.top())
	}
	return s
}

// Assume has the size that is expected be in use before it is shown, and says whether there is one.
// If it does not pass after all, what passes anywhere is used until another is shown.
func (s *Search) Assume() bool {
	if s.expected > 0 {
		s.size = s.expected
	}
	return s.expected > 0
}

// known says that a size was shown, and nothing is left to try.
func (s *Search) known() bool { return s != nil && s.settled && s.passed > 0 }

// Narrower says that this path is known to carry less than another one, or that of the other
// nothing is known.
func (s *Search) Narrower(other *Search) bool {
	return s.known() && (!other.known() || cmp.Or(cmp.Compare(s.passed, other.passed), cmp.Compare(s.failed, other.failed)) < 0)
}

// set takes the sizes of an outer family.
func (s *Search) set(v6 bool) {
	s.sizes = s.sizes[:0]
	for _, outer := range Outers {
		s.sizes = append(s.sizes, Inner(outer, v6))
	}
	s.failed = s.top()
}

// top is one above the largest size.
func (s *Search) top() int { return s.sizes[len(s.sizes)-1] + 1 }

// Size is the largest inner packet that one datagram may carry now.
func (s *Search) Size() int { return s.size }

// Measured says that the size was shown, not assumed.
func (s *Search) Measured() bool { return s.ever }

// Settled says that nothing is left to try but to look again later.
func (s *Search) Settled() bool { return s.settled }

// Tick is what Step is told of a moment.
type Tick struct {
	Now   time.Duration
	Heard time.Duration // when the far end was last heard, by a packet of any size
	// Patience is how long an answer may take.
	Patience time.Duration
	// Active says that the path carries traffic.
	Active bool
}

// Step gives the sizes to probe now, the largest first: their answers come in
// that order, so the first one settles the round.
func (s *Search) Step(t Tick) []int {
	s.judge(t)
	if s.resting(t) {
		return nil
	}
	s.plan(t)
	var due []int
	for i := range s.attempts {
		a := &s.attempts[i]
		if a.tries > 0 && t.Now-a.last < t.Patience {
			continue
		}
		if a.tries == 0 {
			a.first = t.Now
		}
		a.tries, a.last = a.tries+1, t.Now
		due = append(due, a.size)
	}
	return due
}

// judge gives up sizes that did not come back in as many tries, provided that
// the far end was heard meanwhile: a path that is silent shows nothing.
func (s *Search) judge(t Tick) {
	silent := false
	for _, a := range slices.Clone(s.attempts) {
		if a.tries < s.tries(a.size) || t.Now-a.last < t.Patience {
			continue
		}
		if t.Heard <= a.first {
			silent = true
			s.retry(a.size)
		} else {
			s.fail(a.size)
		}
	}
	if silent {
		s.rest(t)
	}
}

// rest lets a silent path alone, for longer each time.
func (s *Search) rest(t Tick) {
	s.pause, s.restedAt = min(max(2*s.pause, t.Patience), MaxRest), t.Now
}

// resting reports whether it is too early to go on: whoever is heard is asked again
// at once.
func (s *Search) resting(t Tick) bool {
	if t.Heard > s.restedAt {
		s.pause = 0
	}
	return s.pause > 0 && t.Now-s.restedAt < s.pause
}

// tries is how often a size is tried; one that passed before more often.
func (s *Search) tries(size int) int {
	if size == s.passed {
		return ConfirmTries
	}
	return SearchTries
}

// retry begins a size's tries anew.
func (s *Search) retry(size int) {
	if i := slices.IndexFunc(s.attempts, func(a attempt) bool { return a.size == size }); i >= 0 {
		s.attempts[i].tries = 0
	}
}

// fail notes that a size does not pass. If it is the one in use, that is a
// black hole: all sizes below are tried at once, and the first to come back is
// used; what is lost until then would be lost at any size.
func (s *Search) fail(size int) {
	s.failed = min(s.failed, size)
	if size <= s.passed {
		s.passed, s.shrunk, s.moved = 0, true, false
	}
	if s.size == s.expected && size <= s.size { // it was assumed
		s.size = s.sizes[slices.Index(Outers[:], BaseOuter)]
	}
	s.settled = false
	s.drop(func(a attempt) bool { return a.size >= size })
}

// drop ends the tries of some sizes.
func (s *Search) drop(which func(attempt) bool) {
	s.attempts = slices.DeleteFunc(s.attempts, which)
}

// plan adds what is to be tried next.
func (s *Search) plan(t Tick) {
	if s.passed > 0 && !s.trying(s.passed) && (s.moved || t.Active && t.Now-s.shownAt >= ConfirmEvery) {
		s.attempts = append(s.attempts, attempt{size: s.passed})
	}
	if s.settled && t.Active && t.Now >= s.raiseAt {
		s.settled, s.shrunk, s.failed = false, false, s.top()
	}
	if s.settled || s.searching() || s.moved && s.passed > 0 {
		return
	}
	next := s.candidates()
	if len(next) == 0 {
		s.settle(t.Now)
	}
	for _, size := range next {
		s.attempts = append(s.attempts, attempt{size: size})
	}
}

// settle ends the search until it is time to look again.
func (s *Search) settle(now time.Duration) {
	s.settled, s.raiseAt = true, now+RaiseEvery
	if s.shrunk {
		s.raiseAt = now + RaiseSoon
	}
	switch {
	case s.passed > 0:
	case s.ever:
		s.size = s.sizes[0]
	default:
		s.size = Legacy
	}
}

// trying reports whether a size is under test.
func (s *Search) trying(size int) bool {
	return slices.ContainsFunc(s.attempts, func(a attempt) bool { return a.size == size })
}

// searching reports whether a size above the one that passed is.
func (s *Search) searching() bool {
	return slices.ContainsFunc(s.attempts, func(a attempt) bool { return a.size > s.passed })
}

// candidates are the sizes of the next round, the largest first: those of real
// links between what passed and what failed, then points between.
func (s *Search) candidates() (next []int) {
	if s.passed == 0 && s.expected > 0 && s.expected < s.failed {
		return []int{s.expected}
	}
	for i := len(s.sizes) - 1; i >= 0; i-- {
		if size := s.sizes[i]; size > s.passed && size < s.failed {
			next = append(next, size)
		}
	}
	if len(next) > 0 || s.passed == 0 || s.failed-s.passed <= Grain {
		return next
	}
	gap := s.failed - s.passed
	for i := Points; i > 0; i-- {
		next = append(next, s.passed+gap*i/(Points+1))
	}
	return next
}

// Pass notes that a size came back.
func (s *Search) Pass(size int, now time.Duration) {
	if size < s.passed || size >= s.top() {
		return
	}
	if size > s.passed {
		s.settled = false
	}
	s.passed, s.size, s.ever, s.shownAt, s.moved = size, size, true, now, false
	s.failed = max(s.failed, size+1)
	if size == s.expected && s.beyond < s.failed {
		s.failed, s.shrunk = s.beyond, true
	}
	s.expected = 0
	s.drop(func(a attempt) bool { return a.size <= size })
}

// Refuse notes that this host's own link does not take the size.
func (s *Search) Refuse(size int) { s.fail(size) }

// Move says that the path changed: what passed is shown again at once, and
// larger sizes are tried after that.
func (s *Search) Move(v6 bool) {
	s.set(v6)
	s.moved, s.settled = true, false
	s.attempts = s.attempts[:0]
}
