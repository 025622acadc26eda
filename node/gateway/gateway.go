// Package gateway forwards clients' outer packets by header alone: the node
// index in the SPI says where to, a row made by the client's first packet says
// the way back. Trains go through unsplit. It has no keys and no durable
// state; any node is gateway for any session at any time.
//
// It owns its rows, its inside ports, and which streams it takes in from clients
// whose UDP is blocked. It does not own the outer sockets, which the packet
// engine receives on, nor the node list, which is published to it.
package gateway

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/meshcrypt/meshcrypt/crypto/esp"
	"github.com/meshcrypt/meshcrypt/mesh/link"
	"github.com/meshcrypt/meshcrypt/mesh/link/framed"
	"github.com/meshcrypt/meshcrypt/node/dataplane"
)

// ErrConfig is returned by New.
var ErrConfig = errors.New("gateway: incomplete configuration")

// Config is what a gateway is made of.
type Config struct {
	// OpenPort opens one inside port: a socket of its own, any port, whose trains
	// receive is given, one after the other.
	OpenPort func(receive func(b []byte, t link.Train)) (link.Sender, error)
	// Attach serves a further outer socket, until it is closed; nil: clients
	// are not taken in by streams.
	Attach func(link.Socket) error
	// Clock is a monotonic clock in nanoseconds; a coarse one will do.
	Clock func() int64
	// MaxRows, MaxPorts and MaxStreams lower the limits of the same name; 0
	// keeps them.
	MaxRows, MaxPorts, MaxStreams int
}

// Gateway forwards. All methods are safe for concurrent use.
type Gateway struct {
	config   Config
	nodes    atomic.Pointer[Nodes]
	table    *table
	copies   *duplicates
	counters counters

	mu      sync.Mutex // protects what follows and what make refers to
	make    making
	streams streams
	closed  bool
}

var _ dataplane.Forwarder = (*Gateway)(nil)

// New makes a gateway that forwards nothing before Publish.
func New(c Config) (*Gateway, error) {
	if c.OpenPort == nil || c.Clock == nil {
		return nil, fmt.Errorf("%w: ports and a clock are needed", ErrConfig)
	}
	c.MaxRows = limit(c.MaxRows, MaxRows)
	c.MaxPorts = limit(c.MaxPorts, MaxPorts)
	c.MaxStreams = limit(c.MaxStreams, MaxStreams)
	g := &Gateway{config: c, table: newTable(), copies: newDuplicates()}
	g.make = newMaking()
	g.streams = streams{all: map[*framed.Socket]netip.Prefix{}, byPrefix: map[netip.Prefix]int{}}
	return g, nil
}

func limit(asked, most int) int {
	if asked <= 0 {
		return most
	}
	return min(asked, most)
}

// Publish makes n the node list of every packet that is taken up from now on.
func (g *Gateway) Publish(n *Nodes) { g.nodes.Store(n) }

// Forward implements dataplane.Forwarder: a client's train goes to the node
// of its SPI.
func (g *Gateway) Forward(b []byte, t link.Train, from link.Socket) {
	n := uint64(t.Count())
	g.counters.received.Add(n)
	if reason := g.forward(b[:t.Len], t, from); reason != Pass {
		g.counters.dropped[reason].Add(n)
		return
	}
	g.counters.forwarded.Add(n)
	g.counters.bytes.Add(uint64(t.Len))
}

func (g *Gateway) forward(b []byte, t link.Train, from link.Socket) Reason {
	nodes := g.nodes.Load()
	if nodes == nil {
		return DropUnknownIndex
	}
	if nodes.hosts[t.Path.Remote.Addr()] {
		return DropFromNode
	}
	spi, ok := destination(b, t.Segment)
	if !ok {
		return DropImplausible
	}
	ix := esp.Index(spi)
	node := nodes.node(ix)
	switch {
	case node == nil:
		return DropUnknownIndex
	case !node.Alive:
		return DropDead
	}
	// A train may hold a copy beside packets that are new.
	single := t.Len == t.Segment && b[0]|b[1]|b[2]|b[3] != 0
	var sum sums
	if single {
		var known bool
		if sum, known = g.copies.copied(b); known {
			return DropDuplicate
		}
	}
	k := key{client: t.Path.Remote, local: t.Path.Local, node: ix}
	r := g.table.find(&k)
	if r == nil {
		var reason Reason
		if r, reason = g.create(k, spi, from); reason != Pass {
			return reason
		}
	}
	reason := sent(r.port.socket.Send(b, t.Segment, link.Path{Remote: node.Outer, TOS: t.TOS}))
	if single && reason == Pass {
		g.copies.carried(sum)
	}
	return reason
}

