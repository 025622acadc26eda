// Package framed carries datagrams over a stream, for networks that let no UDP
// through: each one behind its length, on a connection that somebody else has
// opened and secured. It is one more link.Socket, so whoever sends trains need
// not know. It owns the framing, the queue before a slow stream and its time
// limit. It does not dial, accept or know TLS, and does not look into a
// datagram further than the SPI that keeps trains pure.
//
// A stream delivers late rather than not at all, which the flows inside bear
// badly. So what would wait too long is refused at once (link.ErrQueue), as a
// full queue of a network card would.
package framed

import (
	"bufio"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/meshcrypt/meshcrypt/mesh/link"
)

// ErrFrame is returned by Receive for bytes that are no frame.
var ErrFrame = errors.New("framed: not a frame")

// Socket is the datagrams of one stream. Its trains have no local address:
// what is answered goes back on the stream, whatever the path says.
type Socket struct {
	conn   net.Conn
	remote netip.AddrPort
	cutter cutter // owned by the goroutine in Receive
	done   chan struct{}
	writer sync.WaitGroup

	opened time.Time
	spoke  atomic.Int64 // ns since opened at the last train that was sent; 0: none was

	mu      sync.Mutex // protects what follows
	wake    sync.Cond  // the writer waits for queue or closed
	queue   []byte     // frames to be written
	since   time.Time  // of the oldest byte in queue
	writing time.Time  // when the present write began; zero: none
	closed  bool
}

var _ link.Socket = (*Socket)(nil)

// New takes over a stream whose other end is remote.
func New(conn net.Conn, remote netip.AddrPort) *Socket {
	tune(conn)
	s := &Socket{
		conn: conn, remote: remote, done: make(chan struct{}), opened: time.Now(),
		cutter: cutter{reader: bufio.NewReaderSize(conn, readBuffer)},
	}
	s.wake.L = &s.mu
	s.writer.Go(s.write)
	return s
}

// lowest is the connection that others are wrapped around.
func lowest(conn net.Conn) net.Conn {
	for {
		around, ok := conn.(interface{ NetConn() net.Conn })
		if !ok {
			return conn
		}
		conn = around.NetConn()
	}
}

// tune keeps the kernel's own queue short: what waits there is not refused.
func tune(conn net.Conn) {
	tcp, ok := lowest(conn).(*net.TCPConn)
	if !ok {
		return
	}
	_ = tcp.SetNoDelay(true) // the default; both only make it quicker
	if raw, err := tcp.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, unsentBytes)
		})
	}
}

// Receive implements link.Socket: datagrams of one size and SPI are one train.
func (s *Socket) Receive(b []byte) (link.Train, error) {
	n, segment, err := s.cutter.train(b)
	if err != nil {
		s.Close()
		return link.Train{}, link.ErrClosed // whatever the reason, it is over
	}
	return link.Train{Path: link.Path{Remote: s.remote}, Len: n, Segment: segment}, nil
}

// Send implements link.Socket. It never waits.
func (s *Socket) Send(b []byte, segment int, _ link.Path) error {
	if segment <= 0 || segment > len(b) {
		segment = len(b)
	}
	if segment > MaxFrame {
		return link.ErrTooBig
	}
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return link.ErrClosed
	case len(b) == 0:
		return nil
	case s.late(now) || len(s.queue)+framedLen(len(b), segment) > MaxQueue:
		return link.ErrQueue
	}
	if len(s.queue) == 0 {
		s.since = now
	}
	s.queue = appendFrames(s.queue, b, segment)
	s.spoke.Store(max(1, int64(now.Sub(s.opened))))
	s.wake.Signal()
	return nil
}

// late reports whether what is on its way out has waited for too long; under mu.
func (s *Socket) late(now time.Time) bool {
	return !s.writing.IsZero() && now.Sub(s.writing) > QueueTime ||
		len(s.queue) > 0 && now.Sub(s.since) > QueueTime
}

// write empties the queue into the stream, a queue at a time, until it is closed.
func (s *Socket) write() {
	var spare []byte
	for {
		b, ok := s.take(spare)
		if !ok {
			return
		}
		err := s.conn.SetWriteDeadline(time.Now().Add(WriteTime))
		if err == nil {
			_, err = s.conn.Write(b)
		}
		if err != nil {
			s.hangUp()
			return
		}
		spare = b[:0]
	}
}

// take waits for something to write and leaves spare in its place.
func (s *Socket) take(spare []byte) (b []byte, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writing = time.Time{}
	for len(s.queue) == 0 && !s.closed {
		s.wake.Wait()
	}
	if s.closed {
		return nil, false
	}
	b, s.queue, s.writing = s.queue, spare, s.since
	return b, true
}

// LocalAddr is the address of this end, if the stream has one.
func (s *Socket) LocalAddr() netip.AddrPort {
	if tcp, ok := s.conn.LocalAddr().(*net.TCPAddr); ok {
		return tcp.AddrPort()
	}
	return netip.AddrPort{}
}

// Lost implements link.Socket: a stream loses nothing on its way in.
func (s *Socket) Lost() uint64 { return 0 }

// Age is for how long the stream has been open.
func (s *Socket) Age() time.Duration { return time.Since(s.opened) }

// Spoke reports for how long nothing was sent, and whether anything ever was.
func (s *Socket) Spoke() (ago time.Duration, ever bool) {
	at := s.spoke.Load()
	return time.Since(s.opened) - time.Duration(at), at != 0
}

// Done is closed when the stream has ended, at either end.
func (s *Socket) Done() <-chan struct{} { return s.done }

// Close ends the stream. What is queued is lost, as datagrams are.
func (s *Socket) Close() error {
	err := s.hangUp()
	s.writer.Wait()
	return err
}

// hangUp ends the stream from below: TLS would wait for room to say goodbye, and
// nobody reads what a slow peer left unread.
func (s *Socket) hangUp() error {
	if !s.end() {
		return nil
	}
	err := lowest(s.conn).Close()
	_ = s.conn.Close() // fails at the goodbye
	return err
}

// end lets nothing more be sent; false if that was so.
func (s *Socket) end() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.closed = true
	close(s.done)
	s.wake.Signal()
	return true
}
