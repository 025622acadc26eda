package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"fmt"
	"io"

	"github.com/meshcrypt/meshcrypt/crypto/pki"
)

const certificateContext = "mka1 login certificate"

// SignCertificate proves, on this connection and for this hello, that the client
// holds the key of its certificate: by Ed25519, ECDSA or RSA-PSS, as the key is.
func SignCertificate(random io.Reader, key crypto.Signer, b Binding, user string, leaf []byte) ([]byte, error) {
	if err := pki.CheckClientKey(key.Public()); err != nil {
		return nil, err
	}
	message := b.certificateMessage(user, leaf)
	digest, options := digestFor(key.Public(), message)
	signature, err := key.Sign(random, digest, options)
	if err != nil {
		return nil, fmt.Errorf("auth: sign with the certificate's key: %w", err)
	}
	return signature, nil
}

// VerifyCertificate returns the principal, or ErrDenied. That the certificate is
// genuine, and names this user, is judged by crypto/pki and the registry.
func VerifyCertificate(leaf *x509.Certificate, b Binding, user string, signature []byte) (Principal, error) {
	if pki.CheckClientKey(leaf.PublicKey) != nil || CheckUser(user) != nil {
		return Principal{}, ErrDenied
	}
	digest, options := digestFor(leaf.PublicKey, b.certificateMessage(user, leaf.Raw))
	var valid bool
	switch key := leaf.PublicKey.(type) {
	case ed25519.PublicKey:
		valid = ed25519.Verify(key, digest, signature)
	case *ecdsa.PublicKey:
		valid = ecdsa.VerifyASN1(key, digest, signature)
	case *rsa.PublicKey:
		valid = rsa.VerifyPSS(key, options.HashFunc(), digest, signature, pss()) == nil
	}
	if !valid {
		return Principal{}, ErrDenied
	}
	return Principal{User: user, Method: MethodCertificate}, nil
}

// digestFor is what a key of this kind signs of a message, and how.
func digestFor(public any, text []byte) ([]byte, crypto.SignerOpts) {
	switch key := public.(type) {
	case *ecdsa.PublicKey:
		if key.Curve == elliptic.P384() {
			digest := sha512.Sum384(text)
			return digest[:], crypto.SHA384
		}
		digest := sha256.Sum256(text)
		return digest[:], crypto.SHA256
	case *rsa.PublicKey:
		digest := sha256.Sum256(text)
		return digest[:], pss()
	}
	return text, crypto.Hash(0) // Ed25519 hashes by itself
}

func pss() *rsa.PSSOptions {
	return &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256}
}

func (b Binding) certificateMessage(user string, leaf []byte) []byte {
	digest := sha256.Sum256(leaf)
	return labelled(certificateContext, b.Exporter[:], b.Hello[:], []byte(user), digest[:])
}
