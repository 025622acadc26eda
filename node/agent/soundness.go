package agent

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// soundness is this node's judgement of itself: whether what arrives here for
// others is forwarded. It has no clock; faults and the time go in.
type soundness struct {
	is      protocol.Soundness
	faults  []string      // those of now, or those that made it broken
	faulty  time.Duration // how long there were faults lately, fading
	faultAt time.Duration // when the last one was seen
	at      time.Duration // when it was judged last
	stops   []stop        // the last ones
	woke    bool          // from one that was long, at wokeAt
	wokeAt  time.Duration
}

// stop is when this process went on after it stood still, and for how long it had.
type stop struct{ at, took time.Duration }

func newSoundness(now time.Duration) soundness { return soundness{is: protocol.Whole, at: now} }

// judge takes what is wrong just now, and reports whether the verdict changed.
func (s *soundness) judge(now time.Duration, faults []string) (changed bool) {
	// Over a time without ticks nothing is known.
	passed := min(now-s.at, 2*TickEvery)
	s.at = now
	if stops := s.standsStill(now); stops != "" {
		faults, s.faulty = append(faults, stops), BrokenAfter
	}
	if len(faults) > 0 {
		s.faults, s.faultAt = faults[:min(len(faults), MaxFaults)], now
		s.faulty = min(s.faulty+passed, BrokenAfter)
	} else {
		s.faulty = max(s.faulty-passed/FaultFade, 0)
	}
	was := s.is
	switch clean := now - s.faultAt; {
	case s.is != protocol.Broken && s.faulty >= BrokenAfter && len(faults) > 0:
		s.is = protocol.Broken
	case s.is == protocol.Broken && clean >= MendedAfter:
		s.is, s.faults, s.faulty = protocol.Mended, nil, 0
	case s.is == protocol.Mended && clean >= WholeAfter:
		s.is = protocol.Whole
	}
	return s.is != was
}

// stopped notes that this process stood still.
func (s *soundness) stopped(now, stood time.Duration) {
	if len(s.stops) == MaxStops {
		s.stops = slices.Delete(s.stops, 0, 1)
	}
	s.stops = append(s.stops, stop{now, stood})
	if stood > RestartAfter {
		s.woke, s.wokeAt = true, now
	}
}

// wokeLately reports whether this process stood still for so long, and so shortly ago, that it
// has to find the arbiter again, and its voter the log.
func (s *soundness) wokeLately(now time.Duration) bool { return s.woke && now-s.wokeAt < WakeGrace }

// sleeps reports whether that was lately, or is so again and again: who does not run does not
// hear the arbiter, and knows too little to say what the mesh lacks.
func (s *soundness) sleeps(now time.Duration) bool {
	return s.wokeLately(now) || s.standsStill(now) != ""
}

// standsStill is the fault of a host on which this process does not run.
func (s *soundness) standsStill(now time.Duration) string {
	if len(s.stops) < MaxStops || now-s.stops[0].at > StopsOver {
		return ""
	}
	longest := slices.MaxFunc(s.stops, func(x, y stop) int { return cmp.Compare(x.took, y.took) }).took
	return fmt.Sprintf("this process stands still again and again, for up to %v: is the host overloaded, paused or out of memory?",
		longest.Round(10*time.Millisecond))
}

// condition is what is told of it; nil of a node that is whole.
func (s *soundness) condition() *protocol.Condition {
	switch s.is {
	case protocol.Whole:
		return nil
	case protocol.Mended:
		return &protocol.Condition{Is: s.is}
	}
	c := &protocol.Condition{Is: s.is}
	for _, fault := range s.faults {
		c.Faults = append(c.Faults, fault[:min(len(fault), MaxFault)])
	}
	return c
}