// destination reads the SPI of a plausible client packet: the node's index is in it.
func destination(b []byte, segment int) (spi uint32, ok bool) {
	if len(b) < minESP {
		return 0, false
	}
	if spi := binary.BigEndian.Uint32(b); spi != 0 {
		return spi, segment >= minESP
	}
	m, ok := dataplane.ParseMarker(b)
	ok = ok && m.Type == dataplane.MarkerAccept && segment >= minAccept && segment <= maxAccept
	return m.SPI, ok
}

// answer takes what nodes answer at one port.
func (g *Gateway) answer(p *port, b []byte, t link.Train) {
	n := uint64(t.Count())
	g.counters.received.Add(n)
	if reason := g.back(p, b, t); reason != Pass {
		g.counters.dropped[reason].Add(n)
		return
	}
	g.counters.answered.Add(n)
	g.counters.bytes.Add(uint64(t.Len))
}

// back sends a node's train to the client of its row.
func (g *Gateway) back(p *port, b []byte, t link.Train) Reason {
	nodes := g.nodes.Load()
	ix, ok := nodes.byOuter[t.Path.Remote]
	if !ok {
		return DropStranger
	}
	if !answers(b, t.Segment) {
		return DropImplausible
	}
	r := p.row(ix)
	if r == nil {
		return DropNoRow
	}
	r.answer(g.config.Clock())
	return sent(r.outer.Send(b, t.Segment, link.Path{Local: r.local, Remote: r.client, TOS: t.TOS}))
}

// sent names what became of a train given to a socket.
func sent(err error) Reason {
	switch {
	case err == nil:
		return Pass
	case errors.Is(err, link.ErrQueue):
		return DropQueue
	}
	return DropSend
}

// answers reports whether a train is what nodes send to clients.
func answers(b []byte, segment int) bool {
	if m, ok := dataplane.ParseMarker(b); ok {
		return m.Type == dataplane.MarkerConfirm
	}
	return segment >= minESP && binary.BigEndian.Uint32(b) != 0
}

// Confirmed adds to a list the hosts of clients that a node has answered, each once;
// false: they are more than most, and not all are in it. It is asked ten times a second, so
// whoever asks brings the room.
func (g *Gateway) Confirmed(all []netip.Addr, most int) ([]netip.Addr, bool) {
	begin, fits := len(all), true
	settle := func() {
		hosts := all[begin:]
		slices.SortFunc(hosts, netip.Addr.Compare)
		all = all[:begin+len(slices.Compact(hosts))]
		fits = len(all)-begin <= most
	}
	g.table.each(func(r *row) {
		if !fits || !r.confirmed() {
			return
		}
		if all = append(all, r.client.Addr()); len(all)-begin > 2*most {
			settle()
		}
	})
	settle()
	return all, fits
}

// Stats returns the counts so far and what there is now.
func (g *Gateway) Stats() Stats {
	s := g.counters.stats()
	g.table.each(func(r *row) {
		s.Rows++
		if r.confirmed() {
			s.Confirmed++
		}
	})
	g.mu.Lock()
	ports := slices.Clone(g.make.ports)
	s.Ports, s.MaxPorts, s.Lost, s.PortFault = len(ports), g.config.MaxPorts, g.make.lost, g.make.fault.recent(g.config.Clock())
	s.Streams, s.StreamsOpened, s.StreamsRefused = len(g.streams.all), g.streams.opened, g.streams.refused
	g.mu.Unlock()
	for _, p := range ports { // asks the kernel, once for each
		s.Lost += p.socket.Lost()
	}
	return s
}

// Close closes the inside ports and the streams.
func (g *Gateway) Close() error {
	g.mu.Lock()
	g.closed = true
	ports, streams := g.make.ports, slices.Collect(maps.Keys(g.streams.all))
	g.mu.Unlock()
	var err error
	for _, s := range streams {
		err = errors.Join(err, s.Close())
	}
	for _, p := range ports {
		err = errors.Join(err, p.socket.Close())
	}
	return err
}
