package pki

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// Peer is who stands at the other end, as its certificate says. What it may do
// is for the registry to say.
type Peer struct {
	Key       identity.PublicKey
	Node      identity.NodeID
	Cluster   identity.ClusterID
	Roles     []string
	NotBefore time.Time
	NotAfter  time.Time
}

// Has reports whether the certificate names the role.
func (p Peer) Has(role string) bool { return slices.Contains(p.Roles, role) }

// VerifyArbiter judges the chain that an arbiter presents, leaf then CA
// certificate, by the pinned hash of the CA key. It returns ErrAuthority,
// ErrCluster, ErrRole, ErrExpired, ErrNotYetValid or an error of the form.
func VerifyArbiter(rawCerts [][]byte, caHash [32]byte, cluster identity.ClusterID, now time.Time) (Peer, error) {
	return verifyPinned(rawCerts, caHash, cluster, now, RoleArbiter)
}

// VerifyGateway is VerifyArbiter for a node that may be a gateway.
func VerifyGateway(rawCerts [][]byte, caHash [32]byte, cluster identity.ClusterID, now time.Time) (Peer, error) {
	return verifyPinned(rawCerts, caHash, cluster, now, RoleGateway)
}

func verifyPinned(rawCerts [][]byte, caHash [32]byte, cluster identity.ClusterID, now time.Time, role string) (Peer, error) {
	peer, err := learn(rawCerts, caHash, now, role)
	if err != nil {
		return Peer{}, err
	}
	if peer.Cluster != cluster {
		return Peer{}, fmt.Errorf("%w: %s, want %s", ErrCluster, peer.Cluster, cluster)
	}
	return peer, nil
}

// LearnArbiter is VerifyArbiter for those who hold the CA hash alone (a join
// token, host#hash): the CA signs for one cluster only, and Peer names it.
// rawCerts[1] is then the CA certificate to keep.
func LearnArbiter(rawCerts [][]byte, caHash [32]byte, now time.Time) (Peer, error) {
	return learn(rawCerts, caHash, now, RoleArbiter)
}

// learn judges leaf and CA certificate by the hash of the CA key and the role.
func learn(rawCerts [][]byte, caHash [32]byte, now time.Time, role string) (Peer, error) {
	if len(rawCerts) != MaxChain {
		return Peer{}, fmt.Errorf("%w: %d certificates, want leaf and CA", ErrCertificate, len(rawCerts))
	}
	ca, cluster, err := parseAuthority(rawCerts[1])
	if err != nil {
		return Peer{}, err
	}
	if sha256.Sum256(ca.RawSubjectPublicKeyInfo) != caHash {
		return Peer{}, fmt.Errorf("%w: its key has another hash", ErrAuthority)
	}
	peer, leaf, err := verifyLeaf(rawCerts[0], ca, cluster)
	if err != nil {
		return Peer{}, err
	}
	if !peer.Has(role) {
		return Peer{}, fmt.Errorf("%w: node %s is no %s", ErrRole, peer.Node.Short(), role)
	}
	if err := checkBoth(leaf, ca, now); err != nil {
		return Peer{}, err
	}
	return peer, nil
}

// Judged is a node's certificate of which all is right that time does not change: form,
// signature, name and key. It is small, for thousands are kept: the certificates that it
// is of take 5 KiB.
type Judged struct {
	Peer             Peer
	caBegins, caEnds time.Time
}

// Judge looks at the certificates that a node presents. Only the first is
// read: trust comes from caDER, which the caller has from the registry.
func Judge(rawCerts [][]byte, caDER []byte, cluster identity.ClusterID) (Judged, error) {
	peer, _, ca, err := verifyNode(rawCerts, caDER, cluster)
	if err != nil {
		return Judged{}, err
	}
	return Judged{peer, ca.NotBefore, ca.NotAfter}, nil
}

