package linktest

import (
	"fmt"
	"net/netip"
	"sync"

	"github.com/meshcrypt/meshcrypt/mesh/link"
)

// Socket is one end of a Network. A blocked Receive counts as idle in a
// testing/synctest bubble.
type Socket struct {
	network   *Network
	local     netip.AddrPort
	addresses map[netip.Addr]bool // protected by network.mu
	mtu       int                 // protected by network.mu

	mu      sync.Mutex // protects the fields below; taken after network.mu
	arrived *sync.Cond
	queue   []flight
	lost    uint64
	closed  bool
}

var _ link.Socket = (*Socket)(nil)

func newSocket(n *Network, local netip.AddrPort) *Socket {
	s := &Socket{network: n, local: local, addresses: map[netip.Addr]bool{}}
	s.arrived = sync.NewCond(&s.mu)
	return s
}

// Add makes the socket reachable at a further address of its host, with the
// same port.
func (s *Socket) Add(addr netip.Addr) {
	s.network.mu.Lock()
	defer s.network.mu.Unlock()
	s.network.attach(s, netip.AddrPortFrom(addr.Unmap(), s.local.Port()))
}

// Remove undoes Add.
func (s *Socket) Remove(addr netip.Addr) {
	s.network.mu.Lock()
	defer s.network.mu.Unlock()
	s.network.detach(s, netip.AddrPortFrom(addr.Unmap(), s.local.Port()))
}

// SetMTU makes Send return link.ErrTooBig for datagrams above size, as the
// MTU of the own device does. 0 is no bound.
func (s *Socket) SetMTU(size int) {
	s.network.mu.Lock()
	defer s.network.mu.Unlock()
	s.mtu = size
}

// LocalAddr implements link.Socket.
func (s *Socket) LocalAddr() netip.AddrPort { return s.local }

// Lost implements link.Socket: datagrams dropped from a full queue or cut by
// a short buffer.
func (s *Socket) Lost() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lost
}

// Send implements link.Socket.
func (s *Socket) Send(b []byte, segment int, path link.Path) error {
	if segment <= 0 || segment > len(b) {
		segment = len(b)
	}
	n := s.network
	n.mu.Lock()
	defer n.mu.Unlock()
	if s.isClosed() {
		return link.ErrClosed
	}
	from := s.local
	if local := path.Local.Unmap(); local.IsValid() && !local.IsUnspecified() {
		if !s.addresses[local] {
			return fmt.Errorf("%w: %v", ErrNoAddress, local)
		}
		from = netip.AddrPortFrom(local, s.local.Port())
	}
	if s.mtu > 0 && segment > s.mtu {
		return link.ErrTooBig
	}
	to := netip.AddrPortFrom(path.Remote.Addr().Unmap(), path.Remote.Port())
	most := max(1, min(link.MaxSegments, link.MaxTrain/max(segment, 1))) * segment
	for len(b) > 0 {
		size := min(most, len(b))
		n.send(b[:size], segment, from, to, path.TOS)
		b = b[size:]
	}
	return nil
}

func (s *Socket) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// Receive implements link.Socket.
func (s *Socket) Receive(b []byte) (link.Train, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		for len(s.queue) == 0 && !s.closed {
			s.arrived.Wait()
		}
		if s.closed {
			return link.Train{}, link.ErrClosed
		}
		if t, ok := s.take(b); ok {
			return t, nil
		}
	}
}

// TryReceive is Receive for tests that step by hand: ok is false when nothing
// waits.
func (s *Socket) TryReceive(b []byte) (t link.Train, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.queue) > 0 && !s.closed {
		if t, ok := s.take(b); ok {
			return t, true
		}
	}
	return link.Train{}, false
}

// take moves the oldest train into b, whole datagrams only; under mu.
func (s *Socket) take(b []byte) (link.Train, bool) {
	f := s.queue[0]
	s.queue[0] = flight{}
	s.queue = s.queue[1:]
	size := len(f.payload)
	if size > len(b) {
		size = len(b) / f.segment * f.segment
		s.lost += uint64((len(f.payload) - size + f.segment - 1) / f.segment)
	}
	if size == 0 {
		return link.Train{}, false
	}
	copy(b, f.payload[:size])
	return link.Train{
		Path: link.Path{Local: f.to.Addr(), Remote: f.from},
		Len:  size, Segment: min(f.segment, size), TOS: f.tos,
	}, true
}

// deliver queues a train and returns how many datagrams were dropped to make
// room; under network.mu.
func (s *Socket) deliver(f flight) (dropped int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) >= MaxQueue {
		dropped = s.queue[0].count
		s.lost += uint64(dropped)
		s.queue[0] = flight{}
		s.queue = s.queue[1:]
	}
	s.queue = append(s.queue, f)
	s.arrived.Signal()
	return dropped
}

// Close implements link.Socket.
func (s *Socket) Close() error {
	n := s.network
	n.mu.Lock()
	defer n.mu.Unlock()
	for addr := range s.addresses {
		n.detach(s, netip.AddrPortFrom(addr, s.local.Port()))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.queue = nil
	s.arrived.Broadcast()
	return nil
}
