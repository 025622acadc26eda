package dataplane

import "github.com/meshcrypt/meshcrypt/crypto/esp"

// small is packets of a few bytes, TCP's ACKs above all, that waited in the TUN
// together and have one way: padded to the longest of them (RFC 4303 2.7) they
// leave as one train. The receiver goes by the inner packet's own length. It is
// owned by its worker.
type small struct {
	engine  *Engine
	ledger  *ledger
	pair    *Pair
	way     *way
	tos     uint8
	held    [MaxSmallTrain][smallMost]byte
	lengths [MaxSmallTrain]int
	nexts   [MaxSmallTrain]byte
	count   int
	longest int
	bytes   int
	slab    [MaxSmallTrain * smallFrame]byte
}

// add takes one packet, after sending what it cannot travel with.
func (s *small) add(p *Pair, way *way, packet []byte, next, tos uint8) {
	if s.count > 0 && (p != s.pair || way != s.way || tos != s.tos || s.count == MaxSmallTrain) {
		s.flush()
	}
	s.pair, s.way, s.tos = p, way, tos
	s.lengths[s.count], s.nexts[s.count] = copy(s.held[s.count][:], packet), next
	s.longest = max(s.longest, len(packet))
	s.bytes += len(packet)
	s.count++
	s.ledger.decide(1)
}

// flush seals and sends what there is.
func (s *small) flush() {
	n := s.count
	if n == 0 {
		return
	}
	if reason := s.send(n); reason != Pass {
		s.ledger.fail(reason, n)
	} else {
		s.ledger.deliver(PortOuter, n)
		s.pair.out.add(n, s.bytes)
	}
	s.count, s.longest, s.bytes, s.pair, s.way = 0, 0, 0, nil, nil
}

func (s *small) send(n int) Reason {
	now := s.engine.config.Clock()
	switch { // they were admitted a moment ago, or before this process stood still
	case s.engine.stall.check(now):
		return DropStalled
	case s.pair.Over(now):
		return DropExhausted
	}
	counter, err := s.pair.Out.Reserve(n, n*s.longest)
	if err != nil {
		return DropExhausted
	}
	segment := esp.SealedLen(s.longest)
	for i := range n {
		frame := s.slab[i*segment : (i+1)*segment]
		payload := frame[esp.PayloadOffset:][:s.longest]
		clear(payload[copy(payload, s.held[i][:s.lengths[i]]):])
		s.pair.Out.Seal(frame, s.longest, s.nexts[i], counter+uint64(i))
	}
	along := s.way.path
	along.TOS = s.tos
	return transmit(s.way.socket, s.slab[:n*segment], segment, along)
}
