package esp

import (
	"errors"
	"math"
	"strings"
	"testing"
)

func TestSuiteNames(t *testing.T) {
	for _, s := range Suites() {
		for _, name := range []string{s.String(), strings.ToUpper(s.String()), strings.ToLower(s.String())} {
			if got, err := ParseSuite(name); err != nil || got != s {
				t.Errorf("%s: %v, %v", name, got, err)
			}
		}
	}
	for _, name := range []string{"", "des", "rc4", "1", "aes-192-gcm"} {
		if _, err := ParseSuite(name); !errors.Is(err, ErrSuite) || !strings.Contains(err.Error(), "chacha20-poly1305") {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, s := range []Suite{0, 4, 65535} {
		if s.Built() || s.MaterialSize() != 0 || !strings.HasPrefix(s.String(), "suite ") {
			t.Errorf("%v is built, of %d bytes", s, s.MaterialSize())
		}
	}
}

// TestKeyKnowsItsSuite until it is wiped; a cipher's key of a wrong length is an error,
// for a panic would be a peer's to cause.
func TestKeyKnowsItsSuite(t *testing.T) {
	for _, s := range Suites() {
		k, err := NewKey(s, make([]byte, s.MaterialSize()))
		if err != nil || k.Suite() != s {
			t.Errorf("%v: key of %v, %v", s, k.Suite(), err)
		}
		if k.Wipe(); k.Suite() != 0 {
			t.Errorf("%v: wiped key of %v", s, k.Suite())
		}
	}
	if _, err := newGCM(make([]byte, 5)); err == nil {
		t.Error("AES with a key of 5 bytes")
	}
}

// TestSuitesAreApart: a frame of one suite is nothing to another, though one has
// the first bytes of the other's key.
func TestSuitesAreApart(t *testing.T) {
	for _, sealed := range Suites() {
		out, _ := suitePair(t, sealed)
		for _, opened := range Suites() {
			_, in := suitePair(t, opened)
			_, _, _, err := in.Open(sealFrame(out, pattern(100), NextIPv4, 1))
			if sealed == opened && err != nil || sealed != opened && !errors.Is(err, ErrAuth) {
				t.Errorf("sealed by %v, opened by %v: %v", sealed, opened, err)
			}
		}
	}
}

// TestLimitsOfEachSuite: at the hard limits an attacker's advantage stays below
// 2^-50, in the single-key bounds of the CFRG's "Usage Limits on AEAD Algorithms".
// The forgeries are what a link of 100 Gbit/s carries in the 15 minutes that a key
// lives, in the smallest frames.
func TestLimitsOfEachSuite(t *testing.T) {
	const (
		linkBytes = 100e9 / 8 * 15 * 60
		longest   = 65_535.0 / 16 // blocks of a packet
		bound     = -50.0
	)
	l := DefaultLimits()
	forgeries := linkBytes / MinFrame
	blocks, packets := float64(l.HardBytes)/16+float64(l.HardPackets), float64(l.HardPackets)
	for _, s := range Suites() {
		reading, forging := 0.0, 0.0
		switch s {
		case AES256GCM, AES128GCM: // both have blocks of 128 bits
			reading = math.Pow(blocks+packets+1, 2) / math.Exp2(129)
			forging = 2 * forgeries * (longest + 1) / math.Exp2(128)
		case ChaCha20Poly1305:
			forging = forgeries * (longest + 1) / math.Exp2(103)
		default:
			t.Fatalf("no bound is known for %v", s)
		}
		if sum := math.Log2(reading + forging); sum > bound {
			t.Errorf("%v: advantage 2^%.1f at the hard limits, want below 2^%.0f", s, sum, bound)
		}
	}
}
