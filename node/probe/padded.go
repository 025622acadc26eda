package probe

import "encoding/binary"

// Padded is a probe of a size, or the answer to one: it fills a packet of just
// that size with zeros, so that its datagram is as large as that of an inner
// packet. The smallest one measures nothing, it only tells.
type Padded struct {
	Size  int // of the whole message: LenPadded to MaxPadded
	Token uint32
	// MTU is the session's, in a probe; in an answer the largest packet that
	// the agent's inside network takes in one hand-on, 0 when there is no limit.
	MTU uint16
	// Limit is the largest inner packet that one datagram of this slice may
	// carry, in a probe; 0 in an answer.
	Limit uint16
}

// Sizes of padded probes.
const (
	// LenPadded is kind 1, zero 1, size 2, token 4, MTU 2, limit 2.
	LenPadded = 12
	MaxPadded = 9216
)

// Marshal writes the message of a kind: KindPadded or KindPaddedReply.
func (p Padded) Marshal(kind byte) []byte {
	b := make([]byte, p.Size)
	b[0] = kind
	binary.BigEndian.PutUint16(b[2:], uint16(p.Size))
	binary.BigEndian.PutUint32(b[4:], p.Token)
	binary.BigEndian.PutUint16(b[8:], p.MTU)
	binary.BigEndian.PutUint16(b[10:], p.Limit)
	return b
}

// ParsePadded reads a message of a kind; ok is false when it is none.
func ParsePadded(b []byte, kind byte) (p Padded, ok bool) {
	if len(b) < LenPadded || len(b) > MaxPadded || b[0] != kind || b[1] != 0 {
		return p, false
	}
	for _, zero := range b[LenPadded:] {
		if zero != 0 {
			return p, false
		}
	}
	return Padded{
		Size: len(b), Token: binary.BigEndian.Uint32(b[4:]),
		MTU: binary.BigEndian.Uint16(b[8:]), Limit: binary.BigEndian.Uint16(b[10:]),
	}, int(binary.BigEndian.Uint16(b[2:])) == len(b)
}
