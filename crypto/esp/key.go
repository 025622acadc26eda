package esp

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"io"
)

// Suite names an AEAD and how ESP uses it. Numbers are MKA/1's.
type Suite uint16

// The suites of MKA/1. Only AES256GCM is built; the others give ErrSuite.
const (
	AES256GCM        Suite = 1 // RFC 4106
	ChaCha20Poly1305 Suite = 2 // RFC 7634
	AES128GCM        Suite = 3 // RFC 4106
)

// MaterialSize returns the length of the suite's key material, key and salt,
// or 0 for a suite that is not available.
func (s Suite) MaterialSize() int {
	if s == AES256GCM {
		return 32 + saltSize
	}
	return 0
}

// String returns the suite's name.
func (s Suite) String() string {
	switch s {
	case AES256GCM:
		return "AES-256-GCM"
	case ChaCha20Poly1305:
		return "ChaCha20-Poly1305"
	case AES128GCM:
		return "AES-128-GCM"
	}
	return fmt.Sprintf("suite %d", uint16(s))
}

// Key is the key material of one direction of one SA (I1). It cannot be
// printed, marshalled or taken apart: it can only be compared, and given to
// NewOutbound or NewInbound. The material stands behind two pointers: in an
// unexported field of somebody else's structure fmt asks no formatter, and for
// a verb that does not fit it follows one pointer.
type Key struct{ sealed **secret }

type secret struct {
	suite    Suite
	material []byte // key || salt
}

// NewKey makes a key from material, which is key || salt and is copied.
func NewKey(s Suite, material []byte) (Key, error) {
	size := s.MaterialSize()
	if size == 0 {
		return Key{}, fmt.Errorf("%w: %v", ErrSuite, s)
	}
	if len(material) != size {
		return Key{}, fmt.Errorf("%w: %v wants %d bytes of material, got %d", ErrSuite, s, size, len(material))
	}
	inner := &secret{suite: s, material: bytes.Clone(material)}
	return Key{&inner}, nil
}

// Equal reports, in constant time, whether both hold the same material.
func (k Key) Equal(other Key) bool {
	a, b := k.secret(), other.secret()
	if a == nil || b == nil {
		return a == b
	}
	return a.suite == b.suite && subtle.ConstantTimeCompare(a.material, b.material) == 1
}

// Wipe clears the material in every copy of the key, which is the zero Key from
// then on. Call it when both halves of the SA are made: they keep only what the
// AEAD made of it. Not safe beside another use of the key.
func (k Key) Wipe() {
	if s := k.secret(); s != nil {
		clear(s.material)
		*k.sealed = nil
	}
}

// secret returns what the key holds, nil for the zero Key and a wiped one.
func (k Key) secret() *secret {
	if k.sealed == nil {
		return nil
	}
	return *k.sealed
}

const redacted = "esp.Key(redacted)"

// String hides the key.
func (Key) String() string { return redacted }

// GoString hides the key.
func (Key) GoString() string { return redacted }

// Format hides the key from every verb.
func (Key) Format(f fmt.State, _ rune) { io.WriteString(f, redacted) }

// oracleHash names the key in the nonce oracle (I2) without telling it.
func (s *secret) oracleHash() (h [16]byte) {
	sum := sha256.Sum256(append([]byte("meshcrypt nonce oracle"), s.material...))
	copy(h[:], sum[:])
	return h
}
