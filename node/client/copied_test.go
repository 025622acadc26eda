package client

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/node/dataplane"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// TestClonedMachine: no key of before seals once the kernel has spoken, the session is
// asked for again, and packets flow by new keys.
func TestClonedMachine(t *testing.T) {
	f := newFixture(t)
	f.connect()
	network := f.inNetwork()
	network.copied = make(chan func(), 1)
	ctx, cancel := context.WithCancel(t.Context())
	watched := make(chan struct{})
	go func() { f.watchGeneration(ctx); close(watched) }()
	defer func() { cancel(); <-watched }()
	f.welcome(protocol.Welcome{Headless: 900})
	s := f.slice(0, 1)
	f.tick()
	near, far := net.Pipe()
	defer far.Close()
	if !f.life.enter(near, f.life.present()) {
		t.Fatal("a connection of this life is refused")
	}
	(<-network.copied)()
	if _, err := far.Write([]byte{0}); err == nil {
		t.Error("a connection of before is open when the kernel has spoken")
	}
	f.ok(f.far[s.key].SendControl([]byte{0}))
	stopped := func() bool { return f.config.Engine.Stats().Dropped[dataplane.DropStalled] == 1 }
	for hang := time.After(hangLimit); !stopped(); { // the loop does not run
		select {
		case <-hang:
			t.Fatal("the packet engine does not stop by itself")
		case <-time.After(time.Millisecond):
		}
	}
	f.pump()
	if len(f.slices) != 0 || f.control != nil || f.routed() != "null" {
		t.Fatalf("%d slices, control %v, route %s", len(f.slices), f.control, f.routed())
	}
	if err := s.pair.SendControl(nil); err == nil {
		t.Error("a key that another machine has seals")
	}
	select {
	case <-f.redial:
	case <-time.After(hangLimit):
		t.Fatal("nobody asks for the session")
	}
	f.connect()
	f.welcome(protocol.Welcome{Headless: 900})
	fresh := f.slice(0, 2)
	f.speak(fresh)
	if f.advance(TickEvery, fresh); f.routed() != `["0.2"]` {
		t.Errorf("route %s after the resumption", f.routed())
	}
}

// polite is a connection that says goodbye, as TLS does.
type polite struct{ net.Conn }

func (p polite) NetConn() net.Conn { return p.Conn }

func (p polite) Close() error {
	_, _ = p.Write([]byte("goodbye"))
	return p.Conn.Close()
}

// TestLifeEndsWithoutARecord: TLS counts its records under keys that a copy has too,
// so its connections end below it.
func TestLifeEndsWithoutARecord(t *testing.T) {
	var l life
	near, far := net.Pipe()
	written := make(chan int, 1)
	go func() {
		n, _ := far.Read(make([]byte, 100)) // what came before the end
		written <- n
	}()
	secure := polite{near}
	begun := l.present()
	if !l.enter(secure, begun) {
		t.Fatal("refused")
	}
	l.end()
	secure.Close()
	if n := <-written; n != 0 {
		t.Errorf("%d bytes were sent at the end", n)
	}
	late, other := net.Pipe()
	defer other.Close()
	if l.enter(late, begun) {
		t.Error("what was begun before goes on")
	}
	if _, err := other.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("it is not closed: %v", err)
	}
	l.leave(secure)
}
