// Package said bounds how often a line of the log repeats, and counts what was left out, so
// that a host which stands still every second fills no disk with that and yet says how often
// it did. It owns the count of one line. It does not own the log, nor the clock.
package said

import "time"

// Line is one line of the log that may repeat. The zero one was never said.
type Line struct {
	used   float64
	at     time.Duration
	unsaid int
}

// Say reports whether the line may be said now, and how often it was left out since it was
// last: free times at once, and rate times a second from then on.
func (l *Line) Say(now time.Duration, free, rate float64) (unsaid int, ok bool) {
	used := max(0, l.used-max(0, now-l.at).Seconds()*rate)
	if used+1 > free {
		l.unsaid++
		return 0, false
	}
	l.used, l.at = used+1, now
	unsaid, l.unsaid = l.unsaid, 0
	return unsaid, true
}

// Left is what a line adds for those that were left out before it.
func Left(unsaid int) []any {
	if unsaid == 0 {
		return nil
	}
	return []any{"times_not_said", unsaid}
}
