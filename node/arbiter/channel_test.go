package arbiter

import (
	"crypto/rand"
	"io"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/node/channel"
	"github.com/meshcrypt/meshcrypt/node/loop"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// TestChannel: TLS is over in the arbiter's direction as soon as a login is proven, for a
// client that knows the channel and for no other, and for none whose login is refused.
func TestChannel(t *testing.T) {
	m := newLoginMesh(t, 0)
	m.start()
	m.stock(3)
	m.stay(true).Close()
	wrong, err := identity.NewKey(rand.Reader)
	m.ok(err)
	for name, c := range map[string]struct {
		by     identity.Key
		leaves bool
		first  string
	}{
		"one that knows it":     {m.password, true, "the end of TLS"},
		"an older one":          {m.password, false, "welcome"},
		"one who is not let in": {wrong, true, "refused"},
	} {
		secure := m.reach()
		conn := protocol.NewConn[protocol.Client](secure)
		m.introduce(secure, conn, c.by, c.leaves)
		if got := m.firstWord(conn); got != c.first {
			t.Errorf("%s first hears %s, want %s", name, got, c.first)
		}
		secure.NetConn().Close()
	}
}

// firstWord is what comes behind a login.
func (m *loginMesh) firstWord(conn *protocol.Conn[protocol.Client]) string {
	for {
		said, err := conn.Next()
		switch {
		case err == io.EOF:
			return "the end of TLS"
		case err != nil:
			return err.Error()
		case said == nil: // a beat
		case said.Refused != nil:
			return "refused"
		case said.Welcome != nil:
			return "welcome"
		}
	}
}

// resting are clients that say nothing but that they are there.
type resting struct {
	mu   sync.Mutex // protects all
	all  []*channel.Conn
	kept []int // descriptors

	gone, done chan struct{}
}

func newResting(t *testing.T) *resting {
	r := &resting{gone: make(chan struct{}), done: make(chan struct{})}
	t.Cleanup(r.end)
	go r.keep(t)
	return r
}

func (r *resting) add(c *channel.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, c)
}

func (r *resting) beat(t *testing.T) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.all {
		if err := protocol.NewConn[protocol.Client](c).Beat(); err != nil {
			t.Error(err)
		}
	}
}

// keep has them beat.
func (r *resting) keep(t *testing.T) {
	defer close(r.done)
	pause := time.NewTicker(loop.ClientEvery)
	defer pause.Stop()
	for {
		select {
		case <-pause.C:
			r.beat(t)
		case <-r.gone:
			return
		}
	}
}

// end closes the connections.
func (r *resting) end() {
	for _, fd := range r.kept {
		syscall.Close(fd)
	}
}

// leave keeps the connections open, in the kernel alone.
func (r *resting) leave(t *testing.T) {
	close(r.gone)
	<-r.done
	r.beat(t)
	for _, c := range r.all {
		raw, err := c.Conn.(syscall.Conn).SyscallConn()
		if err == nil {
			err = raw.Control(func(fd uintptr) {
				if kept, err := syscall.Dup(int(fd)); err == nil {
					r.kept = append(r.kept, kept)
				}
			})
		}
		if err != nil {
			t.Fatal(err)
		}
		c.Conn.Close()
	}
	r.all = nil
}

// TestBytesOfARestingClient: what an arbiter's heap has for each client that is there and
// says nothing: its session of three slices in the registry, the arbitrator, and its
// connection. The kernel has the client's end, which is taken for dead after
// loop.ClientSilence: a machine that is busier than that is asked again.
func TestBytesOfARestingClient(t *testing.T) {
	const clients, most = 200, 8_500
	for try := range 3 {
		each, here := bytesOfEach(t, clients)
		t.Logf("try %d: %d bytes for each of %d clients", try+1, each, here)
		if here == clients {
			if each > most {
				t.Errorf("%d bytes for each client, at most %d", each, most)
			}
			return
		}
	}
	t.Error("the clients do not stay")
}

// bytesOfEach logs clients in, and says what each adds and how many are there at the end.
func bytesOfEach(t *testing.T, clients int) (each, here int) {
	m := newLoginMesh(t, 0)
	m.store.others = nil // one replica, as each node has
	m.start()
	m.stock(1)
	m.stay(true).Close() // what the first one needs is needed once
	was := living()
	m.stock(clients)
	there := newResting(t)
	for range clients {
		there.add(m.stay(true))
	}
	there.leave(t)
	now := living()
	<-time.After(TickEvery) // something may have been under way
	now = min(now, living())
	m.until(func(a *Arbiter) bool { here = len(a.clients); return true })
	return (now - was) / clients, here
}

// living is what the heap has in use.
func living() int {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}
