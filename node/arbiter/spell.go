package arbiter

import "time"

// spell is for how long something bad has been so of a server, all in all. A short good
// moment in between does not end it, or a daemon that dies at each start would begin it
// anew each time, and never be replaced. What counts is the time in which it was so: a
// good voter that is restarted now and then collects seconds, and forgets them.
type spell struct {
	is    bool // at the last look
	total time.Duration
	times int           // how often it began
	seen  time.Duration // when it was last so
}

// look is the spell after one more look.
func (s spell) look(now time.Duration, is bool) spell {
	switch {
	case !is && now-s.seen >= Recovered:
		return spell{}
	case is && s.is:
		s.total += now - s.seen
	case is:
		s.times++
	}
	if s.is = is; is {
		s.seen = now
	}
	return s
}

// lasts says that it is so, and was for so long already.
func (s spell) lasts(d time.Duration) bool { return s.is && s.total >= d }

// flaps says that it comes and goes.
func (s spell) flaps() bool { return s.times >= Flaps }
