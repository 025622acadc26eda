package loop

import (
	"slices"
	"sync"
)

// outbox is what waits to be written. It takes memory for what waits, not for what may,
// and a goroutine only while something does: an arbiter has one for each client.
type outbox[M any] struct {
	room    int
	writing sync.WaitGroup // whoever writes; begun under mu, and while open alone

	mu    sync.Mutex // protects what follows
	queue []*M
	open  bool // what waits is to be written
	busy  bool // somebody writes
}

// put appends messages; false when there is no room. Whoever is told that it is due has
// to write what waits.
func (o *outbox[M]) put(all ...*M) (fits, due bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.queue)+len(all) > o.room {
		return false, false
	}
	o.queue = append(o.queue, all...)
	return true, o.claim()
}

// begin has what waits be written from now on.
func (o *outbox[M]) begin() (due bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.open = true
	return o.claim()
}

// claim makes the caller the one who writes, where one is needed; it holds mu.
func (o *outbox[M]) claim() bool {
	if !o.open || o.busy || len(o.queue) == 0 {
		return false
	}
	o.busy = true
	o.writing.Add(1)
	return true
}

// end has nothing be written any more, and waits for who still does.
func (o *outbox[M]) end() {
	o.mu.Lock()
	o.open = false
	o.mu.Unlock()
	o.writing.Wait()
}

// next removes all that waits, for who writes, up to together; nil ends its turn.
func (o *outbox[M]) next() []*M {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.open || len(o.queue) == 0 {
		o.busy = false
		o.writing.Done()
		return nil
	}
	all := o.queue
	if len(all) <= together {
		o.queue = nil
		return all
	}
	all = slices.Clone(all[:together])
	clear(o.queue[:together])
	o.queue = o.queue[together:]
	return all
}

// take removes the oldest message; nil when there is none.
func (o *outbox[M]) take() *M {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.queue) == 0 {
		return nil
	}
	m := o.queue[0]
	o.queue[0] = nil
	if o.queue = o.queue[1:]; len(o.queue) == 0 {
		o.queue = nil // what a burst needed is given back
	}
	return m
}

func (o *outbox[M]) len() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.queue)
}
