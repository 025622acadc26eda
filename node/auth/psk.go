package auth

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"math"

	"golang.org/x/crypto/argon2"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// Why a pre-shared key is not used, or a mesh not believed.
var (
	ErrWeakKey = errors.New("auth: pre-shared key is too easy to guess")
	// ErrMesh is the client's: the other end let it in without knowing its key.
	ErrMesh = errors.New("auth: the mesh does not prove that it knows the pre-shared key")
)

// SharedKey is a pre-shared key after stretching: the client's secret. It prints as
// nothing.
type SharedKey struct{ secret [sha256.Size]byte }

// Verifier is what the registry holds of a pre-shared key. Whoever reads it can
// check guesses at the key, and can pass for the mesh where TLS does not prevent it,
// but cannot log in.
type Verifier struct {
	Stored []byte // hash of what the client proves
	Server []byte // HMAC key of the mesh's proof
}

// DeriveSharedKey stretches a pre-shared key. Mesh and user are its salt, as a
// password's. It returns ErrWeakKey for one that can be guessed.
func DeriveSharedKey(secret []byte, cluster identity.ClusterID, user string, cost Cost) (SharedKey, error) {
	if err := CheckUser(user); err != nil {
		return SharedKey{}, err
	}
	if len(secret) > MaxSharedKey {
		return SharedKey{}, fmt.Errorf("%w: %d bytes, at most %d", ErrPassword, len(secret), MaxSharedKey)
	}
	if bits := guessBits(secret); bits < MinKeyBits {
		return SharedKey{}, fmt.Errorf("%w: about %.0f bits, want %d or more", ErrWeakKey, bits, MinKeyBits)
	}
	if err := cost.check(); err != nil {
		return SharedKey{}, err
	}
	salt := sha256.Sum256(labelled("meshcrypt psk/1", cluster[:], []byte(user)))
	stretched := argon2.IDKey(secret, salt[:], cost.Passes, cost.Memory, cost.Threads, sha256.Size)
	defer clear(stretched)
	return SharedKey{[sha256.Size]byte(stretched)}, nil
}

// guessBits estimates from above how hard a key is to guess: the entropy of its
// bytes' frequencies, halved for a small letter behind another, as in words.
func guessBits(secret []byte) float64 {
	var count [256]float64
	var weight float64
	for i, c := range secret {
		count[c]++
		if i > 0 && isSmall(c) && isSmall(secret[i-1]) {
			weight += 0.5
			continue
		}
		weight++
	}
	var perByte float64
	for _, n := range count {
		if p := n / float64(len(secret)); n > 0 {
			perByte -= p * math.Log2(p)
		}
	}
	return perByte * weight
}

func isSmall(c byte) bool { return c >= 'a' && c <= 'z' }

// Verifier is the key's half for the registry.
func (k SharedKey) Verifier() Verifier {
	client := k.derive("client key")
	stored := sha256.Sum256(client[:])
	server := k.derive("server key")
	return Verifier{Stored: stored[:], Server: server[:]}
}

// Prove is the client's proof: its key, covered by an HMAC that only the registry's
// half takes off (RFC 5802 3, over this connection and hello).
func (k SharedKey) Prove(b Binding, user string) []byte {
	client := k.derive("client key")
	stored := sha256.Sum256(client[:])
	proof := mac(stored[:], b.sharedKeyMessage(user))
	subtle.XORBytes(proof, proof, client[:])
	return proof
}

// Confirm checks the mesh's proof, else ErrMesh.
func (k SharedKey) Confirm(b Binding, user string, answer []byte) error {
	server := k.derive("server key")
	if !hmac.Equal(answer, mac(server[:], b.sharedKeyMessage(user))) {
		return ErrMesh
	}
	return nil
}

// VerifySharedKey returns the principal and the mesh's proof, or ErrDenied.
// registered is the user's; the zero Verifier stands for an unknown user, or one
// without a pre-shared key, and costs the same.
func VerifySharedKey(registered Verifier, b Binding, user string, proof []byte) (Principal, []byte, error) {
	known := len(registered.Stored) == sha256.Size && len(registered.Server) == sha256.Size
	if !known {
		dummy := sha256.Sum256([]byte("meshcrypt psk/1 nobody"))
		registered = Verifier{Stored: dummy[:], Server: dummy[:]}
	}
	message := b.sharedKeyMessage(user)
	client := mac(registered.Stored, message)
	subtle.XORBytes(client, client, append(proof, make([]byte, sha256.Size)...))
	stored, answer := sha256.Sum256(client), mac(registered.Server, message)
	valid := hmac.Equal(stored[:], registered.Stored) && len(proof) == sha256.Size
	if !valid || !known || CheckUser(user) != nil {
		return Principal{}, nil, ErrDenied
	}
	return Principal{User: user, Method: MethodSharedKey}, answer, nil
}

// Format prints no key, whatever the verb.
func (SharedKey) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "auth.SharedKey(redacted)") }

func (k SharedKey) derive(purpose string) [sha256.Size]byte {
	return [sha256.Size]byte(mac(k.secret[:], labelled("meshcrypt psk/1", []byte(purpose))))
}

func mac(key, message []byte) []byte {
	m := hmac.New(sha256.New, key)
	m.Write(message)
	return m.Sum(nil)
}

func (b Binding) sharedKeyMessage(user string) []byte {
	return labelled("mka1 login psk", b.Exporter[:], b.Hello[:], []byte(user))
}
