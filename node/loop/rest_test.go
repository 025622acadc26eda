package loop

import (
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// late is a connection to which something comes in the moment in which somebody finds that
// nothing has.
type late struct {
	net.Conn
	far    net.Conn
	come   bool
	called func()
}

func (l *late) Readable(f func()) bool {
	l.called = f
	return true
}

func (l *late) Ready() bool {
	if l.come {
		return true
	}
	l.come = true
	go l.far.Write([]byte("\x06enough"))
	l.called()
	return false
}

// TestNothingComesUnheard between the last look and the rest.
func TestNothingComesUnheard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		s := New(&late{Conn: near, far: far}, framed, Nodes(), room)
		heard := ""
		s.Follow(t.Context(), func(word *string) bool { heard = *word; return false }, func(error) {})
		if heard != "enough" {
			t.Errorf("heard %q", heard)
		}
		s.Close()
	})
}

// TestFollowWaits where the connection calls nobody, as Run does.
func TestFollowWaits(t *testing.T) {
	near, far := pair(t)
	word := "enough"
	far.Say(&word)
	go running(t.Context(), far)
	var ended error
	near.Follow(t.Context(), func(*string) bool { return false }, func(err error) { ended = err })
	if ended != ErrOver {
		t.Errorf("it returned, and has ended by %v", ended)
	}
}

// watched is a connection that calls while it is looked at, for nothing, and notes who looks
// at it beside another.
type watched struct {
	net.Conn
	looks, now atomic.Int32
	beside     atomic.Bool
	called     func()
}

func (w *watched) Readable(f func()) bool {
	w.called = f
	return true
}

func (w *watched) Ready() bool {
	if w.now.Add(1) > 1 {
		w.beside.Store(true)
	}
	defer w.now.Add(-1)
	if w.looks.Add(1) == 2 {
		w.called()
		<-time.After(1)
	}
	return false
}

// TestOneReaderAtATime: what a connection keeps of a message that has begun is its reader's
// own, and who is called looks at it no earlier than the last one has left it.
func TestOneReaderAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		w := &watched{Conn: near}
		s := New(w, framed, Nodes(), room)
		over := make(chan error, 1)
		s.Follow(t.Context(), func(*string) bool { return true }, func(err error) { over <- err })
		w.called()
		<-time.After(time.Second)
		if w.beside.Load() {
			t.Error("two looked at once")
		}
		far.Close()
		s.Close()
		synctest.Wait()
	})
}
