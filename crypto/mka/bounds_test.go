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
