package slicing

import (
	"slices"
	"time"
)

// Segment is one run of a TCP flow as it arrived.
type Segment[T any] struct {
	Flow   uint64 // hash of addresses and ports
	Seq    uint32 // of its first byte
	Length int    // of sequence space: payload, SYN and FIN
	Breaks bool   // SYN or RST: what came before has no meaning any more
	Item   T
}

// Resequencer puts the runs of TCP flows that were spread over slices of
// unequal delay back into the order in which they left. What arrives in order
// passes at once. What arrives early waits for what is missing, within limits
// of time and bytes; when waiting does not pay, because packets are lost and
// not late, the flow passes as it comes for a while. It never drops, never
// makes up, and never keeps anything beyond MaxHold.
//
// The zero value is not usable: see NewResequencer.
type Resequencer[T any] struct {
	deliver func(T)
	keep    func(T) T
	flows   [MaxFlows]reorder[T]
	bytes   int // held in all
	waiting int // flows that hold something
}

// reorder is one flow's place.
type reorder[T any] struct {
	flow   uint64
	known  bool
	next   uint32    // sequence number expected next
	held   []held[T] // by sequence number
	bytes  int
	score  int
	pause  time.Duration // of the next time that waiting does not pay
	passes time.Duration // until when the flow passes as it comes
}

type held[T any] struct {
	segment Segment[T]
	since   time.Duration
}

// NewResequencer makes one that hands every item on in its turn. An item that
// has to wait is replaced by what keep makes of it.
func NewResequencer[T any](deliver func(T), keep func(T) T) *Resequencer[T] {
	return &Resequencer[T]{deliver: deliver, keep: keep}
}

// Add takes one run; times must not go back.
func (r *Resequencer[T]) Add(now time.Duration, s Segment[T]) {
	f := &r.flows[s.Flow%MaxFlows]
	if f.flow != s.Flow || s.Breaks {
		r.release(f)
		if f.flow != s.Flow {
			*f = reorder[T]{flow: s.Flow, held: f.held[:0]}
		}
		f.known = false
	}
	switch ahead := int32(s.Seq - f.next); {
	case s.Length == 0: // an acknowledgement has no place in the order
		r.deliver(s.Item)
	case !f.known:
		f.known, f.next = true, s.Seq+uint32(s.Length)
		r.deliver(s.Item)
	case ahead <= 0 || now < f.passes:
		f.pass(&s)
		r.deliver(s.Item)
		r.drain(f)
	default:
		r.hold(f, now, s)
	}
}

// pass notes that a segment goes on now.
func (f *reorder[T]) pass(s *Segment[T]) {
	if end := s.Seq + uint32(s.Length); int32(end-f.next) > 0 {
		f.next = end
	}
}

// hold lets a segment wait for what is missing before it, if there is room.
func (r *Resequencer[T]) hold(f *reorder[T], now time.Duration, s Segment[T]) {
	at, _ := slices.BinarySearchFunc(f.held, s.Seq, func(h held[T], seq uint32) int {
		return int(int32(h.segment.Seq-f.next)) - int(int32(seq-f.next))
	})
	if len(f.held) == 0 {
		r.waiting++
	}
	s.Item = r.keep(s.Item)
	f.held = slices.Insert(f.held, at, held[T]{s, now})
	f.bytes += s.Length
	r.bytes += s.Length
	if len(f.held) > MaxHeld || f.bytes > MaxHeldBytes || r.bytes > MaxHeldInAll {
		r.release(f)
	}
}

// drain hands on what waited for the segment that has just passed.
func (r *Resequencer[T]) drain(f *reorder[T]) {
	n := 0
	for n < len(f.held) && int32(f.held[n].segment.Seq-f.next) <= 0 {
		f.pass(&f.held[n].segment)
		n++
	}
	if n > 0 {
		f.score, f.pause = min(f.score+won, mostWon), 0
		r.handOn(f, n)
	}
}

// release hands on all that waits, in order, whatever is missing.
func (r *Resequencer[T]) release(f *reorder[T]) {
	if len(f.held) == 0 {
		return
	}
	f.pass(&f.held[len(f.held)-1].segment)
	r.handOn(f, len(f.held))
}

func (r *Resequencer[T]) handOn(f *reorder[T], n int) {
	for i := range f.held[:n] {
		length := f.held[i].segment.Length
		f.bytes -= length
		r.bytes -= length
		r.deliver(f.held[i].segment.Item)
	}
	f.held = slices.Delete(f.held, 0, n)
	if len(f.held) == 0 {
		r.waiting--
	}
}

// Expire hands on what waited long enough, and gives up on flows for which
// that happens again and again.
func (r *Resequencer[T]) Expire(now time.Duration) {
	for i := range r.flows {
		f := &r.flows[i]
		if len(f.held) == 0 || now < f.oldest()+MaxHold {
			continue
		}
		r.release(f)
		if f.score -= lost; f.score <= broke {
			f.pause = min(max(2*f.pause, MinPause), MaxPause)
			f.score, f.passes = 0, now+f.pause
		}
	}
}

// Next is when Expire has something to do; false while nothing waits.
func (r *Resequencer[T]) Next() (at time.Duration, waiting bool) {
	if r.waiting == 0 {
		return 0, false
	}
	for i := range r.flows {
		if f := &r.flows[i]; len(f.held) > 0 {
			if due := f.oldest() + MaxHold; !waiting || due < at {
				at, waiting = due, true
			}
		}
	}
	return at, waiting
}

// oldest is since when the flow's longest waiting segment waits.
func (f *reorder[T]) oldest() time.Duration {
	since := f.held[0].since
	for i := range f.held {
		since = min(since, f.held[i].since)
	}
	return since
}

// Flush hands on everything.
func (r *Resequencer[T]) Flush() {
	for i := range r.flows {
		r.release(&r.flows[i])
	}
}
