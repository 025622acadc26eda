package pki

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/base32"
	"fmt"
)

var base32Lower = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// Hash is what tokens and profiles pin: the SHA-256 of the certificate's
// SubjectPublicKeyInfo. It outlives a new certificate for the same CA key.
func Hash(certDER []byte) ([32]byte, error) {
	cert, err := parseCertificate(certDER)
	if err != nil {
		return [32]byte{}, err
	}
	return sha256.Sum256(cert.RawSubjectPublicKeyInfo), nil
}

// KeyHash is Hash for a certificate of any authority.
func KeyHash(cert *x509.Certificate) [32]byte { return sha256.Sum256(cert.RawSubjectPublicKeyInfo) }

// FormatHash gives the 52 base32 characters that follow the # of a gateway.
func FormatHash(hash [32]byte) string { return base32Lower.EncodeToString(hash[:]) }

// ParseHash reads the 52 characters of FormatHash, else ErrHash.
func ParseHash(text string) (hash [32]byte, err error) {
	if !decodeExactly(hash[:], text) {
		return [32]byte{}, fmt.Errorf("%w: want %d characters a-z and 2-7",
			ErrHash, base32Lower.EncodedLen(len(hash)))
	}
	return hash, nil
}

// decodeExactly fills dst from its one canonical base32 text.
func decodeExactly(dst []byte, text string) bool {
	raw, err := base32Lower.DecodeString(text)
	if err != nil || len(raw) != len(dst) || base32Lower.EncodeToString(raw) != text {
		return false
	}
	copy(dst, raw)
	return true
}
