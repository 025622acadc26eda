// Package auth says who stands at the other end of a client's connection: a
// credential and a proof go in, a Principal comes out. What the principal may
// do is for policy and registry.
//
// Every proof is bound to one TLS connection and one hello (M1), so it serves
// nobody else and never again. No password reaches any node: the client turns it
// into a key, and the registry holds the public half. A pre-shared key is stretched
// too, and proved by HMAC both ways; the registry's half lets nobody in. A
// certificate's key signs. Whoever reads the registry can still guess passwords
// offline, at the price of Cost for each guess.
//
// The package owns key derivation, proofs and the grammar of user names. It
// does not own the registry's lists, sessions, attempts per minute, TLS, or who
// signed a certificate (crypto/pki).
package auth

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// Why somebody is not let in. ErrDenied has no detail on purpose: an unknown
// user and a wrong password are the same answer.
var (
	ErrDenied   = errors.New("auth: not authenticated")
	ErrUser     = errors.New("auth: malformed user name")
	ErrPassword = errors.New("auth: password is empty or too long")
	ErrCost     = errors.New("auth: cost out of range")
)

// Method is how a principal proved itself.
type Method string

// The methods.
const (
	MethodPassword Method = "password"
	MethodSession  Method = "session" // resumption by the session's key

	MethodCertificate Method = "certificate"
	MethodSharedKey   Method = "psk"
)

// Principal is somebody whose proof held. User is a client's name in the
// registry. It carries no rights.
type Principal struct {
	User   string
	Method Method
}

// IdentityHash stands for the principal in grants, where agents need not learn
// the name. It does not depend on the method: who resumes is still the same.
func (p Principal) IdentityHash(cluster identity.ClusterID) [32]byte {
	return sha256.Sum256(labelled("meshcrypt identity/1", cluster[:], []byte(p.User)))
}

// Binding is what every proof covers beside its own subject.
type Binding struct {
	Exporter [32]byte // keying material exported from the TLS connection
	Hello    [32]byte // SHA-256 of M1 as sent, which names the session's key
}

// dummyKey is the public key that stands in for one we do not have, so that
// an unknown name costs a full verification too. Its private half is public
// (RFC 8032 7.1, test 1); a proof made with it is refused all the same.
func dummyKey() identity.PublicKey {
	return identity.PublicKey{
		0xd7, 0x5a, 0x98, 0x01, 0x82, 0xb1, 0x0a, 0xb7, 0xd5, 0x4b, 0xfe, 0xd3, 0xc9, 0x64, 0x07, 0x3a,
		0x0e, 0xe1, 0x72, 0xf3, 0xda, 0xa6, 0x23, 0x25, 0xaf, 0x02, 0x1a, 0x68, 0xf7, 0x07, 0x51, 0x1a,
	}
}

// verify checks a signature by a key that may be missing. The zero key counts
// as missing: it is a point of order 4, for which anybody can sign.
func verify(key identity.PublicKey, context string, message, signature []byte) bool {
	known := key != identity.PublicKey{} && key != dummyKey()
	if !known {
		key = dummyKey()
	}
	valid := key.Verify(context, message, signature)
	return known && valid
}

// CheckUser returns ErrUser unless the name is 1 to MaxUser of a-z A-Z 0-9 . _
// - @ and begins with a letter or digit. Names are compared byte for byte.
func CheckUser(name string) error {
	if len(name) == 0 || len(name) > MaxUser {
		return fmt.Errorf("%w: %d bytes, want 1 to %d", ErrUser, len(name), MaxUser)
	}
	for i := range len(name) {
		c := name[i]
		if isAlphanumeric(c) || i > 0 && (c == '.' || c == '_' || c == '-' || c == '@') {
			continue
		}
		return fmt.Errorf("%w: %q at %d; letters, digits and . _ - @ are allowed, a letter or digit first",
			ErrUser, c, i+1)
	}
	return nil
}

func isAlphanumeric(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

// labelled joins a label and parts, each behind its length.
func labelled(label string, parts ...[]byte) []byte {
	out := append([]byte{byte(len(label))}, label...)
	for _, part := range parts {
		out = binary.BigEndian.AppendUint32(out, uint32(len(part)))
		out = append(out, part...)
	}
	return out
}
