package sim

import (
	"encoding/binary"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
)

// Passers-by: one account whose devices come, stay for a moment, end their session and are
// not seen again. Each is another one, so that soon no address is left that nobody had, and
// the next that somebody else needs is one of theirs (I13).

// passersEvery is in which runs there are some: they cost.
const passersEvery = 3

// Times of a passer-by.
const (
	passersFrom = startWithin - 3*time.Second
	stayLeast   = 50 * time.Millisecond
	stayMost    = 600 * time.Millisecond
	passWithin  = 3 * time.Second // from the first packet to the end of it all, or it is gone without a word
	nextLeast   = 20 * time.Millisecond
	nextMost    = 200 * time.Millisecond
)

// passedMost is how many addresses of theirs may wait for agents that do not answer before
// the next one waits too: the others need theirs.
const passedMost = 6

// passers come until that time.
func (w *World) passers(until time.Duration) {
	w.watch.judge.Left(w.mesh.passer.name)
	w.mesh.passer.pass(until)
}

// pass has the next passer-by come, until that time.
func (v *visitor) pass(until time.Duration) {
	w := v.world
	again := func() { v.pass(until) }
	switch {
	case w.now() > until:
		return
	case w.watch.waiting() > passedMost:
		w.after(nextMost, again)
		return
	}
	binary.BigEndian.PutUint16(v.device[:], binary.BigEndian.Uint16(v.device[:])+1)
	v.connect(w.random.IntN(len(w.mesh.members)))
	p, leave, ended := v.process, v.cancel, v.ended
	v.ready = func() { w.after(w.between(stayLeast, stayMost), leave) }
	gone := false
	next := func() {
		if gone {
			return
		}
		gone = true
		p.kill(true)
		w.after(w.between(nextLeast, nextMost), again)
	}
	go func() {
		<-ended
		w.leave(v.name, next)
	}()
	w.after(passWithin, next)
}

// waiting is how many sessions are over that some agent may have keys of.
func (w *watch) waiting() int {
	over := make(map[registry.SessionID]bool)
	w.judge.Registry().Unacknowledged(func(h registry.Holder) { over[h.Session] = true })
	return len(over)
}
