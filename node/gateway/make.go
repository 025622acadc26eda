package gateway

import (
	"net/netip"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/mesh/link"
)

// making is what rows are made from. It is used only when a row is made or
// goes; all of it is protected by Gateway.mu.
type making struct {
	ports   []*port
	lanes   map[identity.Index]*lane
	buckets map[netip.Prefix]*bucket
	rows    int
	oldest  queue // of rows not confirmed when they were made
}

// lane is one node's use of the ports.
type lane struct {
	used   int // ports 0..used-1 have or had a row of this node
	free   []*port
	oldest queue
}

// queue is rows in the order of their making. Rows that were confirmed or
// went since are skipped, and swept out by Tick.
type queue []*row

// pop takes the oldest row that may be evicted; nil if there is none.
func (q *queue) pop() *row {
	for len(*q) > 0 {
		r := (*q)[0]
		(*q)[0] = nil
		*q = (*q)[1:]
		if r.evictable() {
			return r
		}
	}
	return nil
}

func (q *queue) sweep() {
	kept := (*q)[:0]
	for _, r := range *q {
		if r.evictable() {
			kept = append(kept, r)
		}
	}
	clear((*q)[len(kept):])
	*q = kept
}

func (r *row) evictable() bool { return !r.gone && !r.confirmed.Load() }

// create makes a row for a client's first packet, if its prefix may.
func (g *Gateway) create(k key, outer link.Socket, now int64) (*row, Reason) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if r := g.table.find(&k); r != nil {
		return r, Pass
	}
	if g.closed {
		return nil, DropPort
	}
	if !g.make.allow(k.client.Addr(), now) {
		return nil, DropRate
	}
	p, reason := g.room(k.node)
	if reason != Pass {
		return nil, reason
	}
	r := &row{key: k, port: p, outer: outer}
	r.seen.Store(now)
	g.make.rows++
	g.make.oldest = append(g.make.oldest, r)
	l := g.make.lanes[k.node]
	l.oldest = append(l.oldest, r)
	p.put(r)
	g.table.put(r)
	return r, Pass
}

// room finds a port without a row of the node; when there is none, or too many
// rows of the node wait to be confirmed, the oldest unconfirmed row goes.
func (g *Gateway) room(ix identity.Index) (*port, Reason) {
	m := &g.make
	l := m.lanes[ix]
	if l == nil {
		l = new(lane)
		m.lanes[ix] = l
	}
	if m.rows >= g.config.MaxRows && !g.evict(&m.oldest) {
		return nil, DropFull
	}
	if len(l.free) == 0 && l.used >= g.config.MaxPorts && !g.evict(&l.oldest) {
		return nil, DropFull
	}
	if len(l.oldest) >= MaxUnconfirmed {
		if l.oldest.sweep(); len(l.oldest) >= MaxUnconfirmed {
			g.evict(&l.oldest)
		}
	}
	if n := len(l.free); n > 0 {
		p := l.free[n-1]
		l.free = l.free[:n-1]
		return p, Pass
	}
	if l.used == len(m.ports) && !g.open() {
		return nil, DropPort
	}
	l.used++
	return m.ports[l.used-1], Pass
}

func (g *Gateway) evict(q *queue) bool {
	r := q.pop()
	if r != nil {
		g.drop(r)
	}
	return r != nil
}

// drop removes a row; under mu.
func (g *Gateway) drop(r *row) {
	if r.gone {
		return
	}
	r.gone = true
	g.table.remove(r)
	r.port.remove(r)
	g.make.rows--
	l := g.make.lanes[r.node]
	l.free = append(l.free, r.port)
}

// open opens the next inside port and serves it; under mu.
func (g *Gateway) open() bool {
	socket, err := g.config.OpenPort()
	if err != nil {
		return false
	}
	p := &port{socket: socket, rows: map[identity.Index]*row{}}
	g.make.ports = append(g.make.ports, p)
	g.group.Add(1)
	go g.serve(p)
	return true
}

// Tick removes idle rows and streams and forgets prefixes at rest. Call it
// about once a second.
func (g *Gateway) Tick() {
	for _, s := range g.idleStreams() {
		_ = s.Close() // that it is over is what was wanted
	}
	now := g.config.Clock()
	var idle []*row
	g.table.each(func(r *row) {
		limit := IdleUnconfirmed
		if r.confirmed.Load() {
			limit = IdleConfirmed
		}
		if now-r.seen.Load() > int64(limit) || r.over() {
			idle = append(idle, r)
		}
	})
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, r := range idle {
		g.drop(r)
	}
	g.make.oldest.sweep()
	for _, l := range g.make.lanes {
		l.oldest.sweep()
	}
	g.make.rest(now)
}
