package gateway

import (
	"hash/maphash"
	"sync/atomic"
)

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

// copied reports whether the very same datagram went through, every byte of it:
// this gateway cannot check an ICV, so any byte that is not compared is one that
// a stranger may change, to have the genuine packet taken for the copy. The seed
// keeps strangers from choosing what collides.
func (d *duplicates) copied(b []byte) (sum uint64, known bool) {
	sum = maphash.Bytes(d.seed, b) | 1 // 0 is an empty slot
	return sum, d.slots[sum>>32%MaxDuplicates].Load() == sum
}

// carried remembers a datagram by its sum. Only one that left counts: whoever
// is refused here must not have the same packet refused to its owner.
func (d *duplicates) carried(sum uint64) { d.slots[sum>>32%MaxDuplicates].Store(sum) }
