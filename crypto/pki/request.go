package pki

import (
	"crypto/ed25519"
	"fmt"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// RequestSize is the length of every certificate request.
const RequestSize = len(requestHead) + keySize + len(requestTail) + ed25519.SignatureSize

const keySize = ed25519.PublicKeySize

// A request is PKCS #10 (RFC 2986) with an empty subject and no attributes, so
// it is the same bytes but for key and signature. Building and comparing those
// leaves nothing to parse, and nothing that a requester wrote beside its key.
const (
	requestHead = "\x30\x7f" + requestBody
	requestBody = "\x30\x33\x02\x01\x00" + // version 0
		"\x30\x00" + // empty subject
		"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00" // Ed25519 key (RFC 8410)
	requestAttributes = "\xa0\x00"
	requestTail       = requestAttributes + "\x30\x05\x06\x03\x2b\x65\x70\x03\x41\x00" // Ed25519 signature
)

// MakeRequest asks for a certificate of the key, DER.
func MakeRequest(key identity.Key) []byte {
	public := key.Public()
	out := make([]byte, 0, RequestSize)
	out = append(out, requestHead...)
	out = append(out, public[:]...)
	out = append(out, requestTail...)
	return append(out, ed25519.Sign(key.Ed25519(), signedPart(public))...)
}

// ParseRequest returns the key that the request proves to hold, or ErrRequest.
func ParseRequest(der []byte) (identity.PublicKey, error) {
	if len(der) != RequestSize {
		return identity.PublicKey{}, fmt.Errorf("%w: %d bytes, want %d", ErrRequest, len(der), RequestSize)
	}
	head, rest := der[:len(requestHead)], der[len(requestHead):]
	public, rest := identity.PublicKey(rest[:keySize]), rest[keySize:]
	tail, signature := rest[:len(requestTail)], rest[len(requestTail):]
	if string(head) != requestHead || string(tail) != requestTail {
		return identity.PublicKey{}, fmt.Errorf("%w: more or other than an Ed25519 key", ErrRequest)
	}
	if !ed25519.Verify(public[:], signedPart(public), signature) {
		return identity.PublicKey{}, fmt.Errorf("%w: signature is not by its key", ErrRequest)
	}
	return public, nil
}

// signedPart is the CertificationRequestInfo of the key.
func signedPart(public identity.PublicKey) []byte {
	out := append([]byte(requestBody), public[:]...)
	return append(out, requestAttributes...)
}
