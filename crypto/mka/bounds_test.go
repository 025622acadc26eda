package mka

import (
	"errors"
	"testing"
)

// TestSmallestSPI: 255 is reserved (RFC 4303, 2.1), and 256 is not.
func TestSmallestSPI(t *testing.T) {
	s := newScene(t)
	s.spiC = MinSPI - 1
	if err := s.newClient(); !errors.Is(err, ErrSPI) {
		t.Errorf("%d: %v", s.spiC, err)
	}
	s.spiC = MinSPI
	agent, _ := s.established()
	if agent.SPIOut != MinSPI {
		t.Errorf("the agent seals for %d", agent.SPIOut)
	}
}

// TestPlainText: no control characters, of either kind, and what is beside them.
func TestPlainText(t *testing.T) {
	for text, plain := range map[string]bool{
		"": true, " ": true, "~": true, "\u00a0": true, "höher": true,
		"\x1f": false, "\x7f": false, "\u0080": false, "\u009f": false, "\xff": false,
	} {
		if plainText(text) != plain {
			t.Errorf("%q: %v", text, !plain)
		}
	}
}

// TestRekeyOfferHasOneSize: anything else is malformed, and nothing panics (I11).
func TestRekeyOfferHasOneSize(t *testing.T) {
	for _, size := range []int{0, 3, 4, rekeyOfferSize - 1, rekeyOfferSize, rekeyOfferSize + 1} {
		if _, _, err := parseRekeyOffer(make([]byte, size)); errors.Is(err, ErrMalformed) != (size != rekeyOfferSize) {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
}

// TestCheckedGrant: what was checked needs no arbiter's key any more, what does not hold is
// none, and of whatever length nothing panics (I11).
func TestCheckedGrant(t *testing.T) {
	s := newScene(t)
	s.start()
	checked, err := CheckGrant(s.signed, s.arbiter.Public())
	must(t, err)
	if checked.Grant.terms() != s.agent.terms || checked.hash != hashGrant(s.signed) {
		t.Errorf("checked: %+v", checked)
	}
	for size := range signatureSize + 2 {
		if c, err := CheckGrant(make(SignedGrant, size), s.arbiter.Public()); err == nil || c.hash != [hashSize]byte{} {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
	forged := append(SignedGrant(nil), s.signed...)
	forged[len(forged)-1] ^= 1
	if _, err := CheckGrant(forged, s.arbiter.Public()); !errors.Is(err, ErrSignature) {
		t.Errorf("forged: %v", err)
	}
	share := s.given()
	if _, err := checked.NewAgent(share, s.secret, s.agents["a"], Fence{Incarnation: 1 << 60}); !errors.Is(err, ErrFence) || *share != (Share{}) {
		t.Errorf("an arbiter of before: %v, share cleared: %v", err, *share == Share{})
	}
}
