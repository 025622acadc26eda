package mirror

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/meshcrypt/meshcrypt/node/conntrack"
	"github.com/meshcrypt/meshcrypt/node/loop"
)

// ErrNotSecond is returned to a node that is not the second of what it asks for.
var ErrNotSecond = errors.New("mirror: the peer is not this egress's second")

// Events is a source of changes, conntrack.Events but in tests.
type Events interface {
	// Next tells what changed, and returns at the latest at until.
	Next(until time.Time, tell func(conntrack.Event)) error
	Close() error
}

// Source streams the flows of this host's kernel to a second.
type Source struct {
	// Open opens the kernel's table, Listen its changes.
	Open   func() (Kernel, error)
	Listen func([]netip.Prefix) (Events, error)
	Now    func() time.Time
}

// Serve answers one second until the stream fails, ctx ends, or may says that
// the peer is not, or no longer, the second for these prefixes. beats: the second
// knows kindBeats.
func (s Source) Serve(ctx context.Context, conn net.Conn, beats bool, may func([]netip.Prefix) bool) error {
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	if err := conn.SetReadDeadline(s.Now().Add(SilentAfter)); err != nil {
		return err
	}
	k, body, err := readFrame(conn, make([]byte, maxFrame))
	if err != nil {
		return err
	}
	prefixes, err := parsePrefixes(body)
	if err != nil || k != kindWant {
		return errors.Join(ErrFrame, err)
	}
	stream := &sourceStream{Source: s, out: bufio.NewWriter(paced{conn, s.Now}), prefixes: prefixes, may: may}
	if err := stream.allowed(); err != nil {
		return err
	}
	if beats {
		end, err := stream.beat(conn)
		if err != nil {
			return err
		}
		defer end()
	}
	events, err := s.Listen(prefixes)
	if err != nil {
		return err
	}
	defer events.Close()
	unlisten := context.AfterFunc(ctx, func() { events.Close() }) // wakes Next
	defer unlisten()
	for {
		if err := stream.list(); err != nil {
			return err
		}
		if err := stream.relay(events); err != nil {
			return err
		}
	}
}

// sourceStream is one second's stream at its egress.
type sourceStream struct {
	Source
	out      *bufio.Writer
	prefixes []netip.Prefix
	may      func([]netip.Prefix) bool
	frame    []byte
}

// beat makes a pipe of the stream. A second says nothing more, but it beats, and its
// silence is the end.
func (s *sourceStream) beat(conn net.Conn) (end func(), err error) {
	s.write(kindBeats, nil)
	if err := s.out.Flush(); err != nil {
		return nil, err
	}
	pipe := loop.NewPipe(conn, loop.Nodes())
	s.out = bufio.NewWriter(paced{pipe, s.Now})
	silent := make(chan struct{})
	go func() {
		defer close(silent)
		_, _ = io.Copy(io.Discard, pipe) // why it ended is nothing that helps
		pipe.Close()
	}()
	return func() { pipe.Close(); <-silent }, nil
}

// allowed is nil while the peer is the second for these prefixes.
func (s *sourceStream) allowed() error {
	if !s.may(s.prefixes) {
		return fmt.Errorf("%w: %v", ErrNotSecond, s.prefixes)
	}
	return nil
}

// list tells all flows. It reads the kernel after the changes are listened to,
// so nothing falls between.
func (s *sourceStream) list() error {
	kernel, err := s.Open()
	if err != nil {
		return err
	}
	defer kernel.Close()
	flows, err := kernel.Flows(s.prefixes)
	if err != nil {
		return err
	}
	if len(flows) > MaxFlows {
		flows = flows[:MaxFlows]
	}
	s.write(kindBegin, nil)
	for _, f := range flows {
		s.write(kindFlow, f.Append(nil))
	}
	s.write(kindEnd, nil)
	return s.out.Flush()
}

// relay tells changes until some were lost or it is time for a whole list.
func (s *sourceStream) relay(events Events) error {
	now := s.Now()
	began, due := now, now.Add(ResyncEvery)
	for now.Before(due) {
		for alive := now.Add(AliveEvery); now.Before(alive) && now.Before(due); now = s.Now() {
			lost := false
			if err := events.Next(alive, func(e conntrack.Event) { lost = s.tell(e) || lost }); err != nil {
				return err
			}
			if lost && due.After(began.Add(ResyncPause)) {
				due = began.Add(ResyncPause)
			}
			if err := s.out.Flush(); err != nil {
				return err
			}
		}
		if err := s.allowed(); err != nil {
			return err
		}
		s.write(kindAlive, nil)
		if err := s.out.Flush(); err != nil {
			return err
		}
	}
	return nil
}

// tell writes one change; true says that some were lost before it.
func (s *sourceStream) tell(e conntrack.Event) (lost bool) {
	switch {
	case e.Lost:
		return true
	case e.Gone:
		s.write(kindGone, e.Append(nil))
	default:
		s.write(kindFlow, e.Append(nil))
	}
	return false
}

// write buffers; what fails shows at the flush.
func (s *sourceStream) write(k kind, body []byte) {
	s.frame = appendFrame(s.frame[:0], k, body)
	_, _ = s.out.Write(s.frame)
}

// paced gives each write a time of its own. A peer that does not read for too long
// loses its stream; what the kernel could not queue meanwhile is reported as lost.
type paced struct {
	conn net.Conn
	now  func() time.Time
}

// Write implements io.Writer.
func (p paced) Write(b []byte) (int, error) {
	if err := p.conn.SetWriteDeadline(p.now().Add(SilentAfter)); err != nil {
		return 0, err
	}
	return p.conn.Write(b)
}
