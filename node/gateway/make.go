package gateway

import (
	"net/netip"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/mesh/link"
)

// making is what rows are made from. It is used only when a row is made or
// goes; all of it is protected by Gateway.mu.
type making struct {
	ports   []*port // that are open
	lost    uint64  // what the kernel dropped at ports that are closed
	fault   fault   // of the last port that did not open
	lanes   map[identity.Index]*lane
	buckets map[netip.Prefix]*bucket
	rows    int
	held    map[netip.Prefix]int // rows of a prefix, of all nodes together
	oldest  queue                // of rows not confirmed when they were made
}

func newMaking() making {
	return making{
		lanes: map[identity.Index]*lane{}, buckets: map[netip.Prefix]*bucket{}, held: map[netip.Prefix]int{},
	}
}

// create makes a row for a client's first packet, if its prefix may.
func (g *Gateway) create(k key, spi uint32, outer link.Socket) (*row, Reason) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if r := g.table.find(&k); r != nil {
		return r, Pass
	}
	now := g.config.Clock()
	prefix, ok := sourcePrefix(k.client.Addr())
	switch {
	case g.closed:
		return nil, DropPort
	case !ok || !g.make.allow(prefix, now):
		return nil, DropRate
	}
	r := &row{key: k, spi: spi, prefix: prefix, outer: outer, made: now}
	l := g.lane(k.node)
	g.yield(l, r, now)
	reason := g.room(l, r, now)
	if reason != Pass {
		return nil, reason
	}
	g.make.rows++
	g.make.held[prefix]++
	g.make.oldest = append(g.make.oldest, r)
	l.add(r)
	r.port.put(r)
	g.table.put(r)
	return r, Pass
}

// yield drops the oldest row of a prefix that has its share already, so that a
// client who takes too many rows harms only the clients of its own prefix. It does
// the same for an SPI, because a client may forge source addresses of many prefixes.
// Of an SPI's rows only those that the node answered count: anybody can write an SPI
// into a packet, but the node answers only its owner.
func (g *Gateway) yield(l *lane, r *row, now int64) {
	m := &g.make
	own := l.held[r.prefix]
	if ofSA := l.ofSA[sa{r.prefix, r.spi}]; len(ofSA) >= MaxRowsPerSA {
		g.drop(ofSA.oldest(), now)
		return
	}
	if len(own) > 0 && (len(own) >= PrefixShare*(g.config.MaxPorts-l.rows) ||
		m.held[r.prefix] >= PrefixShare*(g.config.MaxRows-m.rows)) {
		g.drop(own.oldest(), now)
		return
	}
	// Below MaxRowsPerSA it keeps all: the row in use must not go for what somebody
	// else wrote the SPI on.
	if all := l.ofSPI[r.spi].confirmed(true); len(all) >= max(MaxRowsPerSA, min(MaxRowsPerSPI, SPIShare*(g.config.MaxPorts-l.rows))) {
		g.drop(all.oldest(), now)
	}
}

// room gives a new row a port without a row of its node. When there is none, or
// too many rows of the node wait to be confirmed, an unconfirmed one goes.
func (g *Gateway) room(l *lane, r *row, now int64) Reason {
	m := &g.make
	if m.rows >= g.config.MaxRows && !g.evict(&m.oldest, now) {
		return DropFull
	}
	if l.rows >= g.config.MaxPorts && !g.evict(&l.oldest, now) {
		return DropFull
	}
	if len(l.oldest) >= MaxUnconfirmed {
		if l.oldest.sweep(); len(l.oldest) >= MaxUnconfirmed {
			g.relieve(l, r.prefix, now)
		}
	}
	if r.port = l.rested(PortRestLeast, PortRest, now); r.port != nil {
		return Pass
	}
	reason := DropFull
	if l.used < g.config.MaxPorts {
		reason = DropPort
		if l.used < len(m.ports) || g.open() {
			l.used++
			r.port = m.ports[l.used-1]
			return Pass
		}
	}
	if r.port = l.rested(0, PortRestLeast, now); r.port != nil {
		return Pass
	}
	return reason
}

// relieve ends one row of those that wait at a node: of the new one's own prefix
// if that has many waiting, so that a flood from one prefix harms no other.
func (g *Gateway) relieve(l *lane, prefix netip.Prefix, now int64) {
	if waiting := l.held[prefix].confirmed(false); len(waiting) >= MaxUnconfirmed/8 {
		g.drop(waiting.oldest(), now)
		return
	}
	g.evict(&l.oldest, now)
}

func (g *Gateway) evict(q *queue, now int64) bool {
	r := q.pop()
	if r != nil {
		g.drop(r, now)
	}
	return r != nil
}

// drop removes a row; under mu.
func (g *Gateway) drop(r *row, now int64) {
	if r.gone {
		return
	}
	r.gone = true
	g.table.remove(r)
	r.port.remove(r, now)
	g.make.rows--
	if g.make.held[r.prefix]--; g.make.held[r.prefix] == 0 {
		delete(g.make.held, r.prefix)
	}
	g.make.lanes[r.node].remove(r, now)
}

// lane is a node's; under mu.
func (g *Gateway) lane(ix identity.Index) *lane {
	l := g.make.lanes[ix]
	if l == nil {
		l = newLane()
		g.make.lanes[ix] = l
	}
	return l
}

// open opens the next inside port; under mu.
func (g *Gateway) open() bool {
	p := &port{rows: map[identity.Index]*row{}}
	// An answer needs nothing of the port but its rows.
	var err error
	p.socket, err = g.config.OpenPort(func(b []byte, t link.Train) { g.answer(p, b, t) })
	if err != nil {
		g.make.fault = fault{err, g.config.Clock()}
		return false
	}
	g.make.fault = fault{}
	g.make.ports = append(g.make.ports, p)
	return true
}

// Tick removes idle rows and streams, closes ports that nobody used for PortRest,
// and forgets prefixes at rest. Call it about once a second.
func (g *Gateway) Tick() {
	for _, s := range g.idleStreams() {
		_ = s.Close() // that it is over is what was wanted
	}
	for _, p := range g.age(g.config.Clock()) {
		_ = p.socket.Close() // as above
	}
}

// age removes what is over and gives the ports to close, which takes a while.
func (g *Gateway) age(now int64) []*port {
	var idle []*row
	g.table.each(func(r *row) {
		if r.idle(now) || r.over() {
			idle = append(idle, r)
		}
	})
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, r := range idle {
		g.drop(r, now)
	}
	g.make.oldest.sweep()
	for _, l := range g.make.lanes {
		l.oldest.sweep()
	}
	g.make.rest(now)
	return g.make.idle(now)
}

// shrunk gives the memory of a map back that is empty, which Go itself never does.
func shrunk[K comparable, V any](m map[K]V) map[K]V {
	if len(m) == 0 {
		return map[K]V{}
	}
	return m
}
