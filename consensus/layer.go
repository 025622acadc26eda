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
	return l.track(conn)
}

// Accept takes the next stream that fits.
func (l *layer) Accept() (net.Conn, error) {
	for {
		conn, err := l.StreamLayer.Accept()
		if err != nil {
			return nil, err
		}
		tracked, err := l.track(conn)
		if !errors.Is(err, errTooManyStreams) {
			return tracked, err
		}
	}
}

// track keeps the stream until it is closed; one too many is closed at once.
func (l *layer) track(conn net.Conn) (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ctx.Err() != nil {
		return nil, errors.Join(ErrClosed, conn.Close())
	}
	if len(l.open) >= MaxStreams {
		return nil, errors.Join(errTooManyStreams, conn.Close())
	}
	s := &stream{Conn: conn, layer: l}
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

type stream struct {
	net.Conn
	layer *layer
}

// Close closes the stream and forgets it.
func (s *stream) Close() error {
	s.layer.mu.Lock()
	delete(s.layer.open, s)
	s.layer.mu.Unlock()
	return s.Conn.Close()
}
