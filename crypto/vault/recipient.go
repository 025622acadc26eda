package vault

import (
	"crypto/hpke"
	"fmt"
	"io"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// Sizes of what passes in and out.
const (
	SeedSize    = 32                                   // of a Recipient
	PublicSize  = 1216                                 // ML-KEM-768 and X25519 public keys
	WrappedSize = enclosedSize + dataKeySize + tagSize // of a wrapped data key
)

const enclosedSize = 1120 // encapsulation: ML-KEM-768 ciphertext and X25519 share

// Recipient is a key pair that data keys are wrapped to: a voter's, or the
// offline recovery key. It is stored as its seed and never printed.
type Recipient struct {
	seed *[SeedSize]byte // a pointer, so that fmt prints no seed from inside another struct
}

// NewRecipient makes a key pair from 32 bytes of random.
func NewRecipient(random io.Reader) (Recipient, error) {
	r := Recipient{new([SeedSize]byte)}
	if _, err := io.ReadFull(random, r.seed[:]); err != nil {
		return Recipient{}, fmt.Errorf("vault: new recipient: %w", err)
	}
	return r, nil
}

// RecipientFromSeed restores a key pair, or returns ErrRecipient.
func RecipientFromSeed(seed []byte) (Recipient, error) {
	if len(seed) != SeedSize {
		return Recipient{}, fmt.Errorf("%w: seed of %d bytes, want %d", ErrRecipient, len(seed), SeedSize)
	}
	own := [SeedSize]byte(seed)
	return Recipient{&own}, nil
}

// Seed returns the 32 bytes to store.
func (r Recipient) Seed() []byte { return append([]byte(nil), r.seed[:]...) }

// Public returns what others wrap to: the registry's WrapKey.
func (r Recipient) Public() []byte { return r.private().PublicKey().Bytes() }

// Format never prints the seed.
func (r Recipient) Format(f fmt.State, _ rune) {
	_, _ = io.WriteString(f, "vault: recipient (redacted)")
}

func (r Recipient) private() hpke.PrivateKey {
	key, err := hpke.MLKEM768X25519().NewPrivateKey(r.seed[:])
	if err != nil {
		panic("vault: internal error: " + err.Error())
	}
	return key
}

// CheckPublic returns ErrRecipient for bytes that no data key can be wrapped
// to. A joiner's WrapKey is checked with it before it enters the registry.
func CheckPublic(public []byte) error {
	_, err := parsePublic(public)
	return err
}

func parsePublic(public []byte) (hpke.PublicKey, error) {
	key, err := hpke.MLKEM768X25519().NewPublicKey(public)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRecipient, err)
	}
	return key, nil
}

// Wrap closes a data key to one recipient. The encapsulation's randomness is
// the standard library's own: crypto/hpke takes none from its caller.
func Wrap(k DataKey, public []byte, cluster identity.ClusterID) ([]byte, error) {
	if k.generation == 0 {
		return nil, ErrGeneration
	}
	recipient, err := parsePublic(public)
	if err != nil {
		return nil, err
	}
	wrapped, err := hpke.Seal(recipient, hpke.HKDFSHA256(), hpke.AES256GCM(), wrapInfo(cluster, k.generation), k.key[:])
	if err != nil {
		return nil, fmt.Errorf("vault: wrap: %w", err)
	}
	return wrapped, nil
}

// Unwrap opens a wrap made for this recipient, mesh and generation, else it
// returns ErrSealed.
func (r Recipient) Unwrap(wrapped []byte, cluster identity.ClusterID, generation uint64) (DataKey, error) {
	if generation == 0 {
		return DataKey{}, ErrGeneration
	}
	if len(wrapped) != WrappedSize {
		return DataKey{}, ErrSealed
	}
	key, err := hpke.Open(r.private(), hpke.HKDFSHA256(), hpke.AES256GCM(), wrapInfo(cluster, generation), wrapped)
	if err != nil || len(key) != dataKeySize {
		return DataKey{}, ErrSealed
	}
	own := [dataKeySize]byte(key)
	return DataKey{generation: generation, key: &own}, nil
}

func wrapInfo(cluster identity.ClusterID, generation uint64) []byte {
	return boundTo("meshcrypt wrap/1", cluster, generation, "")
}
