package mka

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha512"
	"encoding/binary"
	"fmt"

	"github.com/meshcrypt/meshcrypt/crypto/esp"
)

const (
	hashSize   = sha512.Size384
	secretSize = 48
)

// The labels of the key schedule: one per use, each with T in its info, but
// the knock's, which comes before T and has the transcript so far.
const (
	kemLabel      = "mka1 kem"
	knockLabel    = "mka1 knock"
	derivedLabel  = "mka1 derived"
	toAgentLabel  = "mka1 esp c2a"
	toClientLabel = "mka1 esp a2c"
	confirmLabel  = "mka1 confirm"
	nextLabel     = "mka1 rekey"
)

// early is the schedule before the KEM: what the share alone gives.
type early struct {
	prk   []byte
	knock []byte // HMAC key
}

// link is what one agreement leaves for the next: its T and a secret that
// takes the share's place.
type link struct {
	number uint32 // of the rekey it came from; 0: the slice's own agreement
	t      [hashSize]byte
	secret [secretSize]byte
}

// outcome is all that one agreement yields.
type outcome struct {
	toAgent, toClient esp.Key
	mac               [hashSize]byte // of the Confirm
	next              link
}

// newEarly starts the schedule from a share, or from a link's secret.
func newEarly(share []byte, context [hashSize]byte) (early, error) {
	prk, err := hkdf.Extract(sha512.New384, share, nil)
	if err != nil {
		return early{}, fmt.Errorf("mka: extract: %w", err)
	}
	knock, err := expand(prk, knockLabel, context, hashSize)
	return early{prk, knock}, err
}

// tag is the knock of an Accept.
func (e early) tag(knocked []byte) []byte {
	m := hmac.New(sha512.New384, e.knock)
	m.Write(knocked)
	return m.Sum(nil)[:knockSize]
}

// forget forgets all of it.
func (e early) forget() {
	clear(e.prk)
	clear(e.knock)
}

// finish mixes the KEM's secret in, derives everything under T, and clears that
// secret: nobody needs it any more (I1).
func (e early) finish(suite esp.Suite, kem []byte, t [hashSize]byte, number uint32) (outcome, error) {
	defer clear(kem)
	derived, err := expand(e.prk, derivedLabel, t, hashSize)
	if err != nil {
		return outcome{}, err
	}
	defer clear(derived)
	prk, err := hkdf.Extract(sha512.New384, kem, derived)
	if err != nil {
		return outcome{}, fmt.Errorf("mka: extract: %w", err)
	}
	defer clear(prk)
	out := outcome{next: link{number: number, t: t}}
	if out.toAgent, err = trafficKey(suite, prk, toAgentLabel, t); err != nil {
		return outcome{}, err
	}
	if out.toClient, err = trafficKey(suite, prk, toClientLabel, t); err != nil {
		return outcome{}, err
	}
	if out.mac, err = confirmMAC(prk, t); err != nil {
		return outcome{}, err
	}
	next, err := expand(prk, nextLabel, t, secretSize)
	out.next.secret = [secretSize]byte(next)
	clear(next)
	return out, err
}

func confirmMAC(prk []byte, t [hashSize]byte) (mac [hashSize]byte, err error) {
	key, err := expand(prk, confirmLabel, t, hashSize)
	if err != nil {
		return mac, err
	}
	defer clear(key)
	m := hmac.New(sha512.New384, key)
	m.Write(t[:])
	return [hashSize]byte(m.Sum(nil)), nil
}

func trafficKey(suite esp.Suite, prk []byte, label string, t [hashSize]byte) (esp.Key, error) {
	material, err := expand(prk, label, t, suite.MaterialSize())
	if err != nil {
		return esp.Key{}, err
	}
	defer clear(material)
	return esp.NewKey(suite, material)
}

// built refuses a suite that crypto/esp does not have.
func built(suite esp.Suite) error {
	if !suite.Built() {
		return fmt.Errorf("%w: %v", ErrSuite, suite)
	}
	return nil
}

// expand is HKDF-Expand with an info of length-prefixed label and context, and
// the length asked for.
func expand(prk []byte, label string, context [hashSize]byte, n int) ([]byte, error) {
	info := appendPrefixed(nil, []byte(label))
	info = appendPrefixed(info, context[:])
	info = binary.BigEndian.AppendUint16(info, uint16(n))
	out, err := hkdf.Expand(sha512.New384, prk, string(info), n)
	if err != nil {
		return nil, fmt.Errorf("mka: expand: %w", err)
	}
	return out, nil
}
