// Package replay holds the sliding window that refuses a packet counter seen
// before (RFC 4303 3.4.3, in the block layout of RFC 6479).
//
// The package owns which counters were accepted. It does not authenticate
// anything, and it does not lock: the owner of a Window calls Update only for
// a packet that was authenticated (I5), from one goroutine at a time.
package replay

// Window remembers the accepted counters among the last Size. The zero value
// is ready and has accepted nothing. Counter 0 is never accepted: senders
// start at 1. A copy shares what it remembers.
type Window struct {
	top uint64 // the highest accepted counter
	// bits has room for the counters up to top until it has blocks words, and is a ring
	// from then on: a key that carries little takes little.
	bits []uint64
}

// Top returns the right edge: the highest accepted counter, 0 when none was.
func (w *Window) Top() uint64 { return w.top }

// Oldest returns the left edge: the lowest counter that may still be accepted.
func (w *Window) Oldest() uint64 { return w.top - min(w.top, Size) + 1 }

// Check reports whether seq would be accepted. It does not change w.
func (w *Window) Check(seq uint64) bool {
	if seq > w.top {
		return true
	}
	if seq == 0 || w.top-seq >= Size {
		return false
	}
	return w.bits[seq/blockBits%blocks]>>(seq%blockBits)&1 == 0
}

// Update accepts seq and reports whether the right edge moved. A seq that
// Check refuses leaves w as it is.
func (w *Window) Update(seq uint64) (advanced bool) {
	if !w.Check(seq) {
		return false
	}
	if seq > w.top {
		w.grow(seq / blockBits)
		w.clear(w.top/blockBits, seq/blockBits)
		w.top = seq
		advanced = true
	}
	w.bits[seq/blockBits%blocks] |= 1 << (seq % blockBits)
	return advanced
}

// grow makes room for a block that the right edge enters. It doubles, so a key that
// carries much soon has all blocks and makes nothing more.
func (w *Window) grow(block uint64) {
	if need := min(block+1, blocks); uint64(len(w.bits)) < need {
		bits := make([]uint64, min(max(need, 2*uint64(len(w.bits))), blocks))
		copy(bits, w.bits)
		w.bits = bits
	}
}

// clear empties the blocks that the right edge enters on its way to block
// next. A jump past the whole ring empties each block once.
func (w *Window) clear(current, next uint64) {
	for n := min(next-current, blocks); n > 0; n-- {
		current++
		w.bits[current%blocks] = 0
	}
}
