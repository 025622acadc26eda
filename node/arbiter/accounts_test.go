package arbiter

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/node/auth"
	"github.com/meshcrypt/meshcrypt/node/loop"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// sessionOf is a session of an account at the arbiter, without a connection.
func sessionOf(a *Arbiter, user string, n int) *clientStream {
	id := [16]byte{byte(n >> 8), byte(n), 1}
	c := &clientStream{request: registry.RequestID(id), session: registry.SessionID(id), who: auth.Principal{User: user},
		Stream: loop.New(nil, protocol.NewAsked[protocol.Client], loop.Clients(), 1)}
	a.clients[c.request] = c
	return c
}

// eventually waits for what other goroutines do.
func eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(hangLimit); !so(); {
		<-time.After(time.Millisecond)
		if time.Now().After(end) {
			t.Fatalf("it never came: %s", what)
		}
	}
}

func silent(reason string) *protocol.Client {
	return &protocol.Client{Silent: &protocol.SliceRef{Number: 9, Epoch: 9, Reason: reason}}
}

// TestOneAccountHasItsPlaces: whatever the sessions of one account say at once, what
// others say waits behind few of it, and all of it is heard in the end (I10).
func TestOneAccountHasItsPlaces(t *testing.T) {
	f := newFixture(t)
	a := f.still()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	const talkers = 4 * MaxSaidEach
	var through atomic.Int32
	for n := range talkers {
		c := sessionOf(a, "ann", n)
		go func() {
			if a.hear(ctx, c, silent("")) {
				through.Add(1)
			}
		}()
	}
	queued := func(want int) bool { return len(a.events) == want }
	eventually(t, "one account has its places", func() bool { return queued(MaxSaidEach) })
	<-time.After(20 * time.Millisecond) // for those that must not come
	if !queued(MaxSaidEach) {
		t.Fatalf("%d events wait, want %d", len(a.events), MaxSaidEach)
	}
	if bob := sessionOf(a, "bob", talkers); !a.hear(ctx, bob, silent("")) || !queued(MaxSaidEach+1) {
		t.Fatalf("another account is not heard: %d wait", len(a.events))
	}
	for range talkers + 1 {
		select {
		case e := <-a.events:
			e.apply(a)
		case <-time.After(hangLimit):
			t.Fatal("what waited for a place never came")
		}
	}
	eventually(t, "all was heard", func() bool { return through.Load() == talkers })
}

// TestWaitForAPlaceEnds with the connection and with the term.
func TestWaitForAPlaceEnds(t *testing.T) {
	f := newFixture(t)
	a := f.still()
	ctx, cancel := context.WithCancel(context.Background())
	c := sessionOf(a, "ann", 1)
	for range MaxSaidEach {
		a.hear(ctx, c, silent(""))
	}
	ended := make(chan bool)
	go func() { ended <- a.hear(ctx, c, silent("")) }()
	cancel()
	if <-ended {
		t.Error("heard after the connection's end")
	}
	go func() { ended <- a.hear(context.Background(), c, silent("")) }()
	close(a.over)
	if <-ended {
		t.Error("heard after the term's end")
	}
}

// TestClientSaysSoMuch: a session has ClientFree messages at once, and then ClientRate
// a second (I10).
func TestClientSaysSoMuch(t *testing.T) {
	f := newFixture(t)
	a := f.still()
	c := sessionOf(a, "ann", 1)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	say := func() bool {
		ok := a.hear(ctx, c, silent(""))
		if ok {
			(<-a.events).apply(a)
		}
		return ok
	}
	for n := range ClientFree {
		if !say() {
			t.Fatalf("message %d is not heard", n)
		}
	}
	heard := make(chan bool)
	go func() { heard <- say() }()
	select {
	case <-heard:
		t.Fatal("one more is heard at once")
	case <-time.After(3 * time.Second / ClientRate):
	}
	f.now.Add(int64(time.Second / ClientRate))
	if !<-heard {
		t.Error("it is not heard later")
	}
	f.now.Add(int64(time.Hour))
	if wait := c.pace.take(a.config.Now(), ClientFree, ClientRate); wait != 0 || c.pace.used != 1 {
		t.Errorf("after an hour: wait %v, %v used", wait, c.pace.used)
	}
}

// TestClientFillsNoLog: neither by how often it reports a silent slice nor by its
// words, by one session or many (I10).
func TestClientFillsNoLog(t *testing.T) {
	f := newFixture(t)
	a := f.still()
	var log bytes.Buffer
	a.config.Log = slog.New(slog.NewTextHandler(&log, nil))
	const said, each = 10 * LinesFree, 700
	for n := range said {
		clientSaid{c: sessionOf(a, "ann", n), m: silent(strings.Repeat("\x01", 1<<16))}.apply(a)
	}
	if lines := strings.Count(log.String(), "\n"); lines != LinesFree || log.Len() > LinesFree*each {
		t.Errorf("%d lines of %d bytes, want %d", lines, log.Len(), LinesFree)
	}
	log.Reset()
	clientSaid{c: sessionOf(a, "bob", said), m: silent("no answer")}.apply(a)
	if !strings.Contains(log.String(), `reason="no answer"`+"\n") {
		t.Errorf("another client: %s", log.String())
	}
	f.now.Add(int64(5 * time.Second))
	log.Reset()
	clientSaid{c: sessionOf(a, "ann", 0), m: silent("no answer")}.apply(a)
	if !strings.Contains(log.String(), "times_not_said=288") {
		t.Errorf("later: %s", log.String())
	}
}

// TestOneClientLogsInSoOften: LoginsFree at once from wherever, resumptions among them,
// then LoginsRate a second, and no other client waits for it (I10).
func TestOneClientLogsInSoOften(t *testing.T) {
	v := newVisitors(t)
	v.a.config.Log = slog.New(slog.DiscardHandler)
	session := v.joiner("session").key
	id := registry.SessionID{7}
	var proof [2]*protocol.Auth
	for i, name := range []string{"ann", "bob"} {
		v.admit(registry.Client{Name: name, PasswordKey: session.Public()})
		proof[i] = &protocol.Auth{Method: protocol.MethodPassword, User: name, Proof: auth.SignPassword(session, v.binding, name)}
	}
	v.store.state.Sessions.Put(id, &registry.Session{ID: id, Client: "ann", Key: session.Public(), State: registry.SessionActive})
	resume := &protocol.Auth{Method: protocol.MethodResume, Session: id, Proof: auth.SignResume(session, v.binding, id)}
	let := func() (n int, err error) {
		for n = 0; n < 9999; n++ {
			m := proof[0]
			if n%2 == 1 {
				m = resume
			}
			if _, err := v.login(m); err != nil {
				return n, err
			}
		}
		return n, nil
	}
	n, err := let()
	var refusal *errNo
	if n != LoginsFree || !errors.As(err, &refusal) || refusal.Code != protocol.RefusedRetry || refusal.Wait != 1 {
		t.Errorf("%d at once, then %v", n, err)
	}
	if _, err := v.login(proof[1]); err != nil {
		t.Errorf("another client: %v", err)
	}
	v.now.Add(int64(time.Second))
	if n, _ := let(); n != LoginsRate {
		t.Errorf("%d in the next second", n)
	}
	wrong := *proof[0]
	wrong.Proof = nil
	if _, err := v.login(&wrong); err == nil || strings.Contains(err.Error(), "very many") {
		t.Errorf("who is not that client hears of it: %v", err)
	}
}
