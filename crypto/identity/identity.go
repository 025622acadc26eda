// Package identity holds the one vocabulary that every other package may
// import: who somebody is. A node is its Ed25519 key; its NodeID is the hash
// of that key. A mesh is its ClusterID. A process is its BootID.
//
// The package owns keys, identifiers and domain-separated signatures. It does
// not own certificates (crypto/pki), storage, or any right that an identity
// may carry.
package identity

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
)

// ErrMalformed says that text or bytes are not the identifier they claim to be.
var ErrMalformed = errors.New("identity: malformed identifier")

var base32Lower = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// PublicKey is an Ed25519 public key (RFC 8032), 32 bytes.
type PublicKey [ed25519.PublicKeySize]byte

// NodeID is the SHA-256 of a node's PublicKey: identity is the key.
type NodeID [sha256.Size]byte

// ClusterID names one mesh for its whole life; 16 random bytes made by init.
type ClusterID [16]byte

// BootID names one process start; 16 random bytes. Whatever was granted to
// another boot of the same node is void.
type BootID [16]byte

// Index is a node's short name on the wire, 1..MaxIndex, given by the registry.
type Index uint16

// MaxIndex is the largest index that fits the 12 bits of an SPI.
const MaxIndex Index = 4095

// ID returns the NodeID of the key.
func (p PublicKey) ID() NodeID { return sha256.Sum256(p[:]) }

// String returns the 52 base32 characters of the identifier.
func (id NodeID) String() string { return base32Lower.EncodeToString(id[:]) }

// Short returns the first 8 characters, for tables and logs.
func (id NodeID) Short() string { return id.String()[:8] }

// IsZero reports whether no node is named.
func (id NodeID) IsZero() bool { return id == NodeID{} }

// MarshalText and UnmarshalText make a NodeID a JSON string and map key.
func (id NodeID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// AppendText appends what MarshalText returns; it has no error.
func (id NodeID) AppendText(to []byte) ([]byte, error) {
	return base32Lower.AppendEncode(to, id[:]), nil
}

// UnmarshalText reads the 52 characters of String.
func (id *NodeID) UnmarshalText(text []byte) error {
	raw, err := base32Lower.DecodeString(string(text))
	// The last character has four spare bits: one identifier, one text.
	if err != nil || len(raw) != len(id) || base32Lower.EncodeToString(raw) != string(text) {
		return fmt.Errorf("%w: node id %q", ErrMalformed, text)
	}
	copy(id[:], raw)
	return nil
}

// String returns 32 hexadecimal digits.
func (c ClusterID) String() string { return hex.EncodeToString(c[:]) }

// MarshalText makes a ClusterID a JSON string.
func (c ClusterID) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText reads the 32 digits of String.
func (c *ClusterID) UnmarshalText(text []byte) error { return unmarshalHex(c[:], text) }

// String returns 32 hexadecimal digits.
func (b BootID) String() string { return hex.EncodeToString(b[:]) }

// MarshalText makes a BootID a JSON string.
func (b BootID) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// UnmarshalText reads the 32 digits of String.
func (b *BootID) UnmarshalText(text []byte) error { return unmarshalHex(b[:], text) }

// MarshalText makes a PublicKey a JSON string of 64 hexadecimal digits.
func (p PublicKey) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(p[:])), nil }

// UnmarshalText reads 64 hexadecimal digits.
func (p *PublicKey) UnmarshalText(text []byte) error { return unmarshalHex(p[:], text) }

func unmarshalHex(dst, text []byte) error {
	if hex.DecodedLen(len(text)) != len(dst) {
		return fmt.Errorf("%w: %d characters, want %d", ErrMalformed, len(text), hex.EncodedLen(len(dst)))
	}
	if _, err := hex.Decode(dst, text); err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if hex.EncodeToString(dst) != string(text) {
		return fmt.Errorf("%w: capital letters", ErrMalformed)
	}
	return nil
}

// Key is a private Ed25519 key. Its text form is only ever written by the
// owner of a data directory or a profile.
type Key struct{ private ed25519.PrivateKey }

// Format keeps the private half out of logs and errors whatever the verb.
func (k Key) Format(f fmt.State, _ rune) {
	if k.private == nil {
		_, _ = io.WriteString(f, "identity: no key")
		return
	}
	_, _ = io.WriteString(f, "identity: key of "+k.ID().Short()+" (private half redacted)")
}

// SeedSize is the length in bytes of the seed a Key is stored as.
const SeedSize = ed25519.SeedSize

// NewKey makes a key from 32 bytes of random.
func NewKey(random io.Reader) (Key, error) {
	seed := make([]byte, SeedSize)
	if _, err := io.ReadFull(random, seed); err != nil {
		return Key{}, fmt.Errorf("identity: random: %w", err)
	}
	return KeyFromSeed(seed)
}

// KeyFromSeed restores a key from its 32-byte seed (RFC 8032 5.1.5).
func KeyFromSeed(seed []byte) (Key, error) {
	if len(seed) != SeedSize {
		return Key{}, fmt.Errorf("%w: seed of %d bytes, want %d", ErrMalformed, len(seed), SeedSize)
	}
	return Key{ed25519.NewKeyFromSeed(seed)}, nil
}

// Seed returns the 32 bytes to store.
func (k Key) Seed() []byte { return k.private.Seed() }

// Public returns the public half.
func (k Key) Public() (p PublicKey) {
	copy(p[:], k.private.Public().(ed25519.PublicKey))
	return p
}

// ID returns the NodeID of the key.
func (k Key) ID() NodeID { return k.Public().ID() }

// Ed25519 gives the key in the form crypto/tls and crypto/x509 want.
func (k Key) Ed25519() ed25519.PrivateKey { return k.private }

// Sign signs message under a context label; the label keeps a signature made
// for one purpose from being accepted for another.
func (k Key) Sign(context string, message []byte) []byte {
	return ed25519.Sign(k.private, contextual(context, message))
}

// Verify reports whether sig is the key's signature of message under context.
func (p PublicKey) Verify(context string, message, sig []byte) bool {
	return len(sig) == ed25519.SignatureSize && ed25519.Verify(p[:], contextual(context, message), sig)
}

// contextual is one length byte, the context, then the message: no two
// (context, message) pairs give the same bytes.
func contextual(context string, message []byte) []byte {
	if len(context) > 255 {
		panic("identity: context label longer than 255 bytes")
	}
	out := make([]byte, 0, 1+len(context)+len(message))
	out = append(out, byte(len(context)))
	out = append(out, context...)
	return append(out, message...)
}
