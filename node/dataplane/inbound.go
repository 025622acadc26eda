package dataplane

import (
	"encoding/binary"
	"errors"

	"github.com/meshcrypt/meshcrypt/crypto/esp"
	"github.com/meshcrypt/meshcrypt/mesh/link"
	"github.com/meshcrypt/meshcrypt/node/pages"
	"github.com/meshcrypt/meshcrypt/node/tun"
)

// The functions of this file stand in the order in which a datagram meets
// them: step receives a train, datagram sorts, open opens, admit judges, then
// the packet goes to the TUN by the coalescer or to the session's egress.

// inbound is the worker of one outer socket. All its fields are its own.
type inbound struct {
	engine *Engine
	ledger *ledger
	socket link.Socket
	buffer []byte
	inner  inner
	merge  coalescer
	onward onward
	halves halves
	report violations

	// Of the present train.
	table *Table
	path  link.Path
	now   int64
	tos   uint8
	spi   uint32
	pair  *Pair // of spi
	// Packets and bytes of pair not yet in its counters.
	packets, bytes int
}

func newInbound(e *Engine, l *ledger, s link.Socket, q tun.Queue) worker {
	return &inbound{
		engine: e, ledger: l, socket: s, buffer: make([]byte, link.MaxTrain+1024),
		merge:  newCoalescer(l, q, e.config.USO),
		onward: onward{ledger: l},
		halves: halves{ledger: l},
		report: violations{tell: e.config.Violation},
	}
}

// step receives one train and handles each datagram of it.
func (w *inbound) step() error {
	t, err := w.socket.Receive(w.buffer)
	if err != nil {
		return err
	}
	w.table, w.path, w.now = w.engine.table.Load(), t.Path, w.engine.config.Clock()
	w.tos = t.TOS
	b := w.buffer[:t.Len]
	w.ledger.take(PortOuter, t.Count())
	switch {
	case w.engine.stall.check(w.now):
		w.ledger.drop(DropStalled, t.Count())
	case w.foreign(b):
		w.forward(b, t)
	default:
		w.train(b, t.Segment)
	}
	return nil
}

// foreign reports whether a train is for another node. A client's port
// carries SPIs of one node only, so the first datagram speaks for all.
func (w *inbound) foreign(b []byte) bool {
	if w.table == nil || w.table.Own == 0 || len(b) < 4 {
		return false
	}
	spi := binary.BigEndian.Uint32(b)
	if spi == 0 {
		m, ok := ParseMarker(b)
		if !ok || m.Type != MarkerAccept {
			return false
		}
		spi = m.SPI
	}
	return esp.Index(spi) != w.table.Own
}

func (w *inbound) forward(b []byte, t link.Train) {
	n := t.Count()
	if w.engine.config.Forwarder == nil {
		w.ledger.drop(DropForeign, n)
		return
	}
	w.engine.config.Forwarder.Forward(b, t, w.socket)
	w.ledger.consume(PortForward, n)
}

// train handles the datagrams of one train that is for this node.
func (w *inbound) train(b []byte, segment int) {
	w.pair, w.spi = nil, 0
	for len(b) > 0 {
		n := min(segment, len(b))
		if reason := w.datagram(b[:n:n]); reason != Pass {
			w.ledger.drop(reason, 1)
			w.report.raise(reason, w.path, w.now)
		}
		b = b[n:]
	}
	w.settle()
	w.merge.flush()
	w.onward.flush()
}

// datagram sorts: marked datagrams to the owner, ESP to be opened.
func (w *inbound) datagram(d []byte) Reason {
	if len(d) == 1 && d[0] == KeepAlive {
		w.ledger.consume(PortControl, 1)
		return Pass
	}
	if len(d) < 4 {
		return DropShort
	}
	if w.table == nil {
		return DropUnknownSPI
	}
	spi := binary.BigEndian.Uint32(d)
	if spi == 0 {
		return w.marked(d)
	}
	if spi != w.spi || w.pair == nil {
		w.settle()
		w.spi, w.pair = spi, w.table.In.Get(pages.Number(spi))
	}
	if w.pair == nil {
		return w.unknown(spi)
	}
	return w.open(d)
}

