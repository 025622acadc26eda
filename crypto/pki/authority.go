package pki

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"fmt"
	"io"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// Authority is a mesh's CA together with its key: whoever holds one can make
// any node and any arbiter. It never changes after it was made.
type Authority struct {
	key     identity.Key
	cert    *x509.Certificate
	cluster identity.ClusterID
}

// NewAuthority founds the CA of a cluster.
func NewAuthority(random io.Reader, cluster identity.ClusterID, now time.Time) (*Authority, error) {
	key, err := identity.NewKey(random)
	if err != nil {
		return nil, fmt.Errorf("pki: new authority: %w", err)
	}
	template := authorityTemplate(key.Public(), cluster, now)
	der, err := x509.CreateCertificate(nil, template, template, key.Ed25519().Public(), key.Ed25519())
	if err != nil {
		return nil, fmt.Errorf("pki: new authority: %w", err)
	}
	return AuthorityFromKey(der, key.Seed())
}

// AuthorityFromKey restores a CA from its certificate and the seed of its key.
// It returns ErrKey when the two do not belong together.
func AuthorityFromKey(certDER, seed []byte) (*Authority, error) {
	key, err := identity.KeyFromSeed(seed)
	if err != nil {
		return nil, fmt.Errorf("pki: authority: %w", err)
	}
	cert, cluster, err := parseAuthority(certDER)
	if err != nil {
		return nil, err
	}
	if public := key.Public(); !bytes.Equal(cert.PublicKey.(ed25519.PublicKey), public[:]) {
		return nil, fmt.Errorf("%w: CA certificate is of another key", ErrKey)
	}
	return &Authority{key: key, cert: cert, cluster: cluster}, nil
}

// Certificate returns the CA certificate, DER.
func (a *Authority) Certificate() []byte { return slices.Clone(a.cert.Raw) }

// Seed returns the 32 bytes of the CA key, to be sealed by crypto/vault.
func (a *Authority) Seed() []byte { return a.key.Seed() }

// Cluster names the mesh whose CA this is.
func (a *Authority) Cluster() identity.ClusterID { return a.cluster }

// Hash is what tokens and profiles pin.
func (a *Authority) Hash() [32]byte { return sha256.Sum256(a.cert.RawSubjectPublicKeyInfo) }

// Format prints the cluster and never the key.
func (a *Authority) Format(f fmt.State, _ rune) {
	_, _ = io.WriteString(f, "pki: authority of "+a.cluster.String()+" (key redacted)")
}

// IssueNode answers a request with a certificate for NodeLife. Nothing but the
// key is taken from the request. The arbiter role cannot be had this way:
// unknown and forbidden roles return ErrRole.
func (a *Authority) IssueNode(csrDER []byte, roles []string, now time.Time) ([]byte, error) {
	public, err := ParseRequest(csrDER)
	if err != nil {
		return nil, err
	}
	for _, role := range roles {
		if !isNodeRole(role) {
			return nil, fmt.Errorf("%w: no node is given %q", ErrRole, role)
		}
	}
	return a.issue(public, roles, NodeLife, now)
}

// IssueArbiter makes the certificate that a leader shows after its Barrier.
func (a *Authority) IssueArbiter(public identity.PublicKey, now time.Time) ([]byte, error) {
	return a.issue(public, []string{RoleArbiter}, ArbiterLife, now)
}

func isNodeRole(role string) bool {
	switch role {
	case RoleAgent, RoleGateway, RoleVoter, RoleWitness:
		return true
	}
	return false
}

// issue is deterministic: the same key, roles and second give the same bytes,
// so a retried request is answered alike by any arbiter.
func (a *Authority) issue(public identity.PublicKey, roles []string, life time.Duration, now time.Time) ([]byte, error) {
	name := Name{Cluster: a.cluster, Roles: ascending(roles), Node: public.ID()}
	if err := checkRoles(name.Roles); err != nil {
		return nil, err
	}
	if err := checkDates(a.cert, now); err != nil {
		return nil, fmt.Errorf("CA: %w", err)
	}
	template := leafTemplate(public, name, now.Add(-Backdate), a.clamp(now.Add(life)))
	der, err := x509.CreateCertificate(nil, template, a.cert, ed25519.PublicKey(public[:]), a.key.Ed25519())
	if err != nil {
		return nil, fmt.Errorf("pki: issue: %w", err)
	}
	return der, nil
}

// clamp keeps a leaf from outliving its CA.
func (a *Authority) clamp(end time.Time) time.Time {
	if end.After(a.cert.NotAfter) {
		return a.cert.NotAfter
	}
	return end
}

func authorityTemplate(public identity.PublicKey, cluster identity.ClusterID, now time.Time) *x509.Certificate {
	start, end := now.Add(-Backdate), now.AddDate(AuthorityYears, 0, 0)
	id := public.ID()
	return &x509.Certificate{
		SerialNumber:          serial(public[:], authorityName(cluster), start, end),
		Subject:               pkix.Name{CommonName: "meshcrypt " + cluster.String()},
		NotBefore:             start,
		NotAfter:              end,
		KeyUsage:              x509.KeyUsageCertSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
		SubjectKeyId:          id[:20],
		ExtraExtensions:       []pkix.Extension{nameExtension(authorityName(cluster))},
	}
}

func leafTemplate(public identity.PublicKey, name Name, start, end time.Time) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber:          serial(public[:], name.String(), start, end),
		NotBefore:             start,
		NotAfter:              end,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
		ExtraExtensions:       []pkix.Extension{nameExtension(name.String())},
	}
}

// serial is a hash of what the certificate says. Refusal goes by key and never
// by serial alone, and Ed25519 hashes with SHA-512, so it need not be a secret.
func serial(public []byte, name string, start, end time.Time) *big.Int {
	var text strings.Builder
	text.WriteString("meshcrypt serial")
	text.Write(public)
	text.Write(binary.BigEndian.AppendUint64(nil, uint64(start.Unix())))
	text.Write(binary.BigEndian.AppendUint64(nil, uint64(end.Unix())))
	text.WriteString(name)
	digest := sha256.Sum256([]byte(text.String()))
	digest[0] = digest[0]&0x3f | 0x40 // positive, and always of 16 bytes
	return new(big.Int).SetBytes(digest[:16])
}
