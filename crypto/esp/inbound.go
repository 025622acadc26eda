package esp

import (
	"encoding/binary"
	"fmt"
	"sync"
	"unique"

	"github.com/meshcrypt/meshcrypt/crypto/replay"
)

// Inbound is the receiving half of an SA. All its methods are safe for
// concurrent use: the lock is held around the window, never around the AEAD.
type Inbound struct {
	spi    uint32
	limits unique.Handle[Limits] // of almost all keys the same
	tr     *transform

	mu     sync.Mutex
	window replay.Window // under mu; moved only by authenticated frames (I5)
	bytes  uint64        // under mu; payload bytes authenticated
}

// NewInbound makes the receiving half for a fresh key, with an empty window.
func NewInbound(spi uint32, k Key, l Limits) (*Inbound, error) {
	if err := checkSPI(spi); err != nil {
		return nil, err
	}
	if err := l.check(); err != nil {
		return nil, err
	}
	var made struct { // in one piece
		half Inbound
		tr   transform
	}
	if err := made.tr.begin(k); err != nil {
		return nil, err
	}
	i := &made.half
	i.spi, i.limits, i.tr = spi, unique.Make(l), &made.tr
	return i, nil
}

// SPI returns the SPI that every frame must carry.
func (i *Inbound) SPI() uint32 { return i.spi }

// Format prints the SPI alone, for every verb.
func (i *Inbound) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "esp.Inbound(%08x)", i.spi) }

// Soft reports whether the peer's use of the key reached a soft limit: time to
// rekey.
func (i *Inbound) Soft() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	l := i.limits.Value()
	return i.window.Top() >= l.SoftPackets || i.bytes >= l.SoftBytes
}

// Oldest is the lowest counter that a frame may still have. It never sinks.
func (i *Inbound) Oldest() uint64 {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.window.Oldest()
}

// Open opens a frame in place and returns its payload, a part of frame, and
// its next header. advanced says that the frame is the newest so far. The error
// is exactly one of ErrShort, ErrSPI, ErrReplay, ErrAuth, ErrPadding and
// ErrExhausted; the last two only for an authenticated frame, so nobody without
// the key can cause them. A frame is seen once it is authenticated, even if its
// padding is malformed. After an error the frame's content is undefined.
func (i *Inbound) Open(frame []byte) (payload []byte, next byte, advanced bool, err error) {
	counter, err := i.precheck(frame)
	if err != nil {
		return nil, 0, false, err
	}
	plain, err := i.tr.open(frame)
	if err != nil {
		return nil, 0, false, err
	}
	payload, next, paddingErr := cutTrailer(plain)
	advanced, err = i.accept(counter, len(payload))
	if err == nil {
		err = paddingErr
	}
	if err != nil {
		return nil, 0, false, err
	}
	return payload, next, advanced, nil
}

// precheck refuses what needs no AEAD to be refused. Sequence number and IV
// that disagree, or a counter past the hard limit, cannot come from the key's
// holder.
func (i *Inbound) precheck(frame []byte) (counter uint64, err error) {
	if len(frame) < MinFrame {
		return 0, ErrShort
	}
	if binary.BigEndian.Uint32(frame) != i.spi {
		return 0, ErrSPI
	}
	counter = binary.BigEndian.Uint64(frame[headerSize:])
	if binary.BigEndian.Uint32(frame[spiSize:]) != uint32(counter) || counter > i.limits.Value().HardPackets {
		return 0, ErrAuth
	}
	i.mu.Lock()
	ok := i.window.Check(counter)
	i.mu.Unlock()
	if !ok {
		return 0, ErrReplay
	}
	return counter, nil
}

// accept enters an authenticated frame. The window is asked again, because a
// copy of the frame may have been opened at the same time.
func (i *Inbound) accept(counter uint64, n int) (advanced bool, err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if !i.window.Check(counter) {
		return false, ErrReplay
	}
	advanced = i.window.Update(counter)
	i.bytes += uint64(n)
	if i.bytes > i.limits.Value().HardBytes {
		return false, ErrExhausted
	}
	return advanced, nil
}
