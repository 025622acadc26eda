package mka

import (
	"errors"
	"testing"
)

// refused fails the test unless err is one of the package's sentinels.
func refused(t *testing.T, at int, err error) {
	t.Helper()
	if err == nil {
		t.Fatalf("byte %d flipped: accepted", at)
	}
	sentinel(t, err)
}

func TestFlippedHelloFails(t *testing.T) {
	s := newScene(t)
	exporter := make([]byte, ExporterSize)
	sig := SignHello(s.session, exporter, s.hello)
	if !VerifyHello(s.session.Public(), exporter, s.hello, sig) {
		t.Fatal("the true hello is refused")
	}
	for at := range s.hello {
		if VerifyHello(s.session.Public(), exporter, flipped(s.hello, at), sig) {
			t.Fatalf("byte %d flipped: possession still proven", at)
		}
		_, _, _, err := NewClient(s.random, s.session, s.signed, s.arbiter.Public(), s.prekey,
			s.given(), flipped(s.hello, at), s.spiC)
		if !errors.Is(err, ErrMismatch) {
			t.Fatalf("byte %d flipped: %v", at, err)
		}
	}
	for at := range exporter {
		if VerifyHello(s.session.Public(), flipped(exporter, at), s.hello, sig) {
			t.Fatalf("exporter byte %d flipped: possession still proven", at)
		}
	}
	for at := range sig {
		if VerifyHello(s.session.Public(), exporter, s.hello, flipped(sig, at)) {
			t.Fatalf("signature byte %d flipped: possession still proven", at)
		}
	}
	if VerifyHello(s.session.Public(), exporter[1:], s.hello, SignHello(s.session, exporter[1:], s.hello)) {
		t.Fatal("a short exporter is accepted")
	}
}

func TestFlippedPrekeyFails(t *testing.T) {
	s := newScene(t)
	for at := range s.prekey {
		_, err := ParsePrekey(flipped(s.prekey, at))
		refused(t, at, err)
	}
}

func TestFlippedGrantFails(t *testing.T) {
	s := newScene(t)
	whole := s.signed
	for at := range whole {
		s.signed = flipped(whole, at)
		refused(t, at, s.newAgent())
		refused(t, at, s.newClient())
	}
	s.signed = whole
	s.established()
}

func TestFlippedAcceptFails(t *testing.T) {
	s := newScene(t).start()
	for at := range s.acceptData {
		confirm, keys, err := s.agent.Accept(flipped(s.acceptData, at))
		refused(t, at, err)
		if confirm != nil || keys != nil {
			t.Fatalf("byte %d flipped: an answer with %v", at, err)
		}
	}
	if _, keys, err := s.agent.Accept(s.acceptData); err != nil || keys == nil {
		t.Fatalf("the true accept after the flips: %v", err)
	}
}

// TestFlippedAcceptWithTrueKnockFails is the arbiter's or a neighbour's try:
// it knows the share, so the knock is right, but not the session key.
func TestFlippedAcceptWithTrueKnockFails(t *testing.T) {
	s := newScene(t).start()
	for at := acceptSPIAt + 3; at < acceptKnockAt; at++ {
		forged := flipped(s.acceptData, at)
		copy(forged[acceptKnockAt:], s.agent.waiting.early.tag(forged[:acceptKnockAt]))
		if _, _, err := s.agent.Accept(forged); !errors.Is(err, ErrSignature) {
			t.Fatalf("byte %d flipped: %v", at, err)
		}
	}
	if !s.agent.waiting.secret.claimed || !s.agent.waiting.secret.alive {
		t.Fatal("a forged accept spent the prekey")
	}
}

func TestFlippedConfirmFails(t *testing.T) {
	s := newScene(t).start()
	confirm, _, err := s.agent.Accept(s.acceptData)
	must(t, err)
	for at := range confirm {
		refused(t, at, s.client.Confirm(flipped(confirm, at)))
	}
	if s.client.confirmed {
		t.Fatal("a flipped confirm confirmed")
	}
	must(t, s.client.Confirm(confirm))
}

// TestFlippedRekeyFails flips each byte of each part of offer and answer. The
// whole sequence with one flipped part must give no keys.
func TestFlippedRekeyFails(t *testing.T) {
	s := newScene(t)
	s.established()
	offer := s.offerParts(2)
	eachFlip(offer, func(which, at int, parts [][]byte) {
		c := *s.client
		c.assembly = assembly{}
		failed := false
		for _, p := range parts {
			answer, keys, err := c.OfferPart(s.random, p, 0x2000)
			failed = failed || err != nil
			if answer != nil || keys != nil {
				t.Fatalf("offer part %d byte %d flipped: answered", which, at)
			}
		}
		if !failed && c.assembly.have == 0 {
			t.Fatalf("offer part %d byte %d flipped: no error and nothing awaited", which, at)
		}
	})
	answer, _ := s.answerParts(offer, 0x2000)
	eachFlip(answer, func(which, at int, parts [][]byte) {
		a := *s.agent
		a.assembly = assembly{}
		for _, p := range parts {
			confirm, keys, _ := a.AcceptPart(p)
			if confirm != nil || keys != nil {
				t.Fatalf("answer part %d byte %d flipped: confirmed", which, at)
			}
		}
	})
	confirm, _ := s.acceptParts(answer)
	for at := range confirm {
		refused(t, at, s.client.RekeyConfirm(flipped(confirm, at)))
	}
	must(t, s.client.RekeyConfirm(confirm))
}

func eachFlip(parts [][]byte, do func(which, at int, parts [][]byte)) {
	for which := range parts {
		for at := range parts[which] {
			changed := append([][]byte(nil), parts...)
			changed[which] = flipped(parts[which], at)
			do(which, at, changed)
		}
	}
}

func TestTruncatedMessagesFail(t *testing.T) {
	s := newScene(t).start()
	for n := range s.acceptData {
		_, _, err := s.agent.Accept(s.acceptData[:n])
		refused(t, n, err)
	}
	for n := range s.signed {
		_, err := ParseGrant(s.signed[:n], s.arbiter.Public())
		refused(t, n, err)
		if n <= len(s.signed)-signatureSize {
			_, err = parseGrantBody(s.signed[:max(0, n-1)])
			refused(t, n, err)
		}
	}
	for n := range s.prekey {
		_, err := ParsePrekey(s.prekey[:n])
		refused(t, n, err)
	}
	for n := range s.hello {
		_, err := ParseHello(s.hello[:n])
		refused(t, n, err)
	}
	confirm, _, err := s.agent.Accept(s.acceptData)
	must(t, err)
	for n := range confirm {
		refused(t, n, s.client.Confirm(confirm[:n]))
	}
	must(t, s.client.Confirm(confirm))
	for n, part := range s.offerParts(2)[1] {
		_ = part
		_, _, err := s.client.OfferPart(s.random, s.prekey[:n], 0x2000)
		refused(t, n, err)
	}
}

func TestSuitesNotBuiltFailEarly(t *testing.T) {
	s := newScene(t)
	s.grant.Suite = 9
	s.signed = SignGrant(s.arbiter, s.grant)
	if err := s.newAgent(); !errors.Is(err, ErrSuite) {
		t.Fatal(err)
	}
	if !s.secret.Usable() {
		t.Fatal("a refused grant claimed the prekey")
	}
}
