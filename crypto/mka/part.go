package mka

import (
	"encoding/binary"
	"fmt"
)

// A rekey message goes through the SA in parts: number 4, index 1, count 1,
// total length 2, then partPayload bytes, fewer only in the last part.
const (
	partHeader  = 4 + 1 + 1 + 2
	partPayload = MaxPart - partHeader
)

// part is one parsed part; payload points into what was parsed.
type part struct {
	number       uint32
	index, count uint8
	total        uint16
	payload      []byte
}

func partCount(total int) int { return (total + partPayload - 1) / partPayload }

// splitParts cuts a message of at most MaxRekey bytes; more is a programmer's error.
func splitParts(number uint32, message []byte) [][]byte {
	if len(message) == 0 || len(message) > MaxRekey {
		panic(fmt.Sprintf("mka: internal error: rekey message of %d bytes", len(message)))
	}
	count := partCount(len(message))
	parts := make([][]byte, 0, count)
	for i := range count {
		chunk := message[i*partPayload : min((i+1)*partPayload, len(message))]
		p := part{number, uint8(i), uint8(count), uint16(len(message)), chunk}
		parts = append(parts, p.marshal())
	}
	return parts
}

func (p part) marshal() []byte {
	b := binary.BigEndian.AppendUint32(make([]byte, 0, partHeader+len(p.payload)), p.number)
	b = append(b, p.index, p.count)
	b = binary.BigEndian.AppendUint16(b, p.total)
	return append(b, p.payload...)
}

func parsePart(b []byte) (part, error) {
	d := decoder{rest: b}
	p := part{number: d.u32(), index: d.u8(), count: d.u8(), total: d.u16()}
	p.payload = d.rest
	total, at := int(p.total), int(p.index)*partPayload
	switch {
	case d.bad || p.number == 0 || total == 0 || total > MaxRekey || int(p.count) != partCount(total):
		return part{}, fmt.Errorf("%w: part header", ErrMalformed)
	case p.index >= p.count || len(p.payload) != min(partPayload, total-at):
		return part{}, fmt.Errorf("%w: part length", ErrMalformed)
	}
	return p, nil
}

// assembly collects the parts of one message at a time; the zero value waits.
type assembly struct {
	number uint32
	total  uint16
	have   uint8 // bit per part
	buf    []byte
}

// add takes a part and returns the message when it is whole, forgetting it. A
// part of another number starts over; which numbers may come is the caller's
// to decide. A part that contradicts the earlier ones is ErrMismatch.
func (a *assembly) add(p part) (message []byte, err error) {
	if a.have == 0 || a.number != p.number {
		*a = assembly{number: p.number, total: p.total, buf: make([]byte, p.total)}
	}
	if a.total != p.total {
		*a = assembly{}
		return nil, fmt.Errorf("%w: parts of different lengths", ErrMismatch)
	}
	copy(a.buf[int(p.index)*partPayload:], p.payload)
	a.have |= 1 << p.index
	if a.have != 1<<p.count-1 {
		return nil, nil
	}
	message = a.buf
	*a = assembly{}
	return message, nil
}
