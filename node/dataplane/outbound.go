package dataplane

import (
	"errors"
	"net/netip"
	"time"

	"github.com/meshcrypt/meshcrypt/crypto/esp"
	"github.com/meshcrypt/meshcrypt/mesh/link"
	"github.com/meshcrypt/meshcrypt/node/tun"
	"github.com/meshcrypt/meshcrypt/slicing"
)

// The functions of this file stand in the order in which a packet meets them:
// step reads the TUN, carry routes and admits, slice chooses, then sealRun or handOnRun cut
// the run into trains and send them.

// headroom is where packets start in a worker's buffer: the TUN's own header
// ends there, and an ESP or hand-on header fits before it, so that a packet
// which needs no cutting is sealed where it was read.
const headroom = esp.PayloadOffset

// outbound is the worker of one TUN queue. All its fields are its own.
type outbound struct {
	engine *Engine
	ledger *ledger
	number int // of the queue
	queue  tun.Queue
	buffer []byte // headroom and one super-packet, room for a trailer behind
	slab   []byte // one train
	run    run
	small  small
	large  oversize
	report violations
}

func newOutbound(e *Engine, l *ledger, number int, q tun.Queue) worker {
	return &outbound{
		engine: e, ledger: l, number: number, queue: q,
		buffer: make([]byte, headroom+tun.MaxPacket+esp.MaxOverhead),
		slab:   make([]byte, slabBytes),
		small:  small{engine: e, ledger: l},
		large:  oversize{ledger: l, batch: &batch{ledger: l}, queue: q},
		report: violations{tell: e.config.Violation},
	}
}

// step reads one super-packet and carries it. Small packets are held while
// others wait behind them that go with them, and no longer.
func (o *outbound) step() error {
	from := headroom - tun.HeaderLen
	read := tun.Queue.Read
	if o.small.count > 0 {
		read = tun.Queue.TryRead
	}
	n, err := read(o.queue, o.buffer[from:headroom+tun.MaxPacket])
	if err != nil || n <= tun.HeaderLen {
		o.small.flush()
		return err
	}
	held := o.small.count
	o.carry(tun.Decode(o.buffer[from:]), o.buffer[headroom:from+n])
	if held > 0 && o.small.count == held {
		o.small.flush() // or a busy queue of other packets would hold them for as long
	}
	return nil
}

// carry finds the run's way and sends it.
func (o *outbound) carry(h tun.VnetHeader, packet []byte) {
	r := &o.run
	if reason := r.load(h, packet); reason != Pass {
		o.ledger.take(PortTUN, 1)
		o.ledger.drop(reason, 1)
		return
	}
	o.ledger.take(PortTUN, r.left())
	now := o.engine.config.Clock()
	table := o.engine.table.Load()
	route := table.route(&r.inner)
	var reason Reason
	switch {
	case o.engine.stall.check(now):
		reason = DropStalled
	case route == nil:
		reason = DropNoRoute
	case table.loops(&r.inner):
		reason = DropLoop
	case table.Own != 0 && !answers(route.Rule, &r.inner, r.packet):
		reason = DropNotAllowed
	default:
		reason = o.slice(route, packet, now)
	}
	if reason != Pass {
		o.ledger.drop(reason, r.left())
	}
	if reason == DropNotAllowed {
		o.report.raise(reason, link.Path{Remote: netip.AddrPortFrom(r.src, r.sport)}, now)
	}
}

// slice chooses one of the route's slices and sends the run on it; in mode
// packet its packets go to all of them in turn.
func (o *outbound) slice(route *Route, packet []byte, now int64) Reason {
	if route.Set == nil {
		return DropNoSlice
	}
	r := &o.run
	mine := route.Spread.worker(o.number)
	spray := r.sprayable(route.SprayUDP)
	if spray && route.Set.Mode == slicing.Packet {
		return o.deal(route, mine, now)
	}
	i, ok := mine.picker.Pick(route.Set, slicing.Run{
		Bytes: r.total, Flow: r.flow(packet), Sprayable: spray, Now: time.Duration(now),
	})
	if !ok {
		return DropNoSlice
	}
	mine.carried.Add(uint64(r.total))
	return o.sendOn(route, i, now)
}

// deal sends packet i of the run on slice i mod N: one train for each slice.
func (o *outbound) deal(route *Route, mine *spreader, now int64) Reason {
	r := &o.run
	packets := r.left()
	hand := mine.picker.Deal(route.Set, packets)
	if len(hand) == 0 {
		return DropNoSlice
	}
	mine.carried.Add(uint64(r.total))
	for turn, i := range hand[:min(len(hand), packets)] {
		r.turn(turn, len(hand))
		if reason := o.sendOn(route, i, now); reason != Pass {
			o.ledger.drop(reason, r.left())
		}
	}
	return Pass
}

// sendOn seals what is left of the run, or hands it on.
func (o *outbound) sendOn(route *Route, i int, now int64) Reason {
	if i >= len(route.Slices) {
		return DropNoSlice
	}
	s := &route.Slices[i]
	if s.Pair == nil {
		return o.handOnRun(s, now)
	}
	return o.sealRun(s.Pair, now)
}