// At is who it is of, if the dates hold.
func (j Judged) At(now time.Time) (Peer, error) {
	if err := checkSpan(j.Peer.NotBefore, j.Peer.NotAfter, now); err != nil {
		return Peer{}, err
	}
	if err := checkSpan(j.caBegins, j.caEnds, now); err != nil {
		return Peer{}, fmt.Errorf("CA: %w", err)
	}
	return j.Peer, nil
}

// VerifyNode is Judge and At in one.
func VerifyNode(rawCerts [][]byte, caDER []byte, cluster identity.ClusterID, now time.Time) (Peer, error) {
	j, err := Judge(rawCerts, caDER, cluster)
	if err != nil {
		return Peer{}, err
	}
	return j.At(now)
}

// VerifyNodeKey is VerifyNode without dates. It is for TLS between voters,
// where the peer's key must be in one's own Raft configuration: a mesh that
// was off for longer than a certificate lives must still elect a leader.
func VerifyNodeKey(rawCerts [][]byte, caDER []byte, cluster identity.ClusterID) (Peer, error) {
	j, err := Judge(rawCerts, caDER, cluster)
	return j.Peer, err
}

// VerifyRenewal admits a node to renewal and to nothing else: until RenewGrace
// past expiry, and also ahead of its certificate's first second, since one of
// the two clocks may have been wrong. The caller checks that the key is listed.
func VerifyRenewal(rawCerts [][]byte, caDER []byte, cluster identity.ClusterID, now time.Time) (Peer, error) {
	peer, leaf, ca, err := verifyNode(rawCerts, caDER, cluster)
	if err != nil {
		return Peer{}, err
	}
	if now.After(leaf.NotAfter.Add(RenewGrace)) {
		return Peer{}, fmt.Errorf("%w on %s, too long ago to renew: join again",
			ErrExpired, leaf.NotAfter.Format(time.RFC3339))
	}
	if err := checkDates(ca, now); err != nil {
		return Peer{}, fmt.Errorf("CA: %w", err)
	}
	return peer, nil
}

func verifyNode(rawCerts [][]byte, caDER []byte, cluster identity.ClusterID) (Peer, *x509.Certificate, *x509.Certificate, error) {
	if len(rawCerts) == 0 || len(rawCerts) > MaxChain {
		return Peer{}, nil, nil, fmt.Errorf("%w: %d certificates, want 1 to %d",
			ErrCertificate, len(rawCerts), MaxChain)
	}
	ca, own, err := parseAuthority(caDER)
	if err != nil {
		return Peer{}, nil, nil, err
	}
	if own != cluster {
		return Peer{}, nil, nil, fmt.Errorf("%w: CA of %s, want %s", ErrCluster, own, cluster)
	}
	peer, leaf, err := verifyLeaf(rawCerts[0], ca, cluster)
	return peer, leaf, ca, err
}

// verifyLeaf checks form, signature, name and key, and no date.
func verifyLeaf(raw []byte, ca *x509.Certificate, cluster identity.ClusterID) (Peer, *x509.Certificate, error) {
	leaf, err := parseCertificate(raw)
	if err != nil {
		return Peer{}, nil, err
	}
	if err := checkLeafForm(leaf); err != nil {
		return Peer{}, nil, err
	}
	if err := leaf.CheckSignatureFrom(ca); err != nil || !bytes.Equal(leaf.RawIssuer, ca.RawSubject) {
		return Peer{}, nil, fmt.Errorf("%w: leaf is signed by another", ErrAuthority)
	}
	peer, err := readPeer(leaf)
	if err != nil {
		return Peer{}, nil, err
	}
	if peer.Cluster != cluster {
		return Peer{}, nil, fmt.Errorf("%w: %s, want %s", ErrCluster, peer.Cluster, cluster)
	}
	return peer, leaf, nil
}

