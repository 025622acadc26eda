package arbiter

import (
	"runtime"
	"sync/atomic"
	"time"
)

// arrivals are the clients at work: they have proved who they are, and are not in yet. The
// port begins no more handshakes than can be followed up (port.Pace), for what is begun
// beyond that comes to nothing: its client gives up, and begins anew.
//
// What is left after a client's welcome, its keys, only the client can do: one account that
// logs in from everywhere and agrees none would hold all places. So of each account few are
// waited for then. More is not refused, or a site of many hosts would come in vain.
type arrivals struct {
	working atomic.Int64
	// The loop's:
	until map[*clientStream]time.Duration // when one is not waited for any longer
	owing map[string]int                  // of those, by account, how many are welcomed; none is zero
}

// arrivalPlaces is how many clients are let in at once, and owingEach how many of one account
// that are welcomed count among them.
func arrivalPlaces() int { return ArrivalsEach * runtime.NumCPU() }
func owingEach() int     { return arrivalPlaces() / OwingShare }

// proved counts one whose event is on its way to the loop.
func (w *arrivals) proved() { w.working.Add(1) }

// note says until when one that is counted is at work at most.
func (w *arrivals) note(c *clientStream, until time.Duration) {
	if w.until == nil {
		w.until, w.owing = make(map[*clientStream]time.Duration), make(map[string]int)
	}
	w.until[c] = until
}

// welcomed: what is left are its keys with its agents.
func (w *arrivals) welcomed(c *clientStream, now time.Duration) {
	switch _, ok := w.until[c]; {
	case !ok || c.owes:
	case w.owing[c.who.User] >= owingEach():
		w.in(c)
	default:
		c.owes = true
		w.owing[c.who.User]++
		w.until[c] = now + KeysWithin
	}
}

// in says that one is in, or gone.
func (w *arrivals) in(c *clientStream) {
	if _, ok := w.until[c]; !ok {
		return
	}
	delete(w.until, c)
	w.working.Add(-1)
	if c.owes {
		c.owes = false
		if w.owing[c.who.User]--; w.owing[c.who.User] == 0 {
			delete(w.owing, c.who.User)
		}
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
