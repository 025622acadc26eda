package mka

import (
	"bytes"
	"errors"
	"testing"
)

// TestStrangerAfterAgreementCostsOneHMAC: the knock stays the first check when
// the prekey is spent.
func TestStrangerAfterAgreementCostsOneHMAC(t *testing.T) {
	s := newScene(t)
	s.established()
	if _, _, err := s.agent.Accept(flipped(s.acceptData, 700)); !errors.Is(err, ErrKnock) {
		t.Fatal(err)
	}
}

// TestAgentChecksTheRekeysSPIs against a client that breaks the rules.
func TestAgentChecksTheRekeysSPIs(t *testing.T) {
	s := newScene(t)
	s.established()
	offer := s.offerParts(2)
	lax := *s.client
	lax.spiC = 0x7777 // so that it does not notice that it keeps its SPI
	var answer [][]byte
	for _, p := range offer {
		var err error
		answer, _, err = lax.OfferPart(s.random, p, s.spiC)
		must(t, err)
	}
	if err := lastPart(t, s.agent, answer); !errors.Is(err, ErrSPI) {
		t.Errorf("the SPI_C kept: %v", err)
	}
	answer, _ = s.answerParts(offer, 0x2000)
	other := [][]byte{bytes.Clone(answer[0]), answer[1]}
	other[0][partHeader+headerSize-1] ^= 4
	if err := lastPart(t, s.agent, other); !errors.Is(err, ErrMismatch) {
		t.Errorf("another SPI_A: %v", err)
	}
	s.acceptParts(answer)
}

func lastPart(t *testing.T, a *Agent, parts [][]byte) error {
	t.Helper()
	_, _, err := a.AcceptPart(parts[0])
	must(t, err)
	_, keys, err := a.AcceptPart(parts[1])
	if keys != nil {
		t.Fatal("keys from a refused answer")
	}
	return err
}

// TestOneOfferPerNumber: once a number is answered, another offer under it is
// refused and the first answer stands.
func TestOneOfferPerNumber(t *testing.T) {
	s := newScene(t)
	s.established()
	double := *s.agent
	offer := s.offerParts(2)
	s.answerParts(offer, 0x2000)
	s.newPrekey(3)
	other, err := double.Offer(s.random, s.secret, s.prekey)
	must(t, err)
	_, _, err = s.client.OfferPart(s.random, other[0], 0x3000)
	must(t, err)
	if _, keys, err := s.client.OfferPart(s.random, other[1], 0x3000); !errors.Is(err, ErrMismatch) || keys != nil {
		t.Fatal(err)
	}
	again, keys := s.answerParts(offer, 0x4000)
	if keys != nil {
		t.Fatal("a repeated offer gave keys again")
	}
	s.acceptParts(again)
}

// TestReplacedOfferIsLost: its prekey is spent and its answer comes to nothing.
func TestReplacedOfferIsLost(t *testing.T) {
	s := newScene(t)
	s.established()
	late, _ := s.answerParts(s.offerParts(2), 0x2000)
	lost := s.secret
	offer := s.offerParts(3)
	if lost.alive {
		t.Error("the replaced offer's prekey is still there")
	}
	if _, _, err := s.agent.AcceptPart(late[0]); !errors.Is(err, ErrOrder) {
		t.Errorf("a part for the replaced offer: %v", err)
	}
	answer, client := s.answerParts(offer, 0x3000)
	confirm, agent := s.acceptParts(answer)
	must(t, s.client.RekeyConfirm(confirm))
	agree(t, *agent, *client)
}
