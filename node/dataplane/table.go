package dataplane

import (
	"maps"
	"net/netip"
	"slices"
	"sync/atomic"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/mesh/link"
	"github.com/meshcrypt/meshcrypt/node/admit"
	"github.com/meshcrypt/meshcrypt/node/pages"
	"github.com/meshcrypt/meshcrypt/slicing"
)

// Table is all the engine knows of where packets go. The owner makes a new one for
// every change, of rows that it has in pages and that are copied only where they
// changed, and hands it over by Publish; nothing in a published table changes any
// more, save the atomics inside its pairs.
type Table struct {
	// Own is this node's index; 0 on a client, which looks up every SPI.
	Own identity.Index
	// In is the SA pairs by the SPI of packets that arrive.
	In pages.View[*Pair]
	// Granted is the pairs of this agent by the SPI of their grant: an egress
	// hands on by that, for it does not hear of rekeys.
	Granted pages.View[*Pair]
	// Links is the SA pairs with other nodes by the SPI of packets that arrive; their
	// Control is set. Sealed refuses what is handed on otherwise.
	Links  map[uint32]*Pair
	Sealed bool
	// Routes is, on a node, the way to each client by its leases.
	Routes pages.Addresses[*Route]
	// Here is this node's own inside address. Packets to it end on this host, and
	// Local is the way of its answers: slices of this node, by their leases.
	Here  netip.Addr
	Local pages.Addresses[*Route]
	// Default carries what no route does: on a client, everything.
	Default *Route
	// Peers is the inside addresses of nodes, which may hand on.
	Peers map[netip.Addr]bool
	// Nodes is the outer addresses of all nodes, for the loop check and for
	// probes.
	Nodes map[netip.Addr]bool
	// DataPort is the port of outer datagrams, for the loop check.
	DataPort uint16
	// InsidePort is that of packets between nodes where leases are masqueraded: there a
	// client's would come from this node's address, which other nodes believe. 0 elsewhere.
	InsidePort uint16
}

// Route is the slices of one session and how packets spread over them. A slice
// stands at its number; a number that has none has weight 0.
type Route struct {
	Slices []RouteSlice
	// Upward is granted SPIs under which packets may be handed on upwards too:
	// of slices that do not carry packets down, or not yet.
	Upward []uint32
	Set    *slicing.Set
	// Spread remembers what each slice was given. Keep it when a route of the
	// same session is built anew.
	Spread *Spread
	// Rule is what the client may reach and be reached from; on a node nothing
	// passes without one.
	Rule *admit.Rule
	// SprayUDP lets one flow of UDP take several slices, as TCP does.
	SprayUDP bool
}

// RouteSlice is one way to the client. With a Pair this node seals itself;
// otherwise the packets are handed on to the agent at HandOn.
type RouteSlice struct {
	Pair *Pair
	// HandOn is one for all routes by that agent, and not changed; nil: there is no way.
	HandOn *link.Path
	// Sealed hands on under Link, the SA pair with that agent; nil: there is none yet.
	Link   *Pair
	Sealed bool
	// SPI is that of the slice's grant: it names the slice in packets handed
	// on, downwards and upwards, whatever rekeys came since.
	SPI uint32
}

// Spread holds what one session was given so far, for each worker that reads
// the TUN; nothing of one that never had a run of it.
type Spread struct {
	queues  int
	workers atomic.Pointer[[]atomic.Pointer[spreader]] // nil until a worker had one
}

// spreader is one worker's part. The picker is the worker's own.
type spreader struct {
	picker  slicing.Picker
	carried atomic.Uint64 // bytes of runs that found a slice
}

// NewSpread makes the state of a new session for a device of so many queues.
func NewSpread(queues int) *Spread { return &Spread{queues: queues} }

// worker is that of one queue, which alone calls it.
func (s *Spread) worker(n int) *spreader {
	all := s.workers.Load()
	if all == nil {
		s.workers.CompareAndSwap(nil, new(make([]atomic.Pointer[spreader], s.queues)))
		all = s.workers.Load()
	}
	w := (*all)[n].Load()
	if w == nil {
		w = new(spreader)
		(*all)[n].Store(w)
	}
	return w
}

// Carried is the bytes of inner packets that found a slice so far.
func (s *Spread) Carried() (bytes uint64) {
	all := s.workers.Load()
	if all == nil {
		return 0
	}
	for i := range *all {
		if w := (*all)[i].Load(); w != nil {
			bytes += w.carried.Load()
		}
	}
	return bytes
}

// route finds the way to a packet's destination.
func (t *Table) route(in *inner) *Route {
	if t == nil {
		return nil
	}
	if in.src == t.Here {
		if r := t.Local.Get(in.dst); r != nil {
			return r
		}
	}
	if r := t.Routes.Get(in.dst); r != nil {
		return r
	}
	return t.Default
}

// usual is how many slices most sessions have: one and a spare.
const usual = 2

// NewRoute is a route of a set, with room for so many slices: in one piece, if they are no
// more than usual.
func NewRoute(set slicing.Set, slices int) *Route {
	r := &struct {
		Route
		set     slicing.Set
		slices  [usual]RouteSlice
		weights [usual]uint32
	}{set: set}
	r.Set, r.Slices, r.set.Weights = &r.set, r.slices[:0], r.weights[:0]
	if slices > usual {
		r.Slices, r.set.Weights = make([]RouteSlice, 0, slices), make([]uint32, 0, slices)
	}
	return &r.Route
}

// Put gives the route a slice at its number.
func (r *Route) Put(number uint8, s RouteSlice, weight uint32) {
	for len(r.Slices) <= int(number) {
		r.Slices, r.Set.Weights = append(r.Slices, RouteSlice{}), append(r.Set.Weights, 0)
	}
	r.Slices[number], r.Set.Weights[number] = s, weight
}

// carries reports whether packets of the session may come up under an SPI.
func (r *Route) carries(spi uint32) bool {
	for i := range r.Slices {
		if r.Slices[i].SPI == spi && spi != 0 {
			return true
		}
	}
	return slices.Contains(r.Upward, spi)
}

// Heard adds to a list where peers are that have shown so, and the nodes; nothing when that
// is more than most. Where an authenticated packet came from alone shows nothing: its
// sender may have put any address on it.
func (t *Table) Heard(all []netip.Addr, most int) []netip.Addr {
	if t == nil || t.In.Len()+len(t.Nodes) > most {
		return all
	}
	for _, p := range t.In.All() {
		if w := p.way.Load(); w.sure() && p.LastHeard() != 0 {
			all = append(all, w.path.Remote.Addr())
		}
	}
	for a := range t.Nodes {
		all = append(all, a)
	}
	return all
}

// Inside lists the inside addresses of nodes; nothing when they are more than most.
func (t *Table) Inside(most int) []netip.Addr {
	if t == nil || len(t.Peers) > most {
		return nil
	}
	return slices.Collect(maps.Keys(t.Peers))
}

// loops reports whether the packet is tunnel traffic of this very mesh, to or
// from a node's data port or for its inside port, or may be.
func (t *Table) loops(in *inner) bool {
	hidden := in.hidden()
	if t.InsidePort != 0 && (hidden || in.proto == protoUDP && in.dport == t.InsidePort) && t.Peers[in.dst] {
		return true
	}
	if hidden {
		return t.Nodes[in.dst] || t.Nodes[in.src]
	}
	if in.proto != protoUDP || in.dport != t.DataPort && in.sport != t.DataPort {
		return false
	}
	return in.dport == t.DataPort && t.Nodes[in.dst] || in.sport == t.DataPort && t.Nodes[in.src]
}
