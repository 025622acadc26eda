package gateway

import (
	"hash/maphash"
	"sync/atomic"

	"github.com/meshcrypt/meshcrypt/crypto/esp"
)

// icvSize ends every ESP datagram, whatever its suite.
const icvSize = 16

// duplicates recognises exact copies of single ESP datagrams that went through
// a short while ago. Whoever recorded a client's packets can send them again as
// fast as he likes; the agent's window stops each, but only after this gateway
// has carried it there. It is a hint without authority: what it forgets, or
// never saw, is forwarded and judged by the agent.
type duplicates struct {
	seed  maphash.Seed
	slots [MaxDuplicates]atomic.Uint64
}

func newDuplicates() *duplicates { return &duplicates{seed: maphash.MakeSeed()} }

// known reports whether the same datagram went through, and remembers it. The
// head names the packet, and nobody makes another with the same ICV; the seed
// keeps strangers from choosing what collides.
func (d *duplicates) known(b []byte) bool {
	var key [esp.PayloadOffset + icvSize]byte
	copy(key[:], b[:esp.PayloadOffset])
	copy(key[esp.PayloadOffset:], b[len(b)-icvSize:])
	sum := maphash.Bytes(d.seed, key[:]) | 1 // 0 is an empty slot
	slot := &d.slots[sum>>32%MaxDuplicates]
	if slot.Load() == sum {
		return true
	}
	slot.Store(sum)
	return false
}