// unknown tells a packet for another node from one for nobody.
func (w *inbound) unknown(spi uint32) Reason {
	if w.table.Own != 0 && esp.Index(spi) != w.table.Own {
		return DropForeign
	}
	return DropUnknownSPI
}

// marked hands a control datagram to the owner: at a node accepts of its own
// SPIs, at a client confirms. Nodes speak with each other on the inside.
func (w *inbound) marked(d []byte) Reason {
	m, ok := ParseMarker(d)
	if !ok {
		return DropMalformed
	}
	client := w.table.Own == 0
	switch m.Type {
	case MarkerAccept:
		ok = !client && esp.Index(m.SPI) == w.table.Own
	case MarkerConfirm:
		ok = client
	default:
		ok = false
	}
	if !ok || w.engine.config.Marked == nil {
		return DropType
	}
	w.engine.config.Marked(w.socket, w.path, m, d)
	w.ledger.consume(PortControl, 1)
	return Pass
}

// open opens one ESP packet. Whatever opens is a sign of life, and the packet
// that moves the window's right edge names the peer's path.
func (w *inbound) open(d []byte) Reason {
	p := w.pair
	if p.In == nil {
		return DropEarly
	}
	if p.Over(w.now) {
		return DropExhausted
	}
	payload, next, advanced, err := p.In.Open(d)
	if err != nil {
		return w.engine.attacked(p, openReason(err))
	}
	p.lastHeard.Store(w.now)
	if advanced {
		w.follow(p, len(d))
	}
	if next == esp.NextDummy {
		if !w.roaming(p, payload, len(d), advanced) && p.Control != nil {
			p.Control(payload)
		}
		w.ledger.consume(PortControl, 1)
		return Pass
	}
	if next == nextAggfrag {
		return w.half(binary.BigEndian.Uint64(d[esp.PayloadOffset-8:]), payload)
	}
	return w.admit(payload, next, w.tos)
}

// half puts a packet that came in two datagrams together.
func (w *inbound) half(counter uint64, payload []byte) Reason {
	packet, tos, reason := w.halves.join(w.pair, counter, payload, w.tos, w.now)
	if packet == nil {
		return reason
	}
	next := byte(esp.NextIPv4)
	if packet[0]>>4 == 6 {
		next = esp.NextIPv6
	}
	if reason = w.admit(packet, next, tos); reason == Pass {
		w.merge.flush()
		w.onward.flush()
	}
	return reason
}

// admit judges the opened packet and sends it on its way.
func (w *inbound) admit(payload []byte, next byte, tos uint8) Reason {
	in := &w.inner
	if reason := in.parse(payload); reason != Pass {
		return reason
	}
	if in.next() != next {
		return DropNextHeader
	}
	if reason := w.pair.admitIn(in); reason != Pass {
		return reason
	}
	if w.table.loops(in) {
		return DropLoop
	}
	if tos&1 != 0 {
		if reason := in.congest(payload, tos); reason != Pass {
			return reason
		}
	}
	w.ledger.decide(1)
	w.packets++
	w.bytes += in.total
	if to := w.pair.Onward(in.v6); to != nil && in.dst != w.table.Here {
		w.merge.flush()
		w.onward.add(to, payload[:in.total], in.tos, w.now)
		return Pass
	}
	w.onward.flush()
	w.merge.add(payload[:in.total], in)
	return Pass
}

// settle books what the present pair carried.
func (w *inbound) settle() {
	if w.packets > 0 {
		w.pair.in.add(w.packets, w.bytes)
		w.packets, w.bytes = 0, 0
	}
}

func openReason(err error) Reason {
	switch {
	case errors.Is(err, esp.ErrReplay):
		return DropReplay
	case errors.Is(err, esp.ErrAuth):
		return DropAuth
	case errors.Is(err, esp.ErrShort):
		return DropShort
	case errors.Is(err, esp.ErrPadding):
		return DropPadding
	case errors.Is(err, esp.ErrExhausted):
		return DropExhausted
	case errors.Is(err, esp.ErrSPI):
		return DropUnknownSPI
	}
	return DropMalformed
}
