package client

import (
	"bytes"
	"crypto/rand"
	"errors"
	"testing"

	"github.com/meshcrypt/meshcrypt/crypto/esp"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/crypto/mka"
)

// agreed is a slice whose Accept has reached its agent.
type agreed struct {
	*slice
	agent *mka.Agent
	identity.Key
	confirm []byte
}

func (f *fixture) agreed() agreed {
	f.Helper()
	f.connect()
	a := f.offer(0, 1, nil)
	f.takeOffer(&a.offer)
	agent, err := mka.NewAgent(a.offer.Grant, f.arbiter.Public(), &a.share, a.secret, a.agent, mka.Fence{})
	f.ok(err)
	s := f.slices[sliceKey{0, 1}]
	confirm, _, err := agent.Accept(s.accept)
	f.ok(err)
	return agreed{s, agent, a.agent, confirm}
}

func flipped(b []byte) []byte {
	b = bytes.Clone(b)
	b[len(b)-1] ^= 1
	return b
}

// TestOnlyTheAgentsConfirmCounts: who can write to the client's port, and knows the
// SPI from an Accept that he saw, has not agreed anything.
func TestOnlyTheAgentsConfirmCounts(t *testing.T) {
	f := newFixture(t)
	s := f.agreed()
	f.turn(confirm{flipped(s.confirm)})
	f.turn(confirm{s.confirm[:len(s.confirm)-1]})
	if s.confirmed || f.routed() != "null" || s.accept == nil {
		t.Fatal("a forged Confirm counts")
	}
	f.turn(confirm{s.confirm})
	if !s.confirmed {
		t.Error("the agent's does not")
	}
}

// TestRekeyNeedsTheAgentsProof: the client seals under new keys only when the agent
// has shown that it has them; the older ones then stop, and end (I2).
func TestRekeyNeedsTheAgentsProof(t *testing.T) {
	f := newFixture(t)
	s := f.agreed()
	f.turn(confirm{s.confirm})
	secret, prekey, err := mka.NewPrekey(rand.Reader, s.Key, identity.BootID{7}, s.grant.SPI+1, 600)
	f.ok(err)
	parts, err := s.agent.Offer(rand.Reader, secret, prekey)
	f.ok(err)
	for _, p := range parts {
		f.takeRekeyOffer(s.slice, p)
	}
	var answer [][]byte // as it went to the agent inside the SA
	for _, p := range parts {
		answer, _, err = s.machine.OfferPart(rand.Reader, p, s.next.In.SPI()+1)
		f.ok(err)
	}
	var proof []byte
	for _, p := range answer {
		proof, _, err = s.agent.AcceptPart(p)
		f.ok(err)
	}
	older, next := s.pair, s.next
	for _, body := range [][]byte{nil, flipped(proof), proof[:len(proof)-1]} {
		f.finishRekey(s.slice, body, f.config.Now())
		if s.pair != older || s.next != next {
			t.Fatalf("switched by %d bytes that prove nothing", len(body))
		}
	}
	f.finishRekey(s.slice, proof, f.config.Now())
	if s.pair != next || s.older != older || s.next != nil {
		t.Fatal("not switched by the proof")
	}
	f.clock.Add(int64(RetireAfter))
	f.superviseRetired(f.config.Now())
	if !stopped(older.Out) || s.older != nil {
		t.Error("the superseded keys still seal")
	}
}

func stopped(out *esp.Outbound) bool {
	_, err := out.Reserve(1, 1)
	return errors.Is(err, esp.ErrExhausted)
}

// TestWhatWasMovedStaysMoved: with keys that end, and with a slice that does.
func TestWhatWasMovedStaysMoved(t *testing.T) {
	f := newFixture(t)
	f.connect()
	s, other := f.slice(0, 1), f.slice(1, 1)
	f.agentSends(s)
	f.agentSends(other)
	want := f.bytes()
	if want <= s.pair.Counters().BytesIn {
		t.Fatalf("%d bytes were moved: this test shows nothing", want)
	}
	is := func(when string) {
		t.Helper()
		if got := f.bytes(); got != want {
			t.Errorf("%d bytes %s, want %d", got, when, want)
		}
	}
	delete(f.slices, other.key)
	s.older = other.pair
	is("with older keys")
	f.superviseRetired(f.config.Now())
	is("without them")
	f.forget(s)
	is("without a slice")
	other.end()
}

// TestForgottenKeysStop: a worker may still hold the older table, and whoever is
// given the slice next has other keys (I2).
func TestForgottenKeysStop(t *testing.T) {
	f := newFixture(t)
	s := f.agreed()
	f.turn(confirm{s.confirm})
	if stopped(s.pair.Out) {
		t.Fatal("ended before")
	}
	f.forget(s.slice)
	if !stopped(s.pair.Out) {
		t.Error("keys that were forgotten still seal")
	}
	if err := s.machine.Confirm(s.confirm); !errors.Is(err, mka.ErrOrder) {
		t.Errorf("the machine lives on: %v", err)
	}
}

// TestOfferIsCleared: nothing of what keys were made of stays in the message, or
// beside the SAs (I1).
func TestOfferIsCleared(t *testing.T) {
	f := newFixture(t)
	var seen []esp.Key
	f.config.KeyLog = func(_ uint32, k esp.Key) { seen = append(seen, k) }
	f.connect()
	a := f.offer(0, 1, nil)
	f.takeOffer(&a.offer)
	if !bytes.Equal(a.offer.Share, make([]byte, len(a.offer.Share))) {
		t.Error("the share stays in the message")
	}
	for _, k := range seen {
		if !k.Equal(esp.Key{}) {
			t.Error("a key stays in memory beside its SA")
		}
	}
	if len(seen) != 2 {
		t.Errorf("%d keys seen", len(seen))
	}
}
