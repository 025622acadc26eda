// Package esp seals and opens the packets of one SA: ESP (RFC 4303) with
// AES-GCM (RFC 4106) or ChaCha20-Poly1305 (RFC 7634), tunnel mode, no extended
// sequence numbers.
//
// It owns the frame layout, the packet counter and its hard stop, the
// transform, and the order of steps that keeps replays out. It does not own
// where keys come from (crypto/mka), the UDP around a frame, the inner packet,
// or any clock: the limit in time is its caller's.
//
// A frame is
//
//	SPI 4 | sequence 4 | IV 8 | sealed(payload | 1, 2, 3.. | pad length 1 | next header 1) | ICV 16
//
// The IV is the packet counter, big endian; the sequence number is its low 32
// bits; the nonce is the SA's salt (4 bytes) and the IV; the SPI and sequence
// number are authenticated as they stand. The counter never passes 2^30, so
// neither ever wraps.
package esp

import "errors"

// The errors of Open, and what each says of the frame.
var (
	ErrShort     = errors.New("esp: frame too short")
	ErrSPI       = errors.New("esp: wrong SPI")
	ErrReplay    = errors.New("esp: counter seen before or too old")
	ErrAuth      = errors.New("esp: frame not authentic")
	ErrPadding   = errors.New("esp: malformed padding")
	ErrExhausted = errors.New("esp: key used up")
)

// The errors of the constructors.
var (
	ErrSuite  = errors.New("esp: suite not available")
	ErrLimits = errors.New("esp: limits out of range")
)

// NextHeader values that tunnel mode uses (RFC 4303 2.6).
const (
	NextIPv4  = 4
	NextIPv6  = 41
	NextDummy = 59
)

const (
	spiSize     = 4
	headerSize  = 8 // SPI and sequence number: what is authenticated in clear
	ivSize      = 8
	trailerSize = 2 // pad length and next header
	icvSize     = 16
	alignment   = 4

	// PayloadOffset is where the payload stands in a frame.
	PayloadOffset = headerSize + ivSize
	// MaxOverhead is the most that sealing adds to a payload.
	MaxOverhead = PayloadOffset + alignment - 1 + trailerSize + icvSize
	// MinFrame is the length of the shortest frame: an empty payload.
	MinFrame = PayloadOffset + alignment + icvSize
)

// SealedLen returns the length of the frame that carries n bytes of payload.
func SealedLen(n int) int {
	return PayloadOffset + (n+trailerSize+alignment-1)&^(alignment-1) + icvSize
}
