package esp

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"io"
)

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

// Suite is the cipher that the key is for; 0 for the zero Key.
func (k Key) Suite() Suite {
	if s := k.secret(); s != nil {
		return s.suite
	}
	return 0
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
