// Package loop is the long connections of a control loop: their reader, writer,
// outbox, heartbeat and deadline. A host that loses its power, or a process that is
// stopped, says no goodbye, and TCP alone waits a quarter of an hour for it.
//
// It owns when a connection counts as dead, and that a loop never waits for a peer. It
// does not own what is said (node/protocol), who may say it, nor what the end of a
// stream means to the loop (node/agent, node/arbiter).
//
// Messages between nodes that are said within NodeGather of others go in one write with them.
//
// Both ends beat, each as soon as it knows that the other one can tell a beat from a
// message: who dials says so in its first message, who answers says so by its first
// beat. So builds that know none are sent none, and get the patience of before.
package loop

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// ErrOver is how Run ends when who hears wants no more.
var ErrOver = errors.New("loop: the stream is not wanted any more")

// Wire frames messages, and beats between them.
type Wire[M any] interface {
	// Next returns the next message; nil is a beat.
	Next() (*M, error)
	// Write sends messages, together where they are short.
	Write(...*M) error
	Beat() error
}

// Pace is how long an end may be silent, and how often it beats.
type Pace struct {
	Silence, Every time.Duration
	// Patience counts while the other end has not said that it beats.
	Patience time.Duration
	// Gather is how long messages wait for others when some were written just before.
	Gather time.Duration
}

// Nodes is the pace between two nodes.
func Nodes() Pace { return Pace{NodeSilence, NodeEvery, NodePatience, NodeGather} }

// Clients is the pace between a client and its arbiter.
func Clients() Pace { return Pace{ClientSilence, ClientEvery, ClientPatience, 0} }

// Relays is the pace between a gateway and an arbiter, for one client.
func Relays() Pace { return Pace{Silence: ClientSilence, Every: RelayEvery} }

// Stream is one connection of a control loop. Read and Run belong to one goroutine; the
// rest is for any.
type Stream[M any] struct {
	line   line
	wire   Wire[M]
	outbox outbox[M]
	wrote  time.Time // when what had waited was last written; of who writes, or is to

	// OnBeat is called by Run's goroutine with each beat that is heard; nil: nobody wants
	// to know. It is set before Run.
	OnBeat  func()
	beatDue time.Time // when the beats heard so far would be due; the reader's own

	pause     atomic.Pointer[time.Timer] // the last one before a write; nil: there was none
	closed    chan struct{}
	closeOnce sync.Once
}

// New makes a stream of a connection, in which room messages may wait to be written.
func New[M any, W Wire[M]](conn net.Conn, frame func(io.ReadWriter) W, pace Pace, room int) *Stream[M] {
	s := &Stream[M]{
		line:   line{Conn: conn, pace: pace, patience: pace.Patience},
		outbox: outbox[M]{room: room},
		closed: make(chan struct{}),
	}
	s.wire = frame(&s.line)
	s.line.beat = s.wire.Beat
	return s
}

// Say queues messages, which are written together, and does not wait; a full outbox is a dead
// peer.
func (s *Stream[M]) Say(all ...*M) {
	fits, due := s.outbox.put(all...)
	if due {
		s.start()
	}
	if !fits {
		s.Close()
	}
}

// Waiting is how many messages wait to be written.
func (s *Stream[M]) Waiting() int { return s.outbox.len() }

// Take removes the message that has waited longest; nil when none does.
func (s *Stream[M]) Take() *M { return s.outbox.take() }

// Write sends messages at once, ahead of what waits.
func (s *Stream[M]) Write(all ...*M) error { return s.wire.Write(all...) }

// Beats notes that the other end beats: from now on it is beaten to, and its silence is
// the end.
func (s *Stream[M]) Beats() { s.line.beats() }

// Beating reports whether the other end is known to beat.
func (s *Stream[M]) Beating() bool { return s.line.beating() }

// Within ends the stream after a time at the latest, whatever is heard; 0 lifts that.
func (s *Stream[M]) Within(d time.Duration) {
	var at time.Time
	if d > 0 {
		at = time.Now().Add(d)
	}
	_, _ = s.line.until(at), s.line.SetWriteDeadline(at) // a closed one has ended
}

// Close ends the stream, for whoever reads and writes too.
func (s *Stream[M]) Close() {
	s.closeOnce.Do(func() {
		close(s.closed)
		s.line.Close() // nobody is left to be told if it fails
		s.endPause()
	})
}

// Done is closed when the stream has ended.
func (s *Stream[M]) Done() <-chan struct{} { return s.closed }

// Read returns the next message.
func (s *Stream[M]) Read() (*M, error) {
	for {
		if m, err := s.next(); err != nil || m != nil {
			return m, err
		}
	}
}

// next is Read that returns nil after a beat.
func (s *Stream[M]) next() (*M, error) {
	m, err := s.wire.Next()
	if err == nil && m == nil {
		s.Beats()
		if s.OnBeat != nil {
			s.OnBeat()
		}
		s.slow()
	}
	return m, err
}

// slow waits when the other end beats much more often than it needs: beats are heard
// before anybody knows whose they are, and are nobody's messages, which have their pace.
func (s *Stream[M]) slow() {
	step, now := s.line.pace.Every/BeatsTimes, time.Now()
	if early := now.Add(-BeatsFree * step); s.beatDue.Before(early) {
		s.beatDue = early
	}
	s.beatDue = s.beatDue.Add(step)
	if wait := s.beatDue.Sub(now); wait > 0 {
		select {
		case <-time.After(wait):
		case <-s.closed:
		}
	}
}

// Run writes what is said and gives hear what is read, until the stream ends, ctx does,
// or hear returns false. It closes the stream and says why it ended.
func (s *Stream[M]) Run(ctx context.Context, hear func(*M) bool) error {
	end := s.begin(ctx)
	defer end()
	for {
		m, err := s.Read()
		if err != nil {
			return err
		}
		if !hear(m) {
			return ErrOver
		}
	}
}

// begin has what is said be written, until end is called or the context ends.
func (s *Stream[M]) begin(ctx context.Context) (end func()) {
	stop := context.AfterFunc(ctx, s.Close)
	if s.outbox.begin() {
		s.start()
	}
	return func() {
		s.Close()
		s.outbox.end()
		stop()
	}
}

// start has what waits written: at once, or when Gather is over.
func (s *Stream[M]) start() {
	if wait := s.line.pace.Gather - time.Since(s.wrote); wait > 0 {
		s.pause.Store(time.AfterFunc(wait, s.write))
		select {
		case <-s.closed:
			s.endPause()
		default:
		}
		return
	}
	go s.write()
}

// endPause has who pauses before a write go on, so that nobody waits for him at the end.
func (s *Stream[M]) endPause() {
	if pause := s.pause.Load(); pause != nil && pause.Stop() {
		go s.write()
	}
}

// write sends what waits; Run waits for it. It has no deadline of its own: a peer that
// takes nothing says nothing either, or has its own deadline.
func (s *Stream[M]) write() {
	for all := s.outbox.next(); all != nil; all = s.outbox.next() {
		if s.wire.Write(all...) != nil {
			s.Close() // wakes the reader, and the next write fails likewise
		}
		s.wrote = time.Now()
		s.gather()
	}
}

// gather lets more come to what waits already, if that is little.
func (s *Stream[M]) gather() {
	if waits := s.outbox.len(); waits == 0 || waits >= together || s.line.pace.Gather == 0 {
		return
	}
	select {
	case <-time.After(s.line.pace.Gather):
	case <-s.closed:
	}
}
