package loop

import (
	"net"
	"testing"
	"testing/synctest"
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
