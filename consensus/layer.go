package consensus

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// layer is a StreamLayer as raft wants it: servers are addressed by the text of
// their NodeID, and every open stream is known, for raft does not close the ones
// it accepted.
type layer struct {
	StreamLayer
	self   nodeAddr
	ctx    context.Context // ends at Close
	cancel context.CancelFunc

	mu   sync.Mutex
	open map[*stream]struct{}
}

var errTooManyStreams = errors.New("consensus: too many streams")

// nodeAddr is a NodeID where raft wants a net.Addr.
type nodeAddr identity.NodeID

// Network names the kind of address.
func (nodeAddr) Network() string { return "node" }

// String is the server's raft address.
func (a nodeAddr) String() string { return identity.NodeID(a).String() }

func newLayer(inner StreamLayer, self identity.NodeID) *layer {
	l := &layer{StreamLayer: inner, self: nodeAddr(self), open: make(map[*stream]struct{})}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l
}

// Addr is this server's raft address.
func (l *layer) Addr() net.Addr { return l.self }

// Dial opens a stream to the server of that raft address.
func (l *layer) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	var server identity.NodeID
	if err := server.UnmarshalText([]byte(address)); err != nil {
		return nil, fmt.Errorf("consensus: server address: %w", err)
	}
	ctx, cancel := context.WithTimeout(l.ctx, timeout)
	defer cancel()
	conn, err := l.StreamLayer.Dial(ctx, server)
	if err != nil {
		return nil, err
	}
	return l.track(conn, false)
}

// Accept takes the next stream that fits.
func (l *layer) Accept() (net.Conn, error) {
	for {
		conn, err := l.StreamLayer.Accept()
		if err != nil {
			return nil, err
		}
		tracked, err := l.track(conn, true)
		if !errors.Is(err, errTooManyStreams) {
			return tracked, err
		}
	}
}

// track keeps the stream until it is closed; one too many is closed at once.
func (l *layer) track(conn net.Conn, accepted bool) (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ctx.Err() != nil {
		return nil, errors.Join(ErrClosed, conn.Close())
	}
	if len(l.open) >= MaxStreams {
		return nil, errors.Join(errTooManyStreams, conn.Close())
	}
	s := &stream{Conn: conn, layer: l, accepted: accepted}
	l.open[s] = struct{}{}
	return s, nil
}

// Close ends the layer, every stream and every dial under way.
func (l *layer) Close() error {
	l.cancel()
	err := l.StreamLayer.Close()
	l.mu.Lock()
	open := l.open
	l.open = make(map[*stream]struct{})
	l.mu.Unlock()
	for s := range open {
		err = errors.Join(err, s.Conn.Close())
	}
	return err
}

// stream is an open one. At the end that accepted it a request that has begun has to go
// on: raft reads a snapshot in its main loop, and from a host that lost its power until
// TCP gives up it would neither vote nor follow anybody else.
type stream struct {
	net.Conn
	layer    *layer
	accepted bool
	// What follows is of an accepted stream's: raft reads a request, then answers it.
	begun bool  // a request, which was not answered yet
	stuck error // it went on no more
}

// Read waits for a request as long as it takes, and for its rest no longer than MidRequest
// at a time. What raft has not read yet waits for raft, and counts for nothing.
func (s *stream) Read(b []byte) (n int, err error) {
	switch {
	case !s.accepted:
		return s.Conn.Read(b)
	case s.stuck != nil:
		return 0, s.stuck
	}
	var until time.Time
	if s.begun {
		until = time.Now().Add(MidRequest)
	}
	if err := s.SetReadDeadline(until); err != nil {
		return 0, err
	}
	n, err = s.Conn.Read(b)
	s.begun = s.begun || n > 0
	if s.begun && err != nil {
		s.stuck = err
	}
	return n, err
}

// Write sends an answer, or at the other end a request.
func (s *stream) Write(b []byte) (int, error) {
	if s.accepted {
		s.begun = false
	}
	return s.Conn.Write(b)
}

// Close closes the stream and forgets it.
func (s *stream) Close() error {
	s.layer.mu.Lock()
	delete(s.layer.open, s)
	s.layer.mu.Unlock()
	return s.Conn.Close()
}
