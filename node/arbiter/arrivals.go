package arbiter

import (
	"sync/atomic"
	"time"
)

// arrivals are the clients at work: they have proved who they are, and are not in yet. The
// port begins no more handshakes than can be followed up (port.Pace), for what is begun
// beyond that comes to nothing: its client gives up, and begins anew.
type arrivals struct {
	working atomic.Int64
	until   map[*clientStream]time.Duration // when one is not waited for any longer; the loop's
}

// proved counts one whose event is on its way to the loop.
func (w *arrivals) proved() { w.working.Add(1) }

// note says until when one that is counted is at work at most.
func (w *arrivals) note(c *clientStream, until time.Duration) {
	if w.until == nil {
		w.until = make(map[*clientStream]time.Duration)
	}
	w.until[c] = until
}

// welcomed: what is left are its keys with its agents.
func (w *arrivals) welcomed(c *clientStream, now time.Duration) {
	if _, ok := w.until[c]; ok {
		w.until[c] = now + KeysWithin
	}
}

// in says that one is in, or gone.
func (w *arrivals) in(c *clientStream) {
	if _, ok := w.until[c]; ok {
		delete(w.until, c)
		w.working.Add(-1)
	}
}

// expire gives up on those that take too long.
func (w *arrivals) expire(now time.Duration) {
	for c, until := range w.until {
		if now >= until {
			w.in(c)
		}
	}
}

func (w *arrivals) count() int { return int(w.working.Load()) }
