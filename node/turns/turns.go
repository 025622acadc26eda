// Package turns is a queue in which nobody waits behind somebody who says too
// much: messages wait by their sender, each sender has room for a few, and the
// senders are heard in turn. It owns what waits and counts what it refused. It
// starts nothing: a loop takes from it.
package turns

import "sync"

// Queue is messages M by sender S. All methods are safe for concurrent use.
type Queue[S comparable, M any] struct {
	ready chan struct{}
	each  int // messages that one sender may have waiting
	all   int // messages that wait

	mu      sync.Mutex // protects what follows
	waiting map[S][]M
	order   []S // who is heard next; each sender who waits once
	count   int
	refused uint64
}

// New makes a queue that holds at most all messages, and each of one sender. When
// it is half full a sender has room for one, so that very many senders who say too
// much leave room for those who do not.
func New[S comparable, M any](each, all int) *Queue[S, M] {
	return &Queue[S, M]{ready: make(chan struct{}, 1), each: each, all: all, waiting: make(map[S][]M)}
}

// Put lets a message wait. It reports whether there was room; it never blocks.
func (q *Queue[S, M]) Put(from S, m M) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	own, each := q.waiting[from], q.each
	if q.count >= q.all/2 {
		each = 1
	}
	if len(own) >= each || q.count >= q.all {
		q.refused++
		return false
	}
	if len(own) == 0 {
		q.order = append(q.order, from)
	}
	q.waiting[from] = append(own, m)
	q.count++
	q.wake()
	return true
}

// Full reports whether a sender has no room at present: then there is no need to
// copy a message for it.
func (q *Queue[S, M]) Full(from S) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting[from]) < q.each {
		return false
	}
	q.refused++
	return true
}

// Ready is readable while something waits.
func (q *Queue[S, M]) Ready() <-chan struct{} { return q.ready }

// Take takes one message of the sender whose turn it is; not ok: nothing waits.
func (q *Queue[S, M]) Take() (m M, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.order) == 0 {
		return m, false
	}
	from := q.order[0]
	q.order = q.order[1:]
	own := q.waiting[from]
	m = own[0]
	q.count--
	if len(own) > 1 {
		q.waiting[from] = own[1:]
		q.order = append(q.order, from)
	} else {
		delete(q.waiting, from)
	}
	if q.count > 0 {
		q.wake()
	}
	return m, true
}

// Refused is how many messages found no room.
func (q *Queue[S, M]) Refused() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.refused
}

// wake makes Ready readable; under mu.
func (q *Queue[S, M]) wake() {
	select {
	case q.ready <- struct{}{}:
	default:
	}
}
