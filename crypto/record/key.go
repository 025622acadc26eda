package record

import (
	"crypto/cipher"
	"crypto/sha256"
	"fmt"
	"io"
	"slices"

	"golang.org/x/crypto/chacha20poly1305"
)

// ExporterLabel is under which label a handshake gives its keys (RFC 8446 7.5). It is for
// nothing else: what a login signs comes from the same handshake under another one.
const ExporterLabel = "EXPORTER-mesh-records"

const (
	keySize = chacha20poly1305.KeySize
	ivSize  = chacha20poly1305.NonceSize
	// secretSize is one key and IV for each direction.
	secretSize = 2 * (keySize + ivSize)
)

// Key is key and IV of one direction of one connection. It cannot be printed or
// marshalled, only given to one Writer or one Reader. It stands behind two pointers for
// the reason of esp.Key.
type Key struct{ sealed **secret }

type secret struct {
	key [keySize]byte
	iv  [ivSize]byte
}

// Derive takes both directions' keys out of a handshake, by its exporter.
func Derive(export func(label string, context []byte, length int) ([]byte, error)) (client, server Key, err error) {
	material, err := export(ExporterLabel, nil, secretSize)
	if err != nil {
		return Key{}, Key{}, fmt.Errorf("record: keys of the handshake: %w", err)
	}
	defer clear(material)
	half := secretSize / 2
	return newKey(material[:half]), newKey(material[half:]), nil
}

// newKey makes a key of key || IV.
func newKey(material []byte) Key {
	inner := &secret{[keySize]byte(material), [ivSize]byte(material[keySize:])}
	return Key{&inner}
}

// cipher is made for one record: it has no key schedule, so there is nothing to keep.
func (s *secret) cipher() cipher.AEAD {
	aead, err := chacha20poly1305.New(s.key[:])
	if err != nil {
		panic("record: internal error: the size of a key")
	}
	return aead
}

// oracleHash names the key in the nonce oracle (I2) without telling it.
func (s *secret) oracleHash() [16]byte {
	sum := sha256.Sum256(slices.Concat([]byte("meshcrypt nonce oracle"), s.key[:], s.iv[:]))
	return [16]byte(sum[:])
}

// nonce is that of a record: the IV, and the record's number in its last bytes (RFC 8446
// 5.3).
func (s *secret) nonce(number uint64) (n [ivSize]byte) {
	n = s.iv
	for i := range 8 {
		n[ivSize-1-i] ^= byte(number >> (8 * i))
	}
	return n
}

const redacted = "record.Key(redacted)"

// Format hides the key from every verb.
func (Key) Format(f fmt.State, _ rune) { io.WriteString(f, redacted) }
