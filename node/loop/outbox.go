package loop

import "sync"

// outbox is what waits to be written. It takes memory for what waits, not for what may:
// an arbiter has one for each client.
type outbox[M any] struct {
	room  int
	ready chan struct{} // has a token while something waits

	mu    sync.Mutex // protects what follows
	queue []*M
}

// put appends a message; false when there is no room.
func (o *outbox[M]) put(m *M) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.queue) >= o.room {
		return false
	}
	o.queue = append(o.queue, m)
	select {
	case o.ready <- struct{}{}:
	default:
	}
	return true
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
