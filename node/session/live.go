package session

import (
	"bytes"
	"slices"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// live is what this term knows of an active session beyond the registry.
type live struct {
	id     registry.SessionID
	due    time.Duration    // when to look at it; see due.go
	place  int              // in the queue
	wait   time.Duration    // of the look under way: the next one
	wants  bool             // it may find more to do when another node is able
	sated  bool             // it grows no more until then
	agents identity.Several // that it is entered with

	attached bool               // its client has a stream to us
	request  registry.RequestID // of that stream
	since    time.Duration      // last change of attached
	heard    time.Duration      // its client, by any of its agents, or to ask for it again
	parked   time.Duration      // its client was last heard to be parked; 0: not since it was attached
	called   bool               // it is, since then
	resuming Tag                // ResumeKey without outcome
	keepsSAs bool               // the client resumed with the keys of slices that are up
	end      *End               // it is to end
	ending   Tag                // EndSession without outcome

	answered bool // Opened was sent to the attached client
	first    bool // the session was made by this request
	absorbed bool
	openBy   time.Duration // when to answer with what is there
	giveUp   time.Duration // when to give a first opening up

	upBy      time.Duration // until when a slice that is up waits for the others
	growAt    time.Duration
	weighAt   time.Duration
	unweighed bool    // its weights may have to be others, from weighAt on
	weighed   Tag     // WeighSlices without outcome
	slots     []*slot // by when they were heard of

	// What almost every session has, or less, stands in one piece with it: see registry.
	listed [usual]*slot
	room   [usual]slot
}

// usual is how many slots almost every session has, or fewer.
const usual = 2

// phase is how far the present epoch of a slice has been told.
type phase uint8

const (
	untold  phase = iota
	asked         // grant sent, the agent has not answered
	agreed        // acknowledged, the client not told yet
	offered       // told to the client, not up yet
)

// slot is what this term knows of one slice number of a session. There are some for each
// session, so what is small stands together.
type slot struct {
	epoch     uint32 // the one that phase, deadline and condemned are about
	number    uint8
	phase     phase
	condemned bool // the epoch is to be replaced
	gone      bool // and somebody has its keys no more
	heard     bool // a packet passed under its keys
	moved     bool
	alerted   bool
	settled   bool // up was seen at settledAt, older epochs may be freed RetireDelay later
	failures  int  // since it was last up

	deadline time.Duration // of the acknowledgement, then of coming up
	proposal Tag           // a command about this slot without outcome

	staysUntil time.Duration // nor made void before, while it may be heard again
	holdUntil  time.Duration // not granted again before, while a sibling is up
	retryAt    time.Duration // nor before this: it was refused
	movedAt    time.Duration
	settledAt  time.Duration
	tried      []failure // the last one last
}

// failure keeps a node away from a slot for a while.
type failure struct {
	node  identity.NodeID
	until time.Duration
}

func newLive(id registry.SessionID, now time.Duration) *live {
	l := &live{id: id, place: unqueued, due: never, since: now, unweighed: true}
	l.slots = l.listed[:0]
	return l
}

func (a *Arbitrator) live(id registry.SessionID) *live {
	l := a.lives[id]
	if l == nil {
		l = newLive(id, a.now)
		a.lives[id] = l
		a.soon(l)
	}
	return l
}

func (a *Arbitrator) slot(id registry.SessionID, number uint8) *slot {
	l := a.live(id)
	sl := l.slot(number)
	if sl == nil {
		sl = l.add(number)
	}
	return sl
}

// add makes the slot of a number of which nothing is known. None is taken away again.
func (l *live) add(number uint8) (sl *slot) {
	if n := len(l.slots); n < len(l.room) {
		sl = &l.room[n]
	} else {
		sl = new(slot)
	}
	sl.number = number
	l.slots = append(l.slots, sl)
	return sl
}

// slot is that of a number; nil: nothing is known of it.
func (l *live) slot(number uint8) *slot {
	for _, sl := range l.slots {
		if sl.number == number {
			return sl
		}
	}
	return nil
}

// follow makes the slot be about the slice's present epoch.
func (sl *slot) follow(s registry.Slice) {
	if sl.epoch != s.Epoch {
		sl.epoch, sl.phase, sl.condemned, sl.gone, sl.heard, sl.settled = s.Epoch, untold, false, false, false, false
	}
}

// fail condemns the present epoch and keeps its node away.
func (sl *slot) fail(now time.Duration, node identity.NodeID) {
	sl.condemned = true
	sl.avoid(now, node)
}

// avoid keeps a node away from the slot, longer each time.
func (sl *slot) avoid(now time.Duration, node identity.NodeID) {
	hold := min(FailureHold<<min(sl.failures, 10), MaxFailureHold)
	sl.failures++
	sl.tried = slices.DeleteFunc(sl.tried, func(f failure) bool { return f.node == node || f.until <= now })
	if len(sl.tried) == MaxTried {
		sl.tried = sl.tried[1:]
	}
	sl.tried = append(sl.tried, failure{node, now + hold})
}

// recover forgets failures: the slice is up.
func (sl *slot) recover(now time.Duration) {
	sl.settled, sl.settledAt = true, now
	sl.forgive()
}

func (sl *slot) forgive() { sl.failures, sl.tried, sl.alerted = 0, nil, false }

// lastFailed is the node that failed last since the slot was up; zero: none did.
func (sl *slot) lastFailed() (node identity.NodeID) {
	if n := len(sl.tried); n > 0 {
		node = sl.tried[n-1].node
	}
	return node
}

// avoidsAny says that a slot is kept away from a node, which time ends.
func (l *live) avoidsAny(now time.Duration) bool {
	for _, sl := range l.slots {
		if slices.ContainsFunc(sl.tried, func(f failure) bool { return f.until > now }) {
			return true
		}
	}
	return false
}

func (sl *slot) avoids(node identity.NodeID, now time.Duration) bool {
	return slices.ContainsFunc(sl.tried, func(f failure) bool { return f.node == node && f.until > now })
}

// attach gives the session a client's stream.
func (a *Arbitrator) attach(l *live, request registry.RequestID) {
	a.detach(l)
	a.attached[request] = l
	l.back()
	l.attached, l.request, l.since, l.answered = true, request, a.now, false
	l.openBy, l.giveUp = a.now+OpenWait, a.now+OpenDeadline
	a.soon(l)
}

// detach takes the client's stream from the session, if it has one.
func (a *Arbitrator) detach(l *live) {
	if !l.attached {
		return
	}
	l.attached, l.since = false, a.now
	if a.attached[l.request] == l {
		delete(a.attached, l.request)
	}
	a.soon(l)
}

func (a *Arbitrator) clientGone(e ClientGone) {
	if o := a.openings[e.Request]; o != nil {
		o.gone = true
	}
	delete(a.waiting, e.Request)
	if l := a.attached[e.Request]; l != nil {
		a.detach(l)
	}
}

// tendEnded cleans up after sessions that are over, whoever ended them.
func (a *Arbitrator) tendEnded(view *registry.State) {
	over := a.over
	a.over = nil
	slices.SortFunc(over, func(x, y registry.SessionID) int { return bytes.Compare(x[:], y[:]) })
	for _, id := range over {
		a.forget(view, id)
	}
}

// sliceOf is the present epoch of a slice.
func sliceOf(s *registry.Session, number uint8) (registry.Slice, bool) {
	if s != nil {
		for _, sl := range s.Slices {
			if sl.Number == number {
				return sl, true
			}
		}
	}
	return registry.Slice{}, false
}

func active(view *registry.State, id registry.SessionID) *registry.Session {
	if s := view.Sessions.Get(id); s != nil && s.State == registry.SessionActive {
		return s
	}
	return nil
}
