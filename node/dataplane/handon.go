package dataplane

import (
	"encoding/binary"

	"github.com/meshcrypt/meshcrypt/crypto/esp"
	"github.com/meshcrypt/meshcrypt/mesh/link"
	"github.com/meshcrypt/meshcrypt/node/pages"
	"github.com/meshcrypt/meshcrypt/node/tun"
)

// handOn is the worker of one inside socket: what another node hands on is
// sealed here if the SPI is this node's own (downwards, this node is agent),
// or goes to the TUN (upwards, this node is egress). It is admitted as
// strictly as from the wire, and never handed on again. All fields are the
// worker's own.
type handOn struct {
	engine *Engine
	ledger *ledger
	socket link.Socket
	buffer []byte
	inner  inner
	merge  coalescer
	batch  *batch
	large  oversize
	report violations

	// Of the present train.
	table *Table
	path  link.Path
	now   int64
	tos   uint8
}

func newHandOn(e *Engine, l *ledger, s link.Socket, q tun.Queue) worker {
	b := &batch{ledger: l, slab: make([]byte, slabBytes)}
	return &handOn{
		engine: e, ledger: l, socket: s, buffer: make([]byte, link.MaxTrain+1024),
		merge:  newCoalescer(l, q, e.config.USO),
		batch:  b,
		large:  oversize{ledger: l, batch: b, queue: q},
		report: violations{tell: e.config.Violation},
	}
}

// step receives one train and handles each datagram of it.
func (w *handOn) step() error {
	t, err := w.socket.Receive(w.buffer)
	if err != nil {
		return err
	}
	w.table, w.path, w.now = w.engine.table.Load(), t.Path, w.engine.config.Clock()
	w.tos = t.TOS
	n := t.Count()
	w.ledger.take(PortInside, n)
	if w.engine.stall.check(w.now) {
		w.ledger.drop(DropStalled, n)
		return nil
	}
	if w.table == nil || !w.table.Peers[t.Path.Remote.Addr()] {
		w.ledger.drop(DropPeer, n)
		w.report.raise(DropPeer, w.path, w.now)
		return nil
	}
	w.train(w.buffer[:t.Len], t.Segment)
	return nil
}

func (w *handOn) train(b []byte, segment int) {
	for len(b) > 0 {
		n := min(segment, len(b))
		if reason := w.datagram(b[:n:n]); reason != Pass {
			w.ledger.drop(reason, 1)
			w.report.raise(reason, w.path, w.now)
		}
		b = b[n:]
	}
	w.batch.flush()
	w.merge.flush()
}

// datagram sorts: ESP of other nodes, then by the marker's type.
func (w *handOn) datagram(d []byte) Reason {
	if len(d) >= 4 && binary.BigEndian.Uint32(d) != 0 {
		return w.sealed(d)
	}
	m, ok := ParseMarker(d)
	if !ok {
		return DropMalformed
	}
	switch m.Type {
	case MarkerHandOn:
		if w.table.Sealed {
			return DropClear
		}
		return w.admit(m, d[MarkerLen:])
	case MarkerAccept, MarkerConfirm, MarkerProbe, MarkerProbeReply, MarkerPathTest, MarkerVerdict, MarkerClaim:
		if w.engine.config.Marked == nil {
			return DropType
		}
		w.engine.config.Marked(w.socket, w.path, m, d)
		w.ledger.consume(PortControl, 1)
		return Pass
	}
	return DropType
}

// admit judges a packet that was handed on.
func (w *handOn) admit(m Marker, packet []byte) Reason {
	in := &w.inner
	if m.Hops != 1 {
		return DropHops
	}
	if reason := in.parse(packet); reason != Pass {
		return reason
	}
	if w.table.loops(in) {
		return DropLoop
	}
	packet = packet[:in.total]
	if w.tos&1 != 0 {
		if reason := in.congest(packet, w.tos); reason != Pass {
			return reason
		}
	}
	if esp.Index(m.SPI) == w.table.Own {
		return w.down(m.SPI, packet)
	}
	return w.up(m.SPI, packet)
}

// down seals for the client: the destination is the session's lease.
func (w *handOn) down(spi uint32, packet []byte) Reason {
	p := w.table.Granted.Get(pages.Number(spi))
	if p == nil {
		return DropUnknownSPI
	}
	if reason := p.admitOut(&w.inner, packet, 1); reason != Pass {
		return reason
	}
	way := p.way.Load()
	switch {
	case p.Out == nil:
		return DropEarly
	case p.Over(w.now):
		return DropExhausted
	case way == nil || way.socket == nil:
		return DropNoPath
	}
	w.merge.flush()
	p.lastSent.Store(w.now)
	mtu, limit := p.Sizes()
	if len(packet) > limit {
		return w.large.send(p, way, packet, &w.inner, w.now)
	}
	clampMSS(packet, &w.inner, min(mtu, limit))
	w.ledger.decide(1)
	w.batch.add(p, way, packet, w.inner.next(), w.inner.tos)
	return Pass
}

