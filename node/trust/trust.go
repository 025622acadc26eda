// Package trust is who this node is and whom it talks to: its keys, its
// certificates, and the judgement of peers at the port. Identity is the key: a
// certificate counts only while the registry lists that key.
//
// The package owns the node's certificates in memory. It does not own the
// list of members, files (node/datadir) or connections (node/port).
package trust

import (
	"crypto/tls"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/crypto/pki"
	"github.com/meshcrypt/meshcrypt/crypto/vault"
	"github.com/meshcrypt/meshcrypt/node/port"
)

// Why a peer is turned away at the port, beside pki's own reasons.
var (
	ErrNotMember  = errors.New("trust: the peer's key is not a member of this mesh")
	ErrNotVoter   = errors.New("trust: the peer's key is not in the Raft configuration")
	ErrNotArbiter = errors.New("trust: the peer is not the arbiter")
)

// Trust is this node's side of every connection.
type Trust struct {
	Key     identity.Key
	Wrap    vault.Recipient
	Cluster identity.ClusterID
	CA      []byte // certificate, DER
	CAHash  [32]byte
	// Save stores a renewed node certificate, DER.
	save func([]byte) error
	wall func() time.Time

	judged judged

	mu      sync.Mutex // protects what follows
	leaf    []byte     // node certificate, DER
	arbiter *tls.Certificate
	renewal pki.Renewal // of arbiter
}

// Config is what a Trust is built from.
type Config struct {
	Cluster     identity.ClusterID
	CA          []byte // certificate, DER
	Certificate []byte // the node's own, DER
	Identity    []byte // seed of the node's key
	Wrap        []byte // seed of its key for sealed secrets
	Save        func(certificate []byte) error
	Wall        func() time.Time
}

// New restores a node's trust from what its data directory holds.
func New(c Config) (t *Trust, err error) {
	t = &Trust{Cluster: c.Cluster, CA: c.CA, leaf: c.Certificate, save: c.Save, wall: c.Wall}
	if t.Key, err = identity.KeyFromSeed(c.Identity); err != nil {
		return nil, err
	}
	if t.Wrap, err = vault.RecipientFromSeed(c.Wrap); err != nil {
		return nil, err
	}
	t.CAHash, err = pki.Hash(c.CA)
	return t, err
}

// Certificate is what this node shows as a node.
func (t *Trust) Certificate() *tls.Certificate {
	t.mu.Lock()
	defer t.mu.Unlock()
	return pki.Certificate(t.Key, t.leaf, t.CA)
}

// ArbiterCertificate is what it shows while it is the arbiter; as a node otherwise.
func (t *Trust) ArbiterCertificate() *tls.Certificate {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.arbiter != nil {
		return t.arbiter
	}
	return pki.Certificate(t.Key, t.leaf, t.CA)
}

// BecomeArbiter mints the certificate of this term.
func (t *Trust) BecomeArbiter(authority *pki.Authority) error {
	leaf, err := authority.IssueArbiter(t.Key.Public(), t.wall())
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.arbiter, t.renewal = pki.Certificate(t.Key, leaf, t.CA), pki.RenewalOf(leaf)
	return nil
}

// ArbiterStale reports whether the certificate of this term is due again: a
// term may outlive it. It is asked at each tick.
func (t *Trust) ArbiterStale() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.arbiter != nil && t.renewal.Due(t.wall())
}

// Resign forgets it.
func (t *Trust) Resign() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.arbiter = nil
}

// Adopt takes a renewed certificate. If it cannot be saved it counts all the same, in
// this process; the file has the old one still, which can be renewed after a restart.
func (t *Trust) Adopt(leaf []byte) error {
	t.mu.Lock()
	t.leaf = leaf
	t.mu.Unlock()
	return t.save(leaf)
}

// Stale reports whether two thirds of the certificate's life are over.
func (t *Trust) Stale() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return pki.NeedsRenewal(t.leaf, t.wall())
}

// CertificateLeft is how long the certificate is still valid.
func (t *Trust) CertificateLeft() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	peer, err := t.Peer([][]byte{t.leaf})
	if err != nil {
		return 0
	}
	return peer.NotAfter.Sub(t.wall())
}

// Member judges a node by its certificate and by the list of members.
func (t *Trust) Member(raw [][]byte, listed func(identity.NodeID) bool) (pki.Peer, error) {
	peer, err := t.peerNow(raw)
	if err != nil {
		return pki.Peer{}, err
	}
	if !listed(peer.Node) {
		return pki.Peer{}, fmt.Errorf("%w: %s", ErrNotMember, peer.Node.Short())
	}
	return peer, nil
}

// Voter judges a peer of the Raft port: only keys of the Raft configuration,
// or about to be added to it, get in; dates do not count, or a mesh that was
// off over a weekend would never elect a leader again.
func (t *Trust) Voter(raw [][]byte, inConfiguration func(identity.NodeID) bool) error {
	peer, err := t.Peer(raw)
	if err != nil {
		return err
	}
	if !inConfiguration(peer.Node) {
		return fmt.Errorf("%w: %s", ErrNotVoter, peer.Node.Short())
	}
	return nil
}

// Listed judges a node by its key alone, as Member does without dates.
func (t *Trust) Listed(raw [][]byte, listed func(identity.NodeID) bool) error {
	peer, err := t.Peer(raw)
	if err == nil && !listed(peer.Node) {
		err = fmt.Errorf("%w: %s", ErrNotMember, peer.Node.Short())
	}
	return err
}

// ToRenew is the TLS side of a renewal: the peer must be the arbiter.
func (t *Trust) ToRenew() *tls.Config {
	return pki.Client(port.ALPNRenew, t.Certificate, func(raw [][]byte) error {
		_, err := pki.VerifyArbiter(raw, t.CAHash, t.Cluster, t.wall())
		return err
	})
}

// ToNode is the TLS side of a connection to a certain node.
func (t *Trust) ToNode(alpn string, want identity.NodeID) *tls.Config {
	return pki.Client(alpn, t.Certificate, func(raw [][]byte) error {
		peer, err := t.Peer(raw)
		if err == nil && peer.Node != want {
			err = fmt.Errorf("%w: %s answered in place of %s", ErrNotMember, peer.Node.Short(), want.Short())
		}
		return err
	})
}

// ToArbiter is the TLS side of a connection to whoever may be the arbiter;
// the peer is reported through found.
func (t *Trust) ToArbiter(alpn string, found *pki.Peer) *tls.Config {
	return pki.Client(alpn, t.Certificate, func(raw [][]byte) (err error) {
		*found, err = t.peerNow(raw)
		if alpn != port.ALPNStream && err == nil && !found.Has(pki.RoleArbiter) {
			return fmt.Errorf("%w: %s does not lead", ErrNotArbiter, found.Node.Short())
		}
		return err
	})
}
