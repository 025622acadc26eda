package pki

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// clientPath follows the cluster in the URI of a client of the mesh's own CA.
const clientPath = "/client/"

// IssueClient answers a request with a certificate that lets a client of that name
// in. Only the key is taken from the request. It is good for client authentication
// alone: it names no node and no role.
func (a *Authority) IssueClient(csrDER []byte, name string, life time.Duration, now time.Time) ([]byte, error) {
	if len(csrDER) > MaxClientCertificate {
		return nil, fmt.Errorf("%w: %d bytes, more than %d", ErrRequest, len(csrDER), MaxClientCertificate)
	}
	request, err := x509.ParseCertificateRequest(csrDER)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	if err := request.CheckSignature(); err != nil {
		return nil, fmt.Errorf("%w: signature is not by its key", ErrRequest)
	}
	if err := CheckClientKey(request.PublicKey); err != nil {
		return nil, err
	}
	if life <= 0 || life > MaxClientLife {
		return nil, fmt.Errorf("%w: a life of %s, want at most %s", ErrRequest, life, MaxClientLife)
	}
	if err := checkDates(a.cert, now); err != nil {
		return nil, fmt.Errorf("CA: %w", err)
	}
	template := clientTemplate(request.RawSubjectPublicKeyInfo, a.cluster, name, now.Add(-Backdate), a.clamp(now.Add(life)))
	der, err := x509.CreateCertificate(nil, template, a.cert, request.PublicKey, a.key.Ed25519())
	if err != nil {
		return nil, fmt.Errorf("pki: issue: %w", err)
	}
	return der, nil
}

func clientTemplate(publicKeyInfo []byte, cluster identity.ClusterID, name string, start, end time.Time) *x509.Certificate {
	uri := authorityName(cluster) + clientPath + name
	return &x509.Certificate{
		SerialNumber:          serial(publicKeyInfo, uri, start, end),
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             start,
		NotAfter:              end,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
		ExtraExtensions:       []pkix.Extension{nameExtension(uri)},
	}
}

// CheckClientKey admits Ed25519, ECDSA on P-256 and P-384, and RSA of 2,048 to
// 8,192 bits, else ErrKey.
func CheckClientKey(public any) error {
	switch key := public.(type) {
	case ed25519.PublicKey:
		return nil
	case *ecdsa.PublicKey:
		if key.Curve == elliptic.P256() || key.Curve == elliptic.P384() {
			return nil
		}
		return fmt.Errorf("%w: ECDSA on %s, want P-256 or P-384", ErrKey, key.Curve.Params().Name)
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits < minRSA || bits > maxRSA {
			return fmt.Errorf("%w: RSA of %d bits, want %d to %d", ErrKey, bits, minRSA, maxRSA)
		}
		return nil
	}
	return fmt.Errorf("%w: %T, want Ed25519, ECDSA or RSA", ErrKey, public)
}

// ParseClientChain reads what a client presents, the leaf first, and judges the
// leaf's form: an end certificate for client authentication, with a usable key.
func ParseClientChain(raw [][]byte) ([]*x509.Certificate, error) {
	if len(raw) == 0 || len(raw) > MaxClientChain {
		return nil, fmt.Errorf("%w: %d certificates, want 1 to %d", ErrCertificate, len(raw), MaxClientChain)
	}
	chain := make([]*x509.Certificate, len(raw))
	for i, der := range raw {
		var err error
		if chain[i], err = parseForeign(der); err != nil {
			return nil, err
		}
	}
	leaf := chain[0]
	signs := leaf.KeyUsage == 0 || leaf.KeyUsage&x509.KeyUsageDigitalSignature != 0
	if leaf.IsCA || !signs || !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageClientAuth) {
		return nil, fmt.Errorf("%w: not an end certificate for client authentication", ErrCertificate)
	}
	return chain, CheckClientKey(leaf.PublicKey)
}

// parseForeign reads a certificate of any authority, and bounds its size before the
// parser sees it.
func parseForeign(der []byte) (*x509.Certificate, error) {
	if len(der) > MaxClientCertificate {
		return nil, fmt.Errorf("%w: %d bytes, more than %d", ErrCertificate, len(der), MaxClientCertificate)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCertificate, err)
	}
	return cert, nil
}

// VerifyClient judges a chain by the trust anchors of one authority: signatures,
// dates, path length, name constraints and key usages. It returns ErrAuthority,
// ErrExpired, ErrNotYetValid or ErrCertificate. Revocation is the registry's.
func VerifyClient(chain []*x509.Certificate, anchors [][]byte, now time.Time) error {
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	for _, der := range anchors {
		if root, err := x509.ParseCertificate(der); err == nil {
			roots.AddCert(root)
		}
	}
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	var unknown x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &unknown):
		return fmt.Errorf("%w: not signed by it", ErrAuthority)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		if err := checkDates(invalid.Cert, now); err != nil {
			return err
		}
	}
	return fmt.Errorf("%w: %w", ErrCertificate, err)
}

// ClientName is whom a verified certificate names: by the mesh's URI
// mesh://<cluster>/client/<name> where it has one, else its only e-mail address,
// else, if it has none, its common name. Whether there is such a client is the
// registry's to say.
func ClientName(leaf *x509.Certificate, cluster identity.ClusterID) (string, error) {
	prefix := authorityName(cluster) + clientPath
	named := func(u *url.URL) bool { return strings.HasPrefix(u.String(), prefix) }
	uris := slices.DeleteFunc(slices.Clone(leaf.URIs), func(u *url.URL) bool { return !named(u) })
	switch {
	case len(uris) == 1:
		return strings.TrimPrefix(uris[0].String(), prefix), nil
	case len(uris) > 1:
		return "", fmt.Errorf("%w: the certificate names %d clients of this mesh", ErrName, len(uris))
	case len(leaf.EmailAddresses) == 1:
		return leaf.EmailAddresses[0], nil
	case len(leaf.EmailAddresses) > 1:
		return "", fmt.Errorf("%w: the certificate has %d e-mail addresses", ErrName, len(leaf.EmailAddresses))
	case leaf.Subject.CommonName != "":
		return leaf.Subject.CommonName, nil
	}
	return "", fmt.Errorf("%w: the certificate has neither e-mail address nor common name", ErrName)
}

// CertificateID names a certificate by what its issuer promises to be unique,
// issuer and serial number. Its signature would not do: that of ECDSA can be
// changed by anybody.
func CertificateID(cert *x509.Certificate) [32]byte {
	// These two marshal whatever they hold.
	number, _ := asn1.Marshal(cert.SerialNumber)
	return sha256.Sum256(append(slices.Clip(slices.Clone(cert.RawIssuer)), number...))
}

// CheckAnchor judges a certificate that is to be imported as a trust anchor.
func CheckAnchor(der []byte, now time.Time) (*x509.Certificate, error) {
	cert, err := parseForeign(der)
	switch {
	case err != nil:
		return nil, err
	case !cert.BasicConstraintsValid || !cert.IsCA:
		return nil, fmt.Errorf("%w: %q is no certificate authority", ErrCertificate, cert.Subject)
	case cert.KeyUsage != 0 && cert.KeyUsage&x509.KeyUsageCertSign == 0:
		return nil, fmt.Errorf("%w: %q may not sign certificates", ErrCertificate, cert.Subject)
	}
	return cert, checkDates(cert, now)
}