// up delivers as egress: the source is a lease whose route has this very slice,
// the destination what its client may reach.
func (w *handOn) up(spi uint32, packet []byte) Reason {
	route := w.table.Routes.Get(w.inner.src)
	if route == nil || !route.carries(spi) {
		return DropSource
	}
	if !route.Rule.Admits(w.inner.dst) {
		return DropNotAllowed
	}
	w.batch.flush()
	w.ledger.decide(1)
	w.merge.add(packet, &w.inner)
	return Pass
}

// batch is packets of one pair on the way to become one sealed train. It
// points into the worker's receive buffer until it is flushed.
type batch struct {
	ledger  *ledger
	slab    []byte
	pair    *Pair
	way     *way
	tos     uint8
	packets [link.MaxSegments][]byte
	nexts   [link.MaxSegments]byte
	count   int
	segment int // sealed size of each but the last
	bytes   int
	short   bool // the last one is shorter, so nothing may follow
}

// add takes one packet, after sending what it cannot travel with.
func (b *batch) add(p *Pair, way *way, packet []byte, next, tos uint8) {
	size := esp.SealedLen(len(packet))
	if b.count > 0 && (p != b.pair || way != b.way || tos != b.tos || b.short || size > b.segment ||
		b.count == len(b.packets) || (b.count+1)*b.segment > link.MaxTrain) {
		b.flush()
	}
	if b.count == 0 {
		b.pair, b.way, b.tos, b.segment, b.short = p, way, tos, size, false
	}
	b.packets[b.count], b.nexts[b.count] = packet, next
	b.count++
	b.bytes += len(packet)
	b.short = size < b.segment
}

// flush seals and sends the batch.
func (b *batch) flush() {
	n := b.count
	if n == 0 {
		return
	}
	reason := b.send(n)
	if reason != Pass {
		b.ledger.fail(reason, n)
	} else {
		b.ledger.deliver(PortOuter, n)
		b.pair.out.add(n, b.bytes)
	}
	b.count, b.bytes, b.pair = 0, 0, nil
}

func (b *batch) send(n int) Reason {
	counter, err := b.pair.Out.Reserve(n, b.bytes)
	if err != nil {
		return DropExhausted
	}
	used := 0
	for i, packet := range b.packets[:n] {
		frame := b.slab[used:]
		copy(frame[esp.PayloadOffset:], packet)
		used += len(b.pair.Out.Seal(frame, len(packet), b.nexts[i], counter+uint64(i)))
	}
	along := b.way.path
	along.TOS = b.tos
	return transmit(b.way.socket, b.slab[:used], b.segment, along)
}

// onward is opened packets on the way to their session's egress, one train at
// a time. It is owned by its worker; the slab is made when first needed.
type onward struct {
	ledger  *ledger
	to      *Onward
	slab    []byte
	used    int
	count   int
	segment int
	short   bool
	tos     uint8
	now     int64
	lengths [link.MaxSegments]uint16 // of what is sealed in each
}

// add takes one packet, after sending what it cannot travel with.
func (o *onward) add(to *Onward, packet []byte, tos uint8, now int64) {
	size, at := MarkerLen+len(packet), 0
	if to.Sealed {
		size, at = sealedOn(len(packet)), esp.PayloadOffset
	}
	if o.count > 0 && (to != o.to || tos != o.tos || o.short || size > o.segment ||
		o.count == link.MaxSegments || o.used+size > link.MaxTrain) {
		o.flush()
	}
	if o.slab == nil {
		o.slab = make([]byte, link.MaxTrain+tun.MaxPacket+MarkerLen+esp.MaxOverhead)
	}
	if o.count == 0 {
		o.to, o.tos, o.segment, o.now = to, tos, size, now
	}
	room := o.slab[o.used+at:]
	handOnMarker(to.SPI).Encode(room)
	o.lengths[o.count] = uint16(MarkerLen + copy(room[MarkerLen:], packet))
	o.used += size
	o.count++
	o.short = size < o.segment
}

// flush sends the train.
func (o *onward) flush() {
	if o.count == 0 {
		return
	}
	if reason := o.send(); reason != Pass {
		o.ledger.fail(reason, o.count)
	} else {
		o.ledger.deliver(PortInside, o.count)
	}
	o.used, o.count, o.to = 0, 0, nil
}

func (o *onward) send() Reason {
	if o.to.Sealed {
		if reason := o.seal(); reason != Pass {
			return reason
		}
	}
	along := o.to.Path
	along.TOS = o.tos
	return transmit(o.to.Socket, o.slab[:o.used], o.segment, along)
}
