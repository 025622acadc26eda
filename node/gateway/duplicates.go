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
//
// This gateway cannot check an ICV, so any byte that is not compared is one that a
// stranger may change, to have the genuine packet taken for the copy. To read every
// byte of every packet costs more than all else here, and most have no copy: so
// the first one is known by its two ends alone. One with the same ends is read whole,
// and carried once more; from then on all that are like that one are copies.
type duplicates struct {
	seed        maphash.Seed // keeps strangers from choosing what collides
	ends, whole [MaxDuplicates]atomic.Uint64
}

// sums is what a datagram is remembered by: by its ends, or whole once those are known.
// 0 is none, and an empty slot.
type sums struct{ ends, whole uint64 }

func newDuplicates() *duplicates { return &duplicates{seed: maphash.MakeSeed()} }

// copied reports whether the very same datagram went through, every byte of it.
func (d *duplicates) copied(b []byte) (s sums, known bool) {
	var ends [2 * endLen]byte
	copy(ends[:endLen], b)
	copy(ends[endLen:], b[len(b)-endLen:])
	s.ends = maphash.Bytes(d.seed, ends[:]) | 1
	if d.ends[s.ends>>32%MaxDuplicates].Load() != s.ends {
		return s, false
	}
	s.whole = maphash.Bytes(d.seed, b) | 1
	return s, d.whole[s.whole>>32%MaxDuplicates].Load() == s.whole
}

// carried remembers a datagram. Only one that left counts: whoever is refused here
// must not have the same packet refused to its owner.
func (d *duplicates) carried(s sums) {
	if s.whole == 0 {
		d.ends[s.ends>>32%MaxDuplicates].Store(s.ends)
		return
	}
	d.whole[s.whole>>32%MaxDuplicates].Store(s.whole)
}
