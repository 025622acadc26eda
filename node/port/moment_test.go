package port

import (
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// TestSlotInTheLastMoment: who is given a slot as its time runs out has it.
func TestSlotInTheLastMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newTestPort(t)
		near, far := net.Pipe()
		defer near.Close()
		defer far.Close()
		h, why := p.enter(near, stranger.Addr(), introduction{})
		if why != 0 {
			t.Fatal(why)
		}
		if why := p.queue(h, hello{}); why != 0 {
			t.Fatal(why)
		}
		h.turn, h.told = make(chan struct{}), false // it waits once more
		done := make(chan Reason)
		go func() { done <- p.queue(h, hello{}) }()
		synctest.Wait()
		p.mu.Lock()
		<-time.After(QueueTimeout) // its timer fires too, and it waits for the lock
		p.tell(h)
		p.mu.Unlock()
		if why := <-done; why != 0 {
			t.Errorf("refused: %v", why)
		}
		p.release(h)
	})
}
