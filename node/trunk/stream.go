package trunk

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"time"
)

// Stream is a connection in a trunk. Its Write belongs to one goroutine.
type Stream struct {
	trunk  *Trunk
	number uint32

	// The trunk's lock protects what follows.
	in     []byte // waits to be read
	owed   int    // bytes that were read, and not given as credit yet
	credit int    // bytes that may be sent
	ended  bool   // the other end's direction is over
	closed bool   // the other end neither says nor hears more
	lost   bool   // so is the stream, and nobody meant it
	said   bool   // our direction is over
	gone   bool   // closed by us
	heard  bool   // something came, and who waits for it was not told

	readBy, writeBy time.Time
	changed         chan struct{} // closed at the next change; nil: nobody waits for one
	readable        func()
	alarm           *time.Timer // of readBy, for readable
}

// Read returns what has come, and waits while that is nothing.
func (s *Stream) Read(b []byte) (int, error) {
	s.trunk.mu.Lock()
	defer s.trunk.mu.Unlock()
	if err := s.await(); err != nil || len(b) == 0 {
		return 0, err
	}
	n := copy(b, s.in)
	if s.in = s.in[n:]; len(s.in) == 0 {
		s.in = nil // the stream may rest for days
	}
	s.trunk.held -= n
	if s.owed += n; s.owed >= Window/2 && !s.ended && !s.closed {
		s.trunk.put(kindCredit, s.number, credit(s.owed))
		s.owed = 0
	}
	return n, nil
}

// Await waits until a read would not, and takes nothing.
func (s *Stream) Await() error {
	s.trunk.mu.Lock()
	defer s.trunk.mu.Unlock()
	return s.await()
}

// await is Await; the caller holds the lock.
func (s *Stream) await() error {
	for {
		if ready, err := s.state(); ready {
			return err
		}
		s.wait(s.readBy, nil)
	}
}

// state is whether a read need not wait, and its error; the caller holds the lock.
func (s *Stream) state() (ready bool, err error) {
	switch {
	case s.gone:
		return true, net.ErrClosed
	case len(s.in) > 0:
		return true, nil
	case s.lost:
		return true, ErrLost
	case s.ended || s.closed:
		return true, io.EOF
	case s.trunk.over:
		return true, ErrLost
	case past(s.readBy):
		return true, os.ErrDeadlineExceeded
	}
	return false, nil
}

// Ready reports whether a read would not wait.
func (s *Stream) Ready() bool {
	s.trunk.mu.Lock()
	defer s.trunk.mu.Unlock()
	ready, _ := s.state()
	return ready
}

// Readable has f called whenever Ready may have become true, until the stream is closed
// here, and then a last time. f is called by the trunk's reader among others, and must not
// wait. So a stream that rests needs no goroutine. It can always be done.
func (s *Stream) Readable(f func()) bool {
	s.trunk.mu.Lock()
	s.readable = f
	s.setAlarm()
	s.trunk.mu.Unlock()
	s.tell()
	return true
}

// tell calls who wants to read, if he can.
func (s *Stream) tell() {
	s.trunk.mu.Lock()
	f := s.readable
	if ready, _ := s.state(); !ready {
		f = nil
	}
	s.trunk.mu.Unlock()
	if f != nil {
		f()
	}
}

// setAlarm has the read's deadline told, too; the caller holds the lock.
func (s *Stream) setAlarm() {
	switch rings := s.readable != nil && !s.gone && !s.readBy.IsZero(); {
	case rings && s.alarm == nil:
		s.alarm = time.AfterFunc(time.Until(s.readBy), s.tell)
	case rings:
		s.alarm.Reset(time.Until(s.readBy))
	case s.alarm != nil:
		s.alarm.Stop()
	}
}

// Write takes b over, as the other end's window lets it, and waits where it must. As with
// TCP, what was taken over arrives, in its order, unless the trunk ends; then whoever reads
// the stream, or writes next, is told.
func (s *Stream) Write(b []byte) (n int, err error) {
	s.trunk.mu.Lock()
	defer s.trunk.mu.Unlock()
	for n < len(b) {
		piece, err := s.spend(b[n:])
		if err != nil {
			s.trunk.later() // what of b was taken over
			return n, err
		}
		n += piece
	}
	if s.trunk.out.due() {
		return n, s.trunk.write()
	}
	s.trunk.later()
	return n, nil
}

// spend waits for credit and for room in a record, and queues a piece of b; the caller holds the
// lock.
func (s *Stream) spend(b []byte) (int, error) {
	for {
		piece := b[:min(len(b), s.credit, MaxBody)]
		switch {
		case s.gone:
			return 0, net.ErrClosed
		case s.lost || s.trunk.over:
			return 0, ErrLost
		case s.said || s.closed:
			return 0, io.ErrClosedPipe
		case past(s.writeBy):
			return 0, os.ErrDeadlineExceeded
		case len(piece) > 0 && (s.trunk.fits(len(piece)) || !s.trunk.out.writing):
			return len(piece), s.queue(piece)
		}
		if err := s.makeWay(len(piece) > 0); err != nil {
			return 0, err
		}
	}
}

