package link

import (
	"errors"
	"runtime/metrics"
	"testing"
	"time"
)

// hurry makes a socket one to which much comes, or little.
func hurry(s *socket, much bool) {
	s.rest.pace = pace{woken: -time.Hour}
	if much {
		s.rest.pace = pace{woken: time.Hour, wakes: busyAfter}
	}
}

// inCalls is how many goroutines are in a system call: each may keep a processor.
func inCalls() uint64 {
	sample := []metrics.Sample{{Name: "/sched/goroutines/not-in-go:goroutines"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// TestRestInThePoller: a socket waits in Go's poller for what comes now and then, in a system
// call while much comes, when the poller is not told of it, and in the poller again after.
func TestRestInThePoller(t *testing.T) {
	a, b := open(t, "127.0.0.1:0"), open(t, "127.0.0.1:0")
	buffer := make([]byte, 100)
	waits := 0
	for round, much := range []bool{false, true, true, false, true, false, false} {
		hurry(b, much)
		if err := a.Send([]byte{byte(round)}, 0, to(b)); err != nil {
			t.Fatal(err)
		}
		if train, err := b.Receive(buffer); err != nil || train.Len != 1 || buffer[0] != byte(round) {
			t.Fatalf("round %d: %+v, %v", round, train, err)
		}
		if !much {
			waits++
		}
		if b.rest.waits != waits || b.rest.armed == much {
			t.Errorf("round %d, much %v: %d waits at rest, want %d; armed: %v", round, much, b.rest.waits, waits, b.rest.armed)
		}
	}
}

// TestRestEndsByClose: wherever a reader waits, Close wakes it; at rest that is in no system call.
func TestRestEndsByClose(t *testing.T) {
	for round := range 20 {
		s := open(t, "127.0.0.1:0")
		hurry(s, round%2 == 0)
		done := make(chan error, 1)
		go func() {
			_, err := s.Receive(make([]byte, 100))
			done <- err
		}()
		await(t, "a reader", func() bool {
			none := s.using.TryLock()
			if none {
				s.using.Unlock()
			}
			return !none
		})
		if round%2 != 0 {
			await(t, "nobody in a system call", func() bool { return inCalls() == 0 })
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if err := <-done; !errors.Is(err, ErrClosed) {
			t.Errorf("round %d: Receive returned %v, want ErrClosed", round, err)
		}
	}
}
