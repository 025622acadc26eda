package vault

import (
	"crypto/aes"
	"crypto/cipher"
	"fmt"
	"io"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

const (
	dataKeySize = 32 // AES-256
	nonceSize   = 12
	tagSize     = 16
	boxVersion  = 1
)

// BoxOverhead is how much longer a box is than its secret: a version byte, the
// nonce, the tag.
const BoxOverhead = 1 + nonceSize + tagSize

// DataKey seals the secrets of one mesh during one generation. It prints as
// its generation and has no marshaller: it travels only wrapped.
type DataKey struct {
	generation uint64
	key        *[dataKeySize]byte // a pointer, so that fmt prints no key from inside another struct
}

// NewDataKey makes the key of a generation, counted from 1.
func NewDataKey(random io.Reader, generation uint64) (DataKey, error) {
	if generation == 0 {
		return DataKey{}, ErrGeneration
	}
	k := DataKey{generation: generation, key: new([dataKeySize]byte)}
	if _, err := io.ReadFull(random, k.key[:]); err != nil {
		return DataKey{}, fmt.Errorf("vault: new data key: %w", err)
	}
	return k, nil
}

// Next makes a fresh key for the generation after k's.
func (k DataKey) Next(random io.Reader) (DataKey, error) { return NewDataKey(random, k.generation+1) }

// Generation is the registry's number for the key.
func (k DataKey) Generation() uint64 { return k.generation }

// Format never prints the key.
func (k DataKey) Format(f fmt.State, _ rune) {
	_, _ = fmt.Fprintf(f, "vault: data key of generation %d (redacted)", k.generation)
}

// Seal closes a secret into a box that opens only for the same mesh, name and
// generation.
func (k DataKey) Seal(random io.Reader, cluster identity.ClusterID, name string, secret []byte) ([]byte, error) {
	if len(name) > MaxName || len(secret) > MaxSecret {
		return nil, fmt.Errorf("%w: name of %d bytes, secret of %d", ErrTooLarge, len(name), len(secret))
	}
	aead, err := k.aead()
	if err != nil {
		return nil, err
	}
	box := make([]byte, 1+nonceSize, len(secret)+BoxOverhead)
	box[0] = boxVersion
	nonce := box[1:]
	if _, err := io.ReadFull(random, nonce); err != nil {
		return nil, fmt.Errorf("vault: seal: %w", err)
	}
	return aead.Seal(box, nonce, secret, k.boxed(cluster, name)), nil
}

// Open returns the secret of a box, or ErrSealed.
func (k DataKey) Open(cluster identity.ClusterID, name string, box []byte) ([]byte, error) {
	if len(box) < BoxOverhead || len(box) > MaxSecret+BoxOverhead || len(name) > MaxName || box[0] != boxVersion {
		return nil, ErrSealed
	}
	aead, err := k.aead()
	if err != nil {
		return nil, err
	}
	nonce, sealed := box[1:1+nonceSize], box[1+nonceSize:]
	secret, err := aead.Open(nil, nonce, sealed, k.boxed(cluster, name))
	if err != nil {
		return nil, ErrSealed
	}
	return secret, nil
}

func (k DataKey) boxed(cluster identity.ClusterID, name string) []byte {
	return boundTo("meshcrypt box/1", cluster, k.generation, name)
}

// aead refuses the zero DataKey, whose key everybody knows.
func (k DataKey) aead() (cipher.AEAD, error) {
	if k.generation == 0 {
		return nil, ErrGeneration
	}
	block, err := aes.NewCipher(k.key[:])
	if err != nil {
		return nil, fmt.Errorf("vault: %w", err)
	}
	return cipher.NewGCM(block)
}
