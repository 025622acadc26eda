package dataplane

import (
	"github.com/meshcrypt/meshcrypt/crypto/esp"
	"github.com/meshcrypt/meshcrypt/mesh/link"
)

// Where policy says so, what one node hands on to another is sealed under an SA of
// the two. Its content is what would travel in clear, header and packet, and is
// admitted as strictly.

// nextHandOn says that a frame holds a hand-on header and a packet. It is a number
// for experiments (RFC 3692): both ends are of one mesh.
const nextHandOn = 253

// sealedOn is the length of the datagram that hands on a packet of n bytes, sealed.
func sealedOn(n int) int { return esp.SealedLen(MarkerLen + n) }

// sealed opens what came under the SA with another node, in place.
func (w *handOn) sealed(d []byte) Reason {
	spi, ok := esp.ParseSPI(d)
	if !ok {
		return DropShort
	}
	p := w.table.Links[spi]
	if p == nil {
		return DropUnknownSPI
	}
	if p.Over(w.now) {
		return DropExhausted
	}
	payload, next, _, err := p.In.Open(d)
	if err != nil {
		return p.attack.count(openReason(err))
	}
	p.lastHeard.Store(w.now)
	if next == esp.NextDummy {
		p.Control(payload)
		w.ledger.consume(PortControl, 1)
		return Pass
	}
	m, ok := ParseMarker(payload)
	if next != nextHandOn || !ok || m.Type != MarkerHandOn {
		return DropNextHeader
	}
	if agent := esp.Index(m.SPI); agent != w.table.Own && agent != p.Node {
		return DropSource // upwards an agent speaks of its own slices
	}
	return w.admit(m, payload[MarkerLen:])
}

// usable says why an SA with another node cannot seal now.
func (p *Pair) usable(now int64) Reason {
	switch {
	case p == nil:
		return DropNoPath
	case p.Over(now):
		return DropExhausted
	}
	return Pass
}

// sealOnRun is handOnRun under the SA with the slice's agent.
func (o *outbound) sealOnRun(s *RouteSlice, socket link.Socket, now int64) Reason {
	r := &o.run
	if reason := s.Link.usable(now); reason != Pass {
		return reason
	}
	along := *s.HandOn
	along.TOS = r.tos
	for r.left() > 0 {
		segment := sealedOn(r.length())
		n := r.fit(segment)
		if n == 0 {
			return DropTooBig
		}
		bytes := r.bytes(n) + n*MarkerLen
		counter, err := s.Link.Out.Reserve(n, bytes)
		if err != nil {
			return DropExhausted
		}
		o.ledger.decide(n)
		o.send(socket, o.sealOnInto(s, counter, n), segment, along, PortInside, n)
	}
	return Pass
}

// sealOnInto fills the slab with n packets behind hand-on headers, each sealed.
func (o *outbound) sealOnInto(s *RouteSlice, counter uint64, n int) []byte {
	r := &o.run
	marker := handOnMarker(s.SPI)
	used := 0
	for i := range n {
		frame := o.slab[used:]
		marker.Encode(frame[esp.PayloadOffset:])
		length := r.cut(frame[esp.PayloadOffset+MarkerLen:])
		used += len(s.Link.Out.Seal(frame, MarkerLen+length, nextHandOn, counter+uint64(i)))
	}
	return o.slab[:used]
}

// seal seals the packets of a train that add has put where they belong.
func (o *onward) seal() Reason {
	if reason := o.to.Link.usable(o.now); reason != Pass {
		return reason
	}
	bytes := 0
	for _, n := range o.lengths[:o.count] {
		bytes += int(n)
	}
	counter, err := o.to.Link.Out.Reserve(o.count, bytes)
	if err != nil {
		return DropExhausted
	}
	used := 0
	for i, n := range o.lengths[:o.count] {
		used += len(o.to.Link.Out.Seal(o.slab[used:], int(n), nextHandOn, counter+uint64(i)))
	}
	return Pass
}

// datagram is one packet by itself as it is handed on; nil where it must be sealed
// and cannot be.
func (to *Onward) datagram(packet []byte, now int64) []byte {
	plain := handOnMarker(to.SPI).Append(nil, packet)
	if !to.Sealed {
		return plain
	}
	if to.Link.usable(now) != Pass {
		return nil
	}
	counter, err := to.Link.Out.Reserve(1, len(plain))
	if err != nil {
		return nil
	}
	frame := make([]byte, esp.SealedLen(len(plain)))
	copy(frame[esp.PayloadOffset:], plain)
	return to.Link.Out.Seal(frame, len(plain), nextHandOn, counter)
}
