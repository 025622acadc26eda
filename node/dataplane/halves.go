package dataplane

import (
	"encoding/binary"

	"github.com/meshcrypt/meshcrypt/node/tun"
)

// A packet that one datagram does not carry, though the session's MTU promises
// it, goes in two halves: two ESP packets with consecutive sequence numbers and
// the payload of RFC 9347 (AGGFRAG, next header 144, no congestion control).
// The first has BlockOffset 0 and the packet's beginning, the second has the
// rest and in BlockOffset how long that is. Nothing else of that RFC is taken.

const (
	nextAggfrag = 144
	// partHeader is sub-type 1, zero 1, BlockOffset 2.
	partHeader = 4
)

// halve puts both halves of a packet into the batch, alone, so that their
// numbers follow each other.
func (v *oversize) halve(p *Pair, way *way, packet []byte, in *inner) {
	v.batch.flush()
	packet = packet[:in.total]
	at := (len(packet) + 1) / 2
	first, second := v.pieces[:partHeader+at], v.pieces[partHeader+at:2*partHeader+len(packet)]
	putPart(first, 0, packet[:at])
	putPart(second, len(packet)-at, packet[at:])
	v.ledger.take(PortPiece, 1)
	v.ledger.decide(2)
	v.batch.add(p, way, first, nextAggfrag, in.tos)
	v.batch.add(p, way, second, nextAggfrag, in.tos)
	v.batch.flush()
}

func putPart(dst []byte, offset int, data []byte) {
	dst[0], dst[1] = 0, 0
	binary.BigEndian.PutUint16(dst[2:], uint16(offset))
	copy(dst[partHeader:], data)
}

// half waits for the other one.
type half struct {
	pair   *Pair // nil: the place is free
	first  uint64
	second bool
	tos    uint8
	at     int64 // clock
	data   []byte
}

// halves puts packets together. It is owned by its worker: both datagrams of a
// peer meet the same one.
type halves struct {
	ledger *ledger
	held   [MaxHalves]half
	whole  []byte // valid until the next one
}

// join takes an opened half. It returns the whole packet once both are there,
// and the TOS of both; nil and Pass when it is kept until then.
func (h *halves) join(p *Pair, counter uint64, payload []byte, tos uint8, now int64) ([]byte, uint8, Reason) {
	if len(payload) <= partHeader || payload[0] != 0 || payload[1] != 0 {
		return nil, 0, DropPart
	}
	offset, data := int(binary.BigEndian.Uint16(payload[2:])), payload[partHeader:]
	mine := half{pair: p, first: counter, second: offset > 0, tos: tos, at: now, data: data}
	if mine.second {
		mine.first--
		if offset != len(data) {
			return nil, 0, DropPart
		}
	}
	other := h.find(p, mine.first)
	if other == nil {
		h.keep(mine)
		return nil, 0, Pass
	}
	if other.second == mine.second || len(other.data)+len(data) > tun.MaxPacket {
		return nil, 0, DropPart
	}
	front, back := mine.data, other.data
	if mine.second {
		front, back = back, front
	}
	h.whole = append(append(h.whole[:0], front...), back...)
	other.pair = nil
	return h.whole, worse(other.tos, tos), Pass
}

// worse keeps a mark of congestion that one half met.
func worse(a, b uint8) uint8 {
	if b&maskECN == ecnCE {
		return b
	}
	return a
}

func (h *halves) find(p *Pair, first uint64) *half {
	for i := range h.held {
		if h.held[i].pair == p && h.held[i].first == first {
			return &h.held[i]
		}
	}
	return nil
}

// keep stores a half in a free place, or in that of the oldest one: of its own
// pair if that has its share already.
func (h *halves) keep(mine half) {
	own, place := 0, -1
	var oldest, oldestOwn *half
	for i := range h.held {
		o := &h.held[i]
		if o.pair != nil && mine.at-o.at > int64(HalfLife) {
			h.lose(o)
		}
		if o.pair == nil {
			place = i
			continue
		}
		if oldest == nil || o.at < oldest.at {
			oldest = o
		}
		if o.pair == mine.pair {
			own++
			if oldestOwn == nil || o.at < oldestOwn.at {
				oldestOwn = o
			}
		}
	}
	to := oldest
	switch {
	case own >= MaxHalvesPerPair:
		to = oldestOwn
	case place >= 0:
		to = &h.held[place]
	}
	if to.pair != nil {
		h.lose(to)
	}
	mine.data = append(to.data[:0], mine.data...)
	*to = mine
	h.ledger.consume(PortPiece, 1)
}

// lose gives a half up.
func (h *halves) lose(o *half) {
	o.pair = nil
	h.ledger.take(PortPiece, 1)
	h.ledger.drop(DropIncomplete, 1)
}