// sealRun seals what is left of the run under one SA and sends it. A reason
// counts for the packets not yet cut.
func (o *outbound) sealRun(p *Pair, now int64) Reason {
	r := &o.run
	if reason := p.admitOut(&r.inner, r.packet, r.left()); reason != Pass {
		return reason
	}
	way := p.way.Load()
	if way == nil || way.socket == nil {
		return DropNoPath
	}
	if p.Out == nil {
		return DropNoSlice
	}
	if p.Over(now) {
		return DropExhausted
	}
	p.lastSent.Store(now)
	mtu, limit := p.Sizes()
	if r.single {
		clampMSS(r.packet, &r.inner, min(mtu, limit))
	}
	if r.single && r.total <= smallMost {
		r.index++
		o.small.add(p, way, r.packet, r.next(), r.tos)
		return Pass
	}
	o.small.flush()
	if r.length() > limit {
		return o.sealLarge(p, way, mtu, now)
	}
	along := way.path
	along.TOS = r.tos
	for r.left() > 0 {
		if reason := o.sealTrain(p, way.socket, along); reason != Pass {
			return reason
		}
	}
	return Pass
}

// sealLarge sends what is left of a run whose packets are too large for one
// datagram, piece by piece, or refuses it by its first packet.
func (o *outbound) sealLarge(p *Pair, way *way, mtu int, now int64) Reason {
	r := &o.run
	for r.left() > 0 {
		packet, in := r.packet, r.inner
		if r.single {
			r.index++
		} else {
			in.total = r.cut(o.large.room())
			packet = o.large.packet[:in.total]
		}
		reason := o.large.send(p, way, packet, &in, now)
		if reason != Pass {
			o.ledger.drop(reason, 1)
		}
		if reason != Pass && in.total > mtu {
			return reason
		}
	}
	return Pass
}

// sealTrain cuts, seals and sends one train of equal datagrams.
func (o *outbound) sealTrain(p *Pair, socket link.Socket, path link.Path) Reason {
	r := &o.run
	length := r.length()
	segment := esp.SealedLen(length)
	n := r.fit(segment)
	if n == 0 {
		return DropTooBig
	}
	bytes := r.bytes(n)
	counter, err := p.Out.Reserve(n, bytes)
	if err != nil {
		return DropExhausted
	}
	o.ledger.decide(n)
	train := o.sealInto(p, counter, n)
	p.out.add(n, bytes)
	o.send(socket, train, segment, path, PortOuter, n)
	return Pass
}

// sealInto fills the slab with n sealed packets. A packet that goes as it is
// stays where it was read.
func (o *outbound) sealInto(p *Pair, counter uint64, n int) []byte {
	r := &o.run
	next := r.next()
	if r.single {
		r.index++
		return p.Out.Seal(o.buffer, r.total, next, counter)
	}
	used := 0
	for i := range n {
		frame := o.slab[used:]
		length := r.cut(frame[esp.PayloadOffset:])
		used += len(p.Out.Seal(frame, length, next, counter+uint64(i)))
	}
	return o.slab[:used]
}

// handOnRun sends what is left of the run to the agent of a slice over the inside
// network, in clear unless policy has it sealed.
func (o *outbound) handOnRun(s *RouteSlice, now int64) Reason {
	r := &o.run
	socket := o.engine.inside(o.number)
	if socket == nil || s.HandOn == nil {
		return DropNoPath
	}
	if s.Sealed {
		return o.sealOnRun(s, socket, now)
	}
	marker := handOnMarker(s.SPI)
	along := *s.HandOn
	along.TOS = r.tos
	for r.left() > 0 {
		segment := MarkerLen + r.length()
		n := r.fit(segment)
		if n == 0 {
			return DropTooBig
		}
		o.ledger.decide(n)
		o.send(socket, o.markInto(marker, n), segment, along, PortInside, n)
	}
	return Pass
}

// markInto fills the slab with n packets behind hand-on headers.
func (o *outbound) markInto(m Marker, n int) []byte {
	r := &o.run
	if r.single {
		r.index++
		frame := o.buffer[headroom-MarkerLen : headroom+r.total]
		m.Encode(frame)
		return frame
	}
	used := 0
	for range n {
		m.Encode(o.slab[used:])
		used += MarkerLen
		used += r.cut(o.slab[used:])
	}
	return o.slab[:used]
}

// send sends one train and counts its packets.
func (o *outbound) send(s link.Socket, b []byte, segment int, path link.Path, port Port, n int) {
	if reason := transmit(s, b, segment, path); reason != Pass {
		o.ledger.fail(reason, n)
		return
	}
	o.ledger.deliver(port, n)
}

// transmit sends one train. It tells one that was refused, for it would wait too
// long, from one that could not be sent.
func transmit(s link.Socket, b []byte, segment int, path link.Path) Reason {
	switch err := s.Send(b, segment, path); {
	case err == nil:
		return Pass
	case errors.Is(err, link.ErrQueue):
		return DropQueue
	case errors.Is(err, errUnproven):
		return DropUnproven
	}
	return DropSend
}

// inside gives worker n an inside socket.
func (e *Engine) inside(n int) link.Socket {
	if len(e.config.Inside) == 0 {
		return nil
	}
	return e.config.Inside[n%len(e.config.Inside)]
}
