package esp

import (
	"encoding/binary"
	"fmt"
	"sync/atomic"
	"unique"
)

// Ledger is told of every interval of counters before the first of them seals
// a frame (I2). Production has none. It is called by many workers at once.
type Ledger interface {
	Reserved(keyHash [16]byte, first, count uint64)
}

// Outbound is the sending half of an SA. All its methods are safe for
// concurrent use.
type Outbound struct {
	spi    uint32
	limits unique.Handle[Limits] // of almost all keys the same
	tr     *transform            // by a pointer: who prints the half sees no key
	told   *told                 // nil: nobody

	_ [64]byte // keeps used off the cache line that Seal reads

	// used is the whole state: packets handed out in the high 32 bits, bytes
	// in units of byteUnit in the low 32. Nothing is ever added once it lies
	// past a limit, so it cannot wrap, however often Reserve is called again.
	used atomic.Uint64
}

// told is who is told of the counters of a key, and how the key is called there.
type told struct {
	ledger  Ledger
	keyHash [16]byte
}

const (
	packetShift = 32
	// stopped alone puts the packets past any limit.
	stopped = uint64(1) << 63
)

// NewOutbound makes the sending half for a fresh key. The same key must never
// be given to it twice (I2). The ledger may be nil.
func NewOutbound(spi uint32, k Key, l Limits, led Ledger) (*Outbound, error) {
	if err := checkSPI(spi); err != nil {
		return nil, err
	}
	if err := l.check(); err != nil {
		return nil, err
	}
	var made struct { // in one piece
		half Outbound
		tr   transform
	}
	if err := made.tr.begin(k); err != nil {
		return nil, err
	}
	o := &made.half
	o.spi, o.limits, o.tr = spi, unique.Make(l), &made.tr
	if led != nil {
		o.told = &told{led, k.secret().oracleHash()}
	}
	return o, nil
}

// SPI returns the SPI that stands in every frame.
func (o *Outbound) SPI() uint32 { return o.spi }

// Format prints the SPI alone, for every verb.
func (o *Outbound) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "esp.Outbound(%08x)", o.spi) }

// Reserve hands out packets consecutive counters, from first on, for bytes of
// payload in all. The first counter of a key is 1. From the call that would
// pass a hard limit on, every call returns ErrExhausted.
func (o *Outbound) Reserve(packets, bytes int) (first uint64, err error) {
	if packets < 1 || packets > MaxReservePackets || bytes < 0 || bytes > MaxReserveBytes {
		panic(fmt.Sprintf("esp: Reserve of %d packets and %d bytes", packets, bytes))
	}
	if o.exhausted(o.used.Load()) {
		return 0, ErrExhausted
	}
	count, units := uint64(packets), (uint64(bytes)+byteUnit-1)/byteUnit
	used := o.used.Add(count<<packetShift | units)
	if o.exhausted(used) {
		return 0, ErrExhausted
	}
	first = used>>packetShift - count + 1
	if o.told != nil {
		o.told.ledger.Reserved(o.told.keyHash, first, count)
	}
	return first, nil
}

func (o *Outbound) exhausted(used uint64) bool {
	l := o.limits.Value()
	return used>>packetShift > l.HardPackets || byteCount(used) > l.HardBytes
}

func byteCount(used uint64) uint64 { return uint64(uint32(used)) * byteUnit }

// Soft reports whether a soft limit is reached: time to rekey.
func (o *Outbound) Soft() bool {
	used, l := o.used.Load(), o.limits.Value()
	return used>>packetShift >= l.SoftPackets || byteCount(used) >= l.SoftBytes
}

// Stop is a hard stop now: every later Reserve fails. Counters handed out
// before may still be sealed with.
func (o *Outbound) Stop() { o.used.Or(stopped) }

// Seal makes a frame of the n bytes of payload that stand at
// frame[PayloadOffset:], in place, and returns frame[:SealedLen(n)]. The
// counter comes from Reserve and is used once. Everything in those
// SealedLen(n) bytes is overwritten, up to the capacity of frame if need be.
func (o *Outbound) Seal(frame []byte, n int, next byte, counter uint64) []byte {
	if n < 0 || cap(frame) < SealedLen(n) {
		panic(fmt.Sprintf("esp: no room to seal %d bytes in a frame of %d", n, cap(frame)))
	}
	if counter == 0 || counter > o.limits.Value().HardPackets {
		panic(fmt.Sprintf("esp: counter %d was never reserved", counter))
	}
	frame = frame[:SealedLen(n)]
	putHeader(frame, o.spi, uint32(counter), counter)
	putTrailer(frame[PayloadOffset:len(frame)-icvSize], n, next)
	o.tr.seal(frame)
	return frame
}

func putHeader(frame []byte, spi, sequence uint32, iv uint64) {
	binary.BigEndian.PutUint32(frame, spi)
	binary.BigEndian.PutUint32(frame[spiSize:], sequence)
	binary.BigEndian.PutUint64(frame[headerSize:], iv)
}
