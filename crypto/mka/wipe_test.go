package mka

import (
	"bytes"
	"errors"
	"testing"

	"github.com/meshcrypt/meshcrypt/crypto/esp"
)

func zero(b []byte) bool { return bytes.Equal(b, make([]byte, len(b))) }

// TestWipeAgent: what a machine knew is gone from memory, and it takes no
// further step. The arrays are looked at where they were.
func TestWipeAgent(t *testing.T) {
	s := newScene(t)
	s.established()
	s.rekey(2, 0x2000)
	parts := s.offerParts(3)
	a := s.agent
	secrets := map[string][]byte{
		"the first knock": a.first.knock[:], "the rekey's knock": a.latest.knock[:],
		"the offer's knock": a.waiting.early.knock, "the offer's key": a.waiting.early.prk,
		"the next rekey's secret": a.current.secret[:],
	}
	waiting := a.waiting.secret
	for what, b := range secrets {
		if len(b) == 0 || zero(b) {
			t.Fatalf("%s was never there", what)
		}
	}
	a.Wipe()
	for what, b := range secrets {
		if !zero(b) {
			t.Errorf("%s is still there", what)
		}
	}
	if waiting.Usable() || waiting.alive || waiting.expanded != nil || !zero(waiting.seed[:]) {
		t.Error("the waiting prekey lives on")
	}
	answer, _ := s.answerParts(parts, 0x3000)
	if _, _, err := a.Accept(s.acceptData); !errors.Is(err, ErrOrder) {
		t.Errorf("accept: %v", err)
	}
	if _, _, err := a.AcceptPart(answer[0]); !errors.Is(err, ErrOrder) {
		t.Errorf("part of an answer: %v", err)
	}
	s.newPrekey(4)
	if _, err := a.Offer(s.random, s.secret, s.prekey); !errors.Is(err, ErrOrder) {
		t.Errorf("offer: %v", err)
	}
	a.Wipe()
}

// TestWipeClient, with a rekey that is answered and not confirmed.
func TestWipeClient(t *testing.T) {
	s := newScene(t)
	s.established()
	parts := s.offerParts(2)
	answer, _ := s.answerParts(parts, 0x2000)
	confirm, _ := s.acceptParts(answer)
	c := s.client
	current, pending := c.current.secret[:], c.pending.next.secret[:]
	if zero(current) || zero(pending) {
		t.Fatal("the secrets were never there")
	}
	c.Wipe()
	if !zero(current) || !zero(pending) {
		t.Error("a rekey's secret is still there")
	}
	if err := c.Confirm(marshalConfirm(0, [hashSize]byte{})); !errors.Is(err, ErrOrder) {
		t.Errorf("confirm of nothing: %v", err)
	}
	if _, _, err := c.OfferPart(s.random, parts[0], 0x3000); !errors.Is(err, ErrOrder) {
		t.Errorf("part of an offer: %v", err)
	}
	if err := c.RekeyConfirm(confirm); !errors.Is(err, ErrOrder) {
		t.Errorf("confirm of a rekey: %v", err)
	}
}

// TestRekeyLeavesNoOlderSecret: what the last agreement left is overwritten by
// the next at both ends.
func TestRekeyLeavesNoOlderSecret(t *testing.T) {
	s := newScene(t)
	s.established()
	knock, older := s.agent.first.knock[:], s.agent.current.secret
	s.rekey(2, 0x2000)
	second := s.agent.latest.knock[:]
	s.rekey(3, 0x3000)
	if s.agent.current.secret == older || s.client.current.secret != s.agent.current.secret {
		t.Error("the secret of an older agreement is kept")
	}
	if !zero(second) || zero(knock) {
		t.Error("of the knocks, the first and the last are needed")
	}
}

// TestSettledKnowsNoAccept: once the client has used the keys nothing is kept that
// recognises what they came of, and they are renewed as before.
func TestSettledKnowsNoAccept(t *testing.T) {
	s := newScene(t)
	s.established()
	s.rekey(2, 0x2000)
	s.rekey(3, 0x3000)
	a := s.agent
	first, latest := a.first.knock[:], a.latest.knock[:]
	a.Settle()
	if !zero(first) || !zero(latest) {
		t.Error("a knock is kept")
	}
	if confirm, keys, err := a.Accept(s.acceptData); confirm != nil || keys != nil || !errors.Is(err, ErrPrekey) {
		t.Errorf("the accept again: a confirm of %d bytes, %v, %v", len(confirm), keys, err)
	}
	parts := s.offerParts(4)
	answer, _ := s.answerParts(parts, 0x4000)
	s.acceptParts(answer)
	a.Settle()
	if confirm, keys, err := a.AcceptPart(answer[0]); confirm != nil || keys != nil || !errors.Is(err, ErrOrder) {
		t.Errorf("the answer again: a confirm of %d bytes, %v, %v", len(confirm), keys, err)
	}
	a.Settle()
}

// TestSharesAreCleared, at both ends, whether the machine comes about or not (I1).
func TestSharesAreCleared(t *testing.T) {
	for name, spoil := range map[string]func(*scene){
		"an agreement":                  func(*scene) {},
		"a grant that nobody may take":  func(s *scene) { s.signed[0]++ },
		"an agent's prekey, used twice": func(s *scene) { must(t, s.secret.claim()) },
	} {
		s := newScene(t)
		spoil(s)
		atAgent, atClient := s.given(), s.given()
		_, _ = NewAgent(s.signed, s.arbiter.Public(), atAgent, s.secret, s.agents["a"], s.floor)
		_, _, _, _ = NewClient(s.random, s.session, s.signed, s.arbiter.Public(), s.prekey, atClient, s.hello, s.spiC)
		if *atAgent != (Share{}) || *atClient != (Share{}) {
			t.Errorf("%s leaves the share", name)
		}
	}
}

// TestKEMSecretIsCleared once everything is derived from it, or nothing could be (I1).
func TestKEMSecretIsCleared(t *testing.T) {
	e, err := newEarly(bytes.Repeat([]byte{1}, secretSize), [hashSize]byte{})
	must(t, err)
	for suite, want := range map[esp.Suite]bool{esp.AES256GCM: true, 99: false} {
		kem := bytes.Repeat([]byte{7}, secretSize)
		if _, err := e.finish(suite, kem, [hashSize]byte{}, 0); (err == nil) != want || !zero(kem) {
			t.Errorf("%v: %v, the secret is cleared: %v", suite, err, zero(kem))
		}
	}
}

func TestWipeKeys(t *testing.T) {
	agent, _ := newScene(t).established()
	agent.Wipe()
	if !agent.In.Equal(esp.Key{}) || !agent.Out.Equal(esp.Key{}) {
		t.Error("a wiped pair of keys holds one")
	}
}
