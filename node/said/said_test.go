package said

import (
	"testing"
	"time"
)

// TestLineRepeatsWithinBounds: free times at once, then at its rate, with the number of those
// that were left out (I10); a rest gives all of it back, and no more.
func TestLineRepeatsWithinBounds(t *testing.T) {
	var l Line
	now, lines, left := time.Hour, 0, 0
	every := func(d time.Duration, n int) {
		lines, left = 0, 0
		for range n {
			now += d
			if unsaid, ok := l.Say(now, 16, 1.0/60); ok {
				lines++
				left += unsaid
			}
		}
	}
	if every(0, 100); lines != 16 || left != 0 {
		t.Errorf("at once %d lines, %d left out before", lines, left)
	}
	if every(time.Second, 600); lines != 10 || left < 84+500 {
		t.Errorf("in ten minutes %d lines, %d left out before", lines, left)
	}
	if now += time.Hour; !first(&l, now) {
		t.Error("not said after a rest")
	}
	if every(0, 100); lines != 15 {
		t.Errorf("after a rest %d lines more", lines)
	}
	if now -= 30 * time.Minute; first(&l, now) {
		t.Error("a clock that goes back gives more")
	}
}

func first(l *Line, now time.Duration) bool {
	_, ok := l.Say(now, 16, 1.0/60)
	return ok
}
