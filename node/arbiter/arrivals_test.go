package arbiter

import (
	"testing"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
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