func readPeer(leaf *x509.Certificate) (Peer, error) {
	text, err := certificateName(leaf)
	if err != nil {
		return Peer{}, err
	}
	name, err := ParseName(text)
	if err != nil {
		return Peer{}, err
	}
	key := identity.PublicKey(leaf.PublicKey.(ed25519.PublicKey))
	if key.ID() != name.Node {
		return Peer{}, fmt.Errorf("%w: certificate of %s names node %s", ErrKey, key.ID().Short(), name.Node.Short())
	}
	return Peer{
		Key: key, Node: name.Node, Cluster: name.Cluster, Roles: name.Roles,
		NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter,
	}, nil
}

// parseCertificate bounds the size before the parser sees it, and admits
// Ed25519 keys and signatures alone.
func parseCertificate(der []byte) (*x509.Certificate, error) {
	if len(der) > MaxCertificate {
		return nil, fmt.Errorf("%w: %d bytes, more than %d", ErrCertificate, len(der), MaxCertificate)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCertificate, err)
	}
	if _, ok := cert.PublicKey.(ed25519.PublicKey); !ok || cert.SignatureAlgorithm != x509.PureEd25519 {
		return nil, fmt.Errorf("%w: not Ed25519", ErrCertificate)
	}
	if cert.Version != 3 || len(cert.UnhandledCriticalExtensions) != 0 {
		return nil, fmt.Errorf("%w: version or critical extension not understood", ErrCertificate)
	}
	return cert, nil
}

func checkLeafForm(leaf *x509.Certificate) error {
	usable := slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageServerAuth) &&
		slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageClientAuth)
	if leaf.IsCA || leaf.KeyUsage != x509.KeyUsageDigitalSignature || !usable {
		return fmt.Errorf("%w: not an end certificate for both sides of TLS", ErrCertificate)
	}
	return nil
}

// parseAuthority reads a CA certificate and the cluster it signs for. Its own
// signature is checked, because a pin covers the key alone: anybody could put
// another cluster or other dates around the same key.
func parseAuthority(der []byte) (*x509.Certificate, identity.ClusterID, error) {
	var cluster identity.ClusterID
	ca, err := parseCertificate(der)
	if err != nil {
		return nil, cluster, err
	}
	if err := ca.CheckSignatureFrom(ca); err != nil {
		return nil, cluster, fmt.Errorf("%w: no self-signed CA: %w", ErrCertificate, err)
	}
	text, err := certificateName(ca)
	if err != nil {
		return nil, cluster, err
	}
	if len(text) < len(scheme) || cluster.UnmarshalText([]byte(text[len(scheme):])) != nil || authorityName(cluster) != text {
		return nil, identity.ClusterID{}, fmt.Errorf("%w: CA named %q", ErrName, text)
	}
	return ca, cluster, nil
}

func checkBoth(leaf, ca *x509.Certificate, now time.Time) error {
	if err := checkDates(leaf, now); err != nil {
		return err
	}
	if err := checkDates(ca, now); err != nil {
		return fmt.Errorf("CA: %w", err)
	}
	return nil
}

func checkDates(cert *x509.Certificate, now time.Time) error {
	return checkSpan(cert.NotBefore, cert.NotAfter, now)
}

// checkSpan counts both ends as valid (RFC 5280 4.1.2.5). What it says has both
// clocks in it: that of who signed, by the date, and that of who judges.
func checkSpan(begins, ends, now time.Time) error {
	if now.Before(begins) {
		return fmt.Errorf("%w: it begins %s, and the clock of this host says %s, %v before that", ErrNotYetValid,
			begins.Format(time.RFC3339), now.UTC().Format(time.RFC3339), begins.Sub(now).Round(time.Second))
	}
	if now.After(ends) {
		return fmt.Errorf("%w: it ended %s, and the clock of this host says %s, %v after that", ErrExpired,
			ends.Format(time.RFC3339), now.UTC().Format(time.RFC3339), now.Sub(ends).Round(time.Second))
	}
	return nil
}
