// Package linktest is the in-memory twin of package link: a simulated network
// that draws loss, delay and reordering from a seed, with partitions, MTUs and
// taps. Its time is virtual: datagrams without delay arrive before Send
// returns, delayed ones when Advance reaches their hour, or by Follow in step
// with a clock. The same calls with the same seed give the same order.
//
// It also holds Isolate, which runs a test in network namespaces of its own.
// It owns no real socket.
package linktest

import (
	"container/heap"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"github.com/meshcrypt/meshcrypt/mesh/link"
)

// ErrNoAddress is returned by Send when Path.Local is not one of the socket's
// addresses.
var ErrNoAddress = errors.New("linktest: not an address of this socket")

// Quality is what a way from one address to another does to datagrams. The
// zero value delivers everything at once.
type Quality struct {
	// Loss is the share of datagrams lost, 0 to 1.
	Loss float64
	// Latency delays every datagram; each also waits a random part of Jitter,
	// which reorders them.
	Latency, Jitter time.Duration
	// MTU is the largest datagram payload that passes; larger ones vanish as
	// in a black hole. 0 is no bound.
	MTU int
}

// Datagram is what a tap sees, before loss and partitions.
type Datagram struct {
	From, To netip.AddrPort
	Payload  []byte // valid during the call only
}

// Stats counts datagrams: Sent = Delivered + InFlight + all the losses.
type Stats struct {
	Sent, Delivered, InFlight                        uint64
	Lost, Partitioned, TooBig, NoListener, QueueFull uint64
}

type way struct{ from, to netip.Addr }

// Network joins sockets. All methods are safe for concurrent use.
type Network struct {
	mu       sync.Mutex // protects everything below
	random   *rand.Rand
	now      time.Duration
	sockets  map[netip.AddrPort][]*Socket
	quality  Quality
	ways     map[way]Quality
	parted   map[way]bool
	taps     []func(Datagram)
	flying   flights
	sequence uint64
	stats    Stats
	wake     chan struct{} // tells Follow that something flies
}

// New makes an empty network.
func New(seed uint64) *Network {
	return &Network{
		random:  rand.New(rand.NewPCG(seed, 0x6d657368)),
		sockets: map[netip.AddrPort][]*Socket{},
		ways:    map[way]Quality{},
		parted:  map[way]bool{},
		wake:    make(chan struct{}, 1),
	}
}

// SetQuality sets what every way does that SetWay does not name.
func (n *Network) SetQuality(q Quality) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.quality = q
}

// SetWay sets what one direction does.
func (n *Network) SetWay(from, to netip.Addr, q Quality) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ways[way{from, to}] = q
}

// SetLink sets both directions between two addresses.
func (n *Network) SetLink(a, b netip.Addr, q Quality) {
	n.SetWay(a, b, q)
	n.SetWay(b, a, q)
}

// Partition stops everything between two addresses, both ways, also what is
// in flight.
func (n *Network) Partition(a, b netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.parted[way{a, b}], n.parted[way{b, a}] = true, true
}

// PartitionWay stops one direction.
func (n *Network) PartitionWay(from, to netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.parted[way{from, to}] = true
}

// Heal undoes Partition and PartitionWay between two addresses.
func (n *Network) Heal(a, b netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.parted, way{a, b})
	delete(n.parted, way{b, a})
}

// Tap calls see for every datagram sent from now on, in order. see must not
// call the network or its sockets.
func (n *Network) Tap(see func(Datagram)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.taps = append(n.taps, see)
}

// Stats returns the counts so far.
func (n *Network) Stats() Stats {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.stats
}

// Listen opens a socket at addr, which must name an address and a port.
// Several sockets at one address share its peers, as with SO_REUSEPORT: one
// peer always meets the same one.
func (n *Network) Listen(addr netip.AddrPort) (*Socket, error) {
	if !addr.IsValid() || addr.Addr().IsUnspecified() || addr.Port() == 0 {
		return nil, fmt.Errorf("%w: linktest wants a full address, not %v", link.ErrConfig, addr)
	}
	s := newSocket(n, netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port()))
	n.mu.Lock()
	defer n.mu.Unlock()
	n.attach(s, s.local)
	return s, nil
}

// attach makes s reachable at addr; under mu.
func (n *Network) attach(s *Socket, addr netip.AddrPort) {
	s.addresses[addr.Addr()] = true
	n.sockets[addr] = append(n.sockets[addr], s)
}

// detach undoes attach; under mu.
func (n *Network) detach(s *Socket, addr netip.AddrPort) {
	delete(s.addresses, addr.Addr())
	kept := n.sockets[addr][:0:0]
	for _, other := range n.sockets[addr] {
		if other != s {
			kept = append(kept, other)
		}
	}
	n.sockets[addr] = kept
}

func (n *Network) qualityOf(w way) Quality {
	if q, ok := n.ways[w]; ok {
		return q
	}
	return n.quality
}

// send puts the datagrams of one train on their way; under mu.
func (n *Network) send(b []byte, segment int, from, to netip.AddrPort, tos uint8) {
	w := way{from.Addr(), to.Addr()}
	q := n.qualityOf(w)
	var train flight
	for len(b) > 0 {
		size := min(segment, len(b))
		datagram := b[:size]
		b = b[size:]
		n.stats.Sent++
		for _, see := range n.taps {
			see(Datagram{From: from, To: to, Payload: datagram})
		}
		due, ok := n.fate(w, q, size)
		if !ok {
			continue
		}
		if train.joins(datagram, due) {
			train.payload = append(train.payload, datagram...)
			train.count++
			continue
		}
		n.launch(train)
		train = flight{
			due: due, from: from, to: to, segment: size, count: 1, tos: tos,
			payload: append([]byte(nil), datagram...),
		}
	}
	n.launch(train)
}

// fate draws what becomes of one datagram.
func (n *Network) fate(w way, q Quality, size int) (due time.Duration, ok bool) {
	switch {
	case n.parted[w]:
		n.stats.Partitioned++
		return 0, false
	case q.MTU > 0 && size > q.MTU:
		n.stats.TooBig++
		return 0, false
	case q.Loss > 0 && n.random.Float64() < q.Loss:
		n.stats.Lost++
		return 0, false
	}
	due = n.now + q.Latency
	if q.Jitter > 0 {
		due += time.Duration(n.random.Int64N(int64(q.Jitter)))
	}
	return due, true
}

func (n *Network) launch(f flight) {
	if f.count == 0 {
		return
	}
	n.stats.InFlight += uint64(f.count)
	if f.due <= n.now {
		n.land(f)
		return
	}
	if len(n.flying) >= MaxInFlight {
		n.stats.InFlight -= uint64(f.count)
		n.stats.QueueFull += uint64(f.count)
		return
	}
	n.sequence++
	f.sequence = n.sequence
	heap.Push(&n.flying, f)
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// land delivers a train to the socket that serves its sender; under mu.
func (n *Network) land(f flight) {
	n.stats.InFlight -= uint64(f.count)
	if n.parted[way{f.from.Addr(), f.to.Addr()}] {
		n.stats.Partitioned += uint64(f.count)
		return
	}
	group := n.sockets[f.to]
	if len(group) == 0 {
		n.stats.NoListener += uint64(f.count)
		return
	}
	hash := fnv.New32a()
	text, _ := f.from.MarshalBinary()
	_, _ = hash.Write(text)
	dropped := group[hash.Sum32()%uint32(len(group))].deliver(f)
	n.stats.Delivered += uint64(f.count)
	n.stats.Delivered -= uint64(dropped)
	n.stats.QueueFull += uint64(dropped)
}
