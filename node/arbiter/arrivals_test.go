package arbiter

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/crypto/pki"
	"github.com/meshcrypt/meshcrypt/node/auth"
	"github.com/meshcrypt/meshcrypt/node/port"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// TestArrivalIsInWithItsFirstSlice: until then it is at work, and the port lets nobody in
// in its place.
func TestArrivalIsInWithItsFirstSlice(t *testing.T) {
	l := &lot{crasher: newCrasher(t)}
	if no := l.start(); no != nil {
		t.Fatalf("%+v", no)
	}
	l.a.arrivals.proved()
	l.a.arrivals.note(l.c, l.a.config.Now()+EnterWithin)
	l.a.pushViews()
	if l.a.arrivals.count() != 1 {
		t.Error("it is in, and has no slice")
	}
	for l.peer.Waiting() > 0 {
		if m := l.peer.Take(); m.Grant != nil {
			l.accept()
		}
	}
	for range KeysWithin / TickEvery / 4 { // long before it is given up
		l.now.Add(int64(TickEvery))
		l.a.tick()
		l.decide(l.a)
		l.a.pushViews()
	}
	if l.a.arrivals.count() != 0 {
		t.Error("it is at work, and has its slices")
	}
}

// TestNobodyIsAtWorkForEver: who hung up, is refused, goes, or takes too long makes room.
func TestNobodyIsAtWorkForEver(t *testing.T) {
	f := newFixture(t)
	a := f.still()
	n := f.member(a, "n2", dataRoles)
	s := f.session(a, 1, n.node)
	proposed(a)
	comes := func(number byte, before func(*clientStream)) *clientStream {
		t.Helper()
		c := &clientStream{introduction: &introduction{}, request: registry.RequestID{number}, key: identity.PublicKey{number}, Stream: toClient(t, MaxOutbox)}
		before(c)
		a.arrivals.proved()
		clientOpened{c, &protocol.Auth{Method: protocol.MethodResume, Session: s.ID}}.apply(a)
		return c
	}
	at := func(want int, what string) {
		t.Helper()
		if got := a.arrivals.count(); got != want || len(a.arrivals.until) != want {
			t.Errorf("%s: %d are at work, want %d", what, got, want)
		}
	}
	comes(1, func(c *clientStream) { c.Close() })
	at(0, "hung up")
	c := comes(2, func(*clientStream) {})
	at(1, "resumes")
	comes(3, func(c *clientStream) { c.request = registry.RequestID{2} })
	at(1, "dismissed beside it")
	clientClosed{c}.apply(a)
	at(0, "goes")
	c = comes(4, func(*clientStream) {})
	now := a.config.Now()
	a.arrivals.expire(now + EnterWithin - 1)
	at(1, "takes its time")
	a.arrivals.welcomed(c, now)
	a.arrivals.expire(now + KeysWithin)
	at(0, "takes too long for its keys")
	a.arrivals.welcomed(c, now)
	at(0, "welcomed late")
}

// TestOneAccountLeavesPlaces: however many of one account are welcomed and agree no keys,
// others get in, and an account has its share again as soon as its own are in, or gone.
func TestOneAccountLeavesPlaces(t *testing.T) { // I10
	var w arrivals
	var number byte
	welcomed := func(user string) *clientStream {
		number++
		c := &clientStream{introduction: &introduction{}, request: registry.RequestID{number}, who: auth.Principal{User: user}}
		w.proved()
		w.note(c, EnterWithin)
		w.welcomed(c, 0)
		w.welcomed(c, 0) // says no more
		return c
	}
	at := func(want int, what string) {
		t.Helper()
		if got := w.count(); got != want || len(w.until) != want {
			t.Errorf("%s: %d of %d places are held, want %d", what, got, arrivalPlaces(), want)
		}
	}
	first := welcomed("ann")
	for range 2 * arrivalPlaces() {
		welcomed("ann")
	}
	share := arrivalPlaces() / 8
	at(share, "one account")
	other := welcomed("bob")
	at(share+1, "another beside it")
	for _, c := range []*clientStream{first, other, other} {
		w.in(c)
	}
	at(share-1, "one of each is in")
	for range 2 {
		welcomed("ann")
	}
	at(share, "the first once more")
	w.expire(KeysWithin)
	at(0, "after their time")
	if len(w.owing) > 0 {
		t.Errorf("%v is remembered of nobody", w.owing)
	}
	welcomed("ann")
	at(1, "later")
}

// within is a listener inside a bubble.
type within chan net.Conn

func (l within) Addr() net.Addr { return &net.TCPAddr{} }
func (l within) Close() error   { close(l); return nil }
func (l within) Accept() (net.Conn, error) {
	if c, ok := <-l; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}

// TestSoManyAreLetIn at once: 16 for each CPU, which is what ended the collapse of crowds on
// measured machines (node/DESIGN.md). One more is told to come again.
func TestSoManyAreLetIn(t *testing.T) { // I10
	f := newFixture(t)
	_ = f.port.Close() // a real one stands still time
	synctest.Test(t, func(t *testing.T) {
		door := make(within)
		f.port = port.On(door, nil, slog.New(slog.DiscardHandler))
		a := f.still()
		ctx, cancel := context.WithCancel(t.Context())
		withdraw := a.openDoors(ctx)
		enters := func() (told bool, err error) {
			near, far := net.Pipe()
			defer near.Close()
			door <- far
			config := pki.Client(port.ALPNClient, nil, func([][]byte) error { return nil })
			config.ServerName = port.WaitName
			conn := &port.Waiter{Conn: near}
			err = tls.Client(conn, config).Handshake()
			wait := (*port.Wait)(nil)
			return errors.As(conn.Told(), &wait), err
		}
		a.arrivals.working.Store(int64(16*runtime.NumCPU() - 1))
		if told, err := enters(); told || err != nil {
			t.Errorf("the last is told to wait: %v, %v", told, err)
		}
		<-time.After(HelloWithin) // no stranger's handshake counts any more
		a.arrivals.proved()
		if told, err := enters(); !told {
			t.Errorf("one too many is let in: %v", err)
		}
		cancel()
		withdraw()
		_ = f.port.Close()
	})
}
