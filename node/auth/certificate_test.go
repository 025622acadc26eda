package auth

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"math/big"
	"testing"

	"github.com/meshcrypt/meshcrypt/crypto/pki"
)

// signers are keys of every kind that is admitted.
func signers(t *testing.T) map[string]crypto.Signer {
	t.Helper()
	_, edwards, errEd := ed25519.GenerateKey(rand.Reader)
	small, err256 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	large, err384 := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	rivest, errRSA := rsa.GenerateKey(rand.Reader, 2048)
	if err := errors.Join(errEd, err256, err384, errRSA); err != nil {
		t.Fatal(err)
	}
	return map[string]crypto.Signer{"Ed25519": edwards, "P-256": small, "P-384": large, "RSA": rivest}
}

func selfSigned(t *testing.T, key crypto.Signer, serial int64) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(serial)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func TestCertificateLogin(t *testing.T) {
	for name, key := range signers(t) {
		t.Run(name, func(t *testing.T) {
			leaf, b := selfSigned(t, key, 1), bindingOf("1")
			signature, err := SignCertificate(rand.Reader, key, b, "alice", leaf.Raw)
			if err != nil {
				t.Fatal(err)
			}
			got, err := VerifyCertificate(leaf, b, "alice", signature)
			if err != nil || got != (Principal{User: "alice", Method: MethodCertificate}) {
				t.Fatalf("got %+v, %v", got, err)
			}
			otherHello, otherExporter := b, b
			otherHello.Hello[31] ^= 1
			otherExporter.Exporter[0] ^= 1
			flipped := bytes.Clone(signature)
			flipped[len(flipped)/2] ^= 1
			another := signers(t)[name]
			foreign, err := SignCertificate(rand.Reader, another, b, "alice", leaf.Raw)
			if err != nil {
				t.Fatal(err)
			}
			for what, try := range map[string]func() (Principal, error){
				"other connection": func() (Principal, error) { return VerifyCertificate(leaf, otherExporter, "alice", signature) },
				"other hello":      func() (Principal, error) { return VerifyCertificate(leaf, otherHello, "alice", signature) },
				"other user":       func() (Principal, error) { return VerifyCertificate(leaf, b, "bob", signature) },
				"malformed user":   func() (Principal, error) { return VerifyCertificate(leaf, b, "a b", signature) },
				"a bit turned":     func() (Principal, error) { return VerifyCertificate(leaf, b, "alice", flipped) },
				"no proof":         func() (Principal, error) { return VerifyCertificate(leaf, b, "alice", nil) },
				"another key's":    func() (Principal, error) { return VerifyCertificate(leaf, b, "alice", foreign) },
				"another certificate's": func() (Principal, error) {
					return VerifyCertificate(selfSigned(t, key, 2), b, "alice", signature)
				},
			} {
				_, err := try()
				wantError(t, what, err, ErrDenied)
			}
		})
	}
}

// TestKeysNotAdmitted: neither end works with a key that is too small or of a kind
// that is not asked for.
func TestKeysNotAdmitted(t *testing.T) {
	large, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	leaf, b := selfSigned(t, large, 1), bindingOf("1")
	_, err = SignCertificate(rand.Reader, large, b, "alice", leaf.Raw)
	wantError(t, "P-521 signs", err, pki.ErrKey)
	_, err = VerifyCertificate(leaf, b, "alice", []byte("x"))
	wantError(t, "P-521 verifies", err, ErrDenied)
	short := &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), 2046), E: 65537}
	wantError(t, "RSA of 2047 bits (I10)", pki.CheckClientKey(short), pki.ErrKey)
	huge := &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), 8192), E: 65537}
	wantError(t, "RSA of 8193 bits (I10)", pki.CheckClientKey(huge), pki.ErrKey)
}
