package agent

import (
	"container/heap"
	"time"
)

// A tick looks at the slices that are due and at no other: ten thousand at rest cost
// nothing. Due is a slice at the earliest time at which it is to end, to be rekeyed or
// to be left alone, at once when an event touched it, with every tick while only packet
// workers know what it waits for, and every LookEvery for what they count.

// dueSlices is slices by when they are due, the earliest first.
type dueSlices []*slice

// Len, Less, Swap, Push and Pop are container/heap's.
func (q dueSlices) Len() int           { return len(q) }
func (q dueSlices) Less(i, j int) bool { return q[i].due < q[j].due }
func (q dueSlices) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].place, q[j].place = i+1, j+1
}

// Push appends.
func (q *dueSlices) Push(s any) {
	*q = append(*q, s.(*slice))
	s.(*slice).place = len(*q)
}

// Pop takes the last.
func (q *dueSlices) Pop() any {
	last := len(*q) - 1
	s := (*q)[last]
	(*q)[last], s.place = nil, 0
	*q = (*q)[:last]
	return s
}

// schedule has a slice looked at from a time on.
func (t *sliceTable) schedule(s *slice, due time.Duration) {
	s.due = due
	if s.place == 0 {
		heap.Push(&t.due, s)
	} else {
		heap.Fix(&t.due, s.place-1)
	}
}

// unschedule has it looked at no more.
func (t *sliceTable) unschedule(s *slice) {
	if s.place != 0 {
		heap.Remove(&t.due, s.place-1)
	}
}

// takeDue is a slice that is due; nil when there is none.
func (t *sliceTable) takeDue(now time.Duration) *slice {
	if len(t.due) == 0 || t.due[0].due > now {
		return nil
	}
	return heap.Pop(&t.due).(*slice)
}

// touched notes that a slice changed: its rows are made anew, and it is looked at.
func (a *Agent) touched(s *slice) {
	a.changes.slice(s)
	if a.slices.holds(s) {
		a.slices.schedule(s, 0)
	}
}

// nextLook is when looking at a slice can find something again.
func (a *Agent) nextLook(s *slice, now time.Duration) time.Duration {
	if s.next != nil || s.pair != nil && !s.up {
		return now + 1 // the first packet is a worker's to see
	}
	at := now + LookEvery
	sooner := func(t time.Duration) {
		if t > now {
			at = min(at, t)
		}
	}
	if s.revoked() {
		sooner(s.dropAt)
	}
	if s.pair == nil {
		sooner(s.since + AcceptWithin + 1)
		return at
	}
	if s.older != nil {
		sooner(s.olderAt)
	}
	sooner(time.Duration(s.pair.Ends))
	sooner(time.Duration(s.pair.LastHeard()) + WaySilent + 1)
	sooner(s.since + a.rekeyDue(s.key) + 1)
	sooner(s.rekeyed + RekeyRetry)
	return at
}
