package turns_test

import (
	"testing"

	"github.com/meshcrypt/meshcrypt/node/turns"
)

type message struct{ from, n int }

// TestInTurn: each sender's messages in their order, one of each in turn.
func TestInTurn(t *testing.T) {
	q := turns.New[int, message](4, 100)
	for from := range 3 {
		for n := range from + 1 {
			q.Put(from, message{from, n})
		}
	}
	for _, want := range []message{{0, 0}, {1, 0}, {2, 0}, {1, 1}, {2, 1}, {2, 2}} {
		<-q.Ready()
		if got, ok := q.Take(); !ok || got != want {
			t.Errorf("took %v, %v, want %v", got, ok, want)
		}
	}
	if m, ok := q.Take(); ok {
		t.Errorf("took %v of nothing", m)
	}
	select {
	case <-q.Ready():
		t.Error("ready though nothing waits")
	default:
	}
}

// TestOneSenderHasItsRoom: who says too much loses his own messages alone, and they
// are counted (I10).
func TestOneSenderHasItsRoom(t *testing.T) {
	const each, all = 4, 16
	q := turns.New[int, message](each, all)
	for n := range 1000 {
		if ok := !q.Full(1) && q.Put(1, message{1, n}); ok != (n < each) {
			t.Errorf("message %d: room %v", n, ok)
		}
	}
	if q.Refused() != 1000-each {
		t.Errorf("%d refused", q.Refused())
	}
	if !q.Put(2, message{2, 0}) {
		t.Error("another sender found no room")
	}
	q.Take()
	if !q.Put(1, message{1, each}) {
		t.Error("no room after one was taken")
	}
}

// TestManySendersLeaveRoom: beyond the half there is room for one message of each,
// and the whole is bounded (I10).
func TestManySendersLeaveRoom(t *testing.T) {
	const each, all = 4, 16
	q := turns.New[int, message](each, all)
	held := 0
	for from := range 100 {
		for n := range each {
			if q.Put(from, message{from, n}) {
				held++
				if n > 0 && held > all/2 {
					t.Errorf("sender %d has message %d in the second half", from, n)
				}
			}
		}
	}
	if held != all {
		t.Errorf("%d messages wait, want %d", held, all)
	}
	for range all {
		q.Take()
	}
	if !q.Put(1, message{}) {
		t.Error("no room in an empty queue")
	}
}
