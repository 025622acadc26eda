package consensus

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// memory is a network in this process that can cut nodes off.
type memory struct {
	mu       sync.Mutex
	listen   map[identity.NodeID]*memoryLayer
	isolated map[identity.NodeID]bool
	streams  []memoryStream
}

type memoryStream struct {
	a, b identity.NodeID
	ends [2]net.Conn
}

// memoryLayer is one node's StreamLayer.
type memoryLayer struct {
	network *memory
	id      identity.NodeID
	accept  chan net.Conn
	waits   atomic.Int32 // dials that nobody has accepted
	closed  chan struct{}
	once    sync.Once
}

var errUnreachable = errors.New("memory: unreachable")

func newMemory() *memory {
	return &memory{listen: map[identity.NodeID]*memoryLayer{}, isolated: map[identity.NodeID]bool{}}
}

func (m *memory) layer(id identity.NodeID) *memoryLayer {
	m.mu.Lock()
	defer m.mu.Unlock()
	l := &memoryLayer{network: m, id: id, accept: make(chan net.Conn), closed: make(chan struct{})}
	m.listen[id] = l
	return l
}

// isolate cuts a node off from all others, in both directions.
func (m *memory) isolate(id identity.NodeID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.isolated[id] = true
	for _, s := range m.streams {
		if s.a == id || s.b == id {
			s.ends[0].Close()
			s.ends[1].Close()
		}
	}
}

// waits is how many dials of a node nobody has accepted.
func (m *memory) waits(id identity.NodeID) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return int(m.listen[id].waits.Load())
}

func (m *memory) heal(id identity.NodeID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.isolated, id)
}

func (m *memory) connect(from, to identity.NodeID) (*memoryLayer, net.Conn, net.Conn) {
	m.mu.Lock()
	defer m.mu.Unlock()
	target := m.listen[to]
	if target == nil || m.isolated[from] || m.isolated[to] {
		return nil, nil, nil
	}
	near, far := net.Pipe()
	m.streams = append(m.streams, memoryStream{from, to, [2]net.Conn{near, far}})
	return target, near, far
}

func (l *memoryLayer) Dial(ctx context.Context, to identity.NodeID) (net.Conn, error) {
	target, near, far := l.network.connect(l.id, to)
	if target == nil {
		return nil, errUnreachable
	}
	target.waits.Add(1)
	defer target.waits.Add(-1)
	select {
	case target.accept <- far:
		return near, nil
	case <-target.closed:
	case <-ctx.Done():
	}
	return nil, errors.Join(errUnreachable, near.Close(), far.Close())
}

func (l *memoryLayer) Accept() (net.Conn, error) {
	select {
	case conn := <-l.accept:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *memoryLayer) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *memoryLayer) Addr() net.Addr { return nodeAddr(l.id) }
