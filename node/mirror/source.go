package mirror

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/meshcrypt/meshcrypt/node/conntrack"
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
// the peer is not, or no longer, the second for these prefixes.
func (s Source) Serve(ctx context.Context, conn net.Conn, may func([]netip.Prefix) bool) error {
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
	events, err := s.Listen(prefixes)
	if err != nil {
		return err
	}
	defer events.Close()
	unlisten := context.AfterFunc(ctx, func() { events.Close() }) // wakes Next
	defer unlisten()
	stream := &sourceStream{Source: s, conn: conn, out: bufio.NewWriter(conn), prefixes: prefixes}
	for {
		if err := stream.list(); err != nil {
			return err
		}
		if err := stream.relay(events, may); err != nil {
			return err
		}
	}
}

// sourceStream is one second's stream at its egress.
type sourceStream struct {
	Source
	conn     net.Conn
	out      *bufio.Writer
	prefixes []netip.Prefix
	frame    []byte
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
	return s.flush()
}

// relay tells changes until some were lost or it is time for a whole list.
func (s *sourceStream) relay(events Events, may func([]netip.Prefix) bool) error {
	now := s.Now()
	began, due := now, now.Add(ResyncEvery)
	for now.Before(due) {
		if !may(s.prefixes) {
			return fmt.Errorf("%w: %v", ErrNotSecond, s.prefixes)
		}
		for alive := now.Add(AliveEvery); now.Before(alive) && now.Before(due); now = s.Now() {
			lost := false
			if err := events.Next(alive, func(e conntrack.Event) { lost = s.tell(e) || lost }); err != nil {
				return err
			}
			if lost && due.After(began.Add(ResyncPause)) {
				due = began.Add(ResyncPause)
			}
			if err := s.flush(); err != nil {
				return err
			}
		}
		s.write(kindAlive, nil)
		if err := s.flush(); err != nil {
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

// flush sends what is buffered. A second that does not read for too long loses
// its stream; what the kernel could not queue meanwhile is reported as lost.
func (s *sourceStream) flush() error {
	if s.out.Buffered() == 0 {
		return nil
	}
	if err := s.conn.SetWriteDeadline(s.Now().Add(SilentAfter)); err != nil {
		return err
	}
	return s.out.Flush()
}