// queue lets a piece wait to be written. Where it would not fit in with what waits already it is
// the first of what waits next, while that is written: on a busy way the others would have filled
// the next record, too, and who writes would never have his own turn. The caller holds the lock.
func (s *Stream) queue(piece []byte) error {
	t := s.trunk
	s.credit -= len(piece)
	if !t.fits(len(piece)) {
		return t.writeBefore(func(o *outbound) { o.data(s.number, piece) })
	}
	t.out.data(s.number, piece)
	return nil
}

// makeWay waits until what is written is, where there is no room for a piece, or writes what waits
// or waits for credit. The caller holds the lock.
func (s *Stream) makeWay(full bool) error {
	switch t := s.trunk; {
	case full:
		s.wait(s.writeBy, t.onWritten())
	case t.out.due():
		return t.write()
	default:
		t.later()
		s.wait(s.writeBy, nil)
	}
	return nil
}

// CloseWrite ends our direction.
func (s *Stream) CloseWrite() error {
	s.trunk.mu.Lock()
	defer s.trunk.mu.Unlock()
	switch {
	case s.gone:
		return net.ErrClosed
	case s.lost || s.trunk.over:
		return ErrLost
	case !s.said && !s.closed:
		s.said = true
		s.trunk.put(kindEnd, s.number, nil)
		s.change()
	}
	return nil
}

// Close ends the stream and never waits. What was written before still arrives.
func (s *Stream) Close() error {
	s.trunk.mu.Lock()
	if s.gone {
		s.trunk.mu.Unlock()
		return nil
	}
	s.gone = true
	s.leave()
	s.setAlarm()
	s.change()
	s.trunk.mu.Unlock()
	s.tell()
	return nil
}

// cut ends a stream that asks too much; the caller holds the lock.
func (s *Stream) cut() {
	s.lost = true
	s.leave()
	s.change()
	if f := s.readable; f != nil {
		go f()
	}
}

// leave takes a stream out of the trunk; the caller holds the lock.
func (s *Stream) leave() {
	s.trunk.held -= len(s.in)
	s.in = nil
	if _, carried := s.trunk.streams[s.number]; carried && !s.closed {
		s.trunk.put(kindClose, s.number, nil)
	}
	delete(s.trunk.streams, s.number)
}

// hear takes what the other end says; the caller holds the lock.
func (s *Stream) hear(k kind, body []byte) error {
	switch k {
	case kindData:
		return s.arrive(body)
	case kindCredit:
		if len(body) != 4 || uint64(binary.BigEndian.Uint32(body)) > uint64(Window-s.credit) {
			return fmt.Errorf("%w: credit of %x", ErrFrame, body)
		}
		s.credit += int(binary.BigEndian.Uint32(body))
	case kindEnd:
		s.ended = true
	case kindClose:
		s.closed = true // and is the trunk's, with what waits in it, until it is closed here
	}
	return nil
}

func (s *Stream) arrive(body []byte) error {
	switch {
	case len(s.in)+s.owed+len(body) > Window:
		return fmt.Errorf("%w: data beyond the window", ErrFrame)
	case s.ended || s.closed:
		s.cut() // its owner wrote while he ended it
		return nil
	}
	if s.trunk.makeRoom(len(body)); !s.lost {
		s.in = append(s.in, body...)
		s.trunk.held += len(body)
	}
	return nil
}

// change wakes who waits; the caller holds the lock.
func (s *Stream) change() {
	if s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
}

// wait waits for a change, or another one, or the moment; the caller holds the lock, which is
// another's meanwhile.
func (s *Stream) wait(until time.Time, other <-chan struct{}) {
	if s.changed == nil {
		s.changed = make(chan struct{})
	}
	changed := s.changed
	s.trunk.mu.Unlock()
	defer s.trunk.mu.Lock()
	var past <-chan time.Time
	if !until.IsZero() {
		timer := time.NewTimer(time.Until(until))
		defer timer.Stop()
		past = timer.C
	}
	select {
	case <-changed:
	case <-other:
	case <-past:
	}
}

func past(at time.Time) bool { return !at.IsZero() && !time.Now().Before(at) }

// SetDeadline is that of net.Conn, as the next three are.
func (s *Stream) SetDeadline(at time.Time) error {
	if err := s.SetReadDeadline(at); err != nil {
		return err
	}
	return s.SetWriteDeadline(at)
}

// SetReadDeadline ends reads at a time; what has come is read all the same.
func (s *Stream) SetReadDeadline(at time.Time) error {
	return s.set(func() { s.readBy = at; s.setAlarm() })
}

// SetWriteDeadline ends the wait for credit, and for room, at a time.
func (s *Stream) SetWriteDeadline(at time.Time) error {
	return s.set(func() { s.writeBy = at })
}

func (s *Stream) set(deadline func()) error {
	s.trunk.mu.Lock()
	defer s.trunk.mu.Unlock()
	if s.gone {
		return net.ErrClosed
	}
	deadline()
	s.change()
	return nil
}

// LocalAddr and RemoteAddr are the trunk's.
func (s *Stream) LocalAddr() net.Addr { return s.trunk.pipe.LocalAddr() }

// RemoteAddr is LocalAddr of the other end.
func (s *Stream) RemoteAddr() net.Addr { return s.trunk.pipe.RemoteAddr() }
