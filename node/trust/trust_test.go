package trust

import (
	"crypto/rand"
	"errors"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/crypto/pki"
	"github.com/meshcrypt/meshcrypt/crypto/vault"
	"github.com/meshcrypt/meshcrypt/node/port"
)

// fixture is a mesh's CA, one node of it, and a clock to move.
type fixture struct {
	*testing.T
	authority *pki.Authority
	trust     *Trust
	now       time.Time
	saved     []byte
	saveErr   error
}

func (f *fixture) ok(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{T: t, now: time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)}
	var err error
	f.authority, err = pki.NewAuthority(rand.Reader, identity.ClusterID{1}, f.now)
	f.ok(err)
	key, cert := f.node()
	wrap, err := vault.NewRecipient(rand.Reader)
	f.ok(err)
	f.trust, err = New(Config{
		Cluster: identity.ClusterID{1}, CA: f.authority.Certificate(), Certificate: cert, Identity: key.Seed(), Wrap: wrap.Seed(),
		Save: func(der []byte) error { f.saved = der; return f.saveErr }, Wall: func() time.Time { return f.now },
	})
	f.ok(err)
	return f
}

// node is a key with a certificate of the present hour.
func (f *fixture) node() (identity.Key, []byte) {
	f.Helper()
	key, err := identity.NewKey(rand.Reader)
	f.ok(err)
	cert, err := f.authority.IssueNode(pki.MakeRequest(key), []string{"agent", "voter"}, f.now)
	f.ok(err)
	return key, cert
}

func everybody(identity.NodeID) bool { return true }
func nobody(identity.NodeID) bool    { return false }

// TestDatesCountForMembersAlone: between voters the key decides, or a mesh that
// was off over a weekend would never elect a leader again (design 4).
func TestDatesCountForMembersAlone(t *testing.T) {
	f := newFixture(t)
	key, cert := f.node()
	raw := [][]byte{cert}
	if peer, err := f.trust.Member(raw, everybody); err != nil || peer.Node != key.ID() {
		t.Errorf("a member today: %v", err)
	}
	f.ok(f.trust.Voter(raw, everybody))
	f.now = f.now.Add(7 * 24 * time.Hour)
	if _, err := f.trust.Member(raw, everybody); !errors.Is(err, pki.ErrExpired) {
		t.Errorf("a member after a week: %v", err)
	}
	if err := f.trust.Voter(raw, everybody); err != nil {
		t.Errorf("a voter after a week: %v", err)
	}
	f.now = f.now.Add(-30 * 24 * time.Hour)
	if _, err := f.trust.Member(raw, everybody); !errors.Is(err, pki.ErrNotYetValid) {
		t.Errorf("a member ahead of time: %v", err)
	}
	if err := f.trust.Voter(raw, everybody); err != nil {
		t.Errorf("a voter ahead of time: %v", err)
	}
}

// TestTheListDecides: a certificate counts only while the key is listed.
func TestTheListDecides(t *testing.T) {
	f := newFixture(t)
	_, cert := f.node()
	if _, err := f.trust.Member([][]byte{cert}, nobody); !errors.Is(err, ErrNotMember) {
		t.Errorf("an unlisted member: %v", err)
	}
	if err := f.trust.Voter([][]byte{cert}, nobody); !errors.Is(err, ErrNotVoter) {
		t.Errorf("a key outside the Raft configuration: %v", err)
	}
	foreign, err := pki.NewAuthority(rand.Reader, identity.ClusterID{1}, f.now)
	f.ok(err)
	forged, err := foreign.IssueNode(pki.MakeRequest(f.trust.Key), []string{"voter"}, f.now)
	f.ok(err)
	for name, raw := range map[string][][]byte{"another CA": {forged}, "nothing": nil, "garbage": {{1, 2}}} {
		if _, err := f.trust.Member(raw, everybody); err == nil {
			t.Errorf("%s: a member", name)
		}
		if err := f.trust.Voter(raw, everybody); err == nil {
			t.Errorf("%s: a voter", name)
		}
	}
}

// TestTermOutlivesItsCertificate: it is due again in time, and shown at once.
func TestTermOutlivesItsCertificate(t *testing.T) {
	f := newFixture(t)
	isArbiter := func() bool {
		_, err := pki.VerifyArbiter(f.trust.ArbiterCertificate().Certificate, f.authority.Hash(), identity.ClusterID{1}, f.now)
		return err == nil
	}
	if isArbiter() || f.trust.ArbiterStale() {
		t.Error("an arbiter before the term")
	}
	f.ok(f.trust.BecomeArbiter(f.authority))
	if made := testing.AllocsPerRun(10, func() { f.trust.ArbiterStale() }); made != 0 {
		t.Errorf("%v pieces of memory are made at each tick to see that the certificate is in time", made)
	}
	if !isArbiter() || f.trust.ArbiterStale() {
		t.Error("no arbiter at the start of the term")
	}
	f.now = f.now.Add(pki.ArbiterLife - time.Minute)
	if !isArbiter() || !f.trust.ArbiterStale() {
		t.Error("not due although about to expire")
	}
	f.now = f.now.Add(time.Hour)
	if isArbiter() {
		t.Error("an expired certificate is good")
	}
	f.ok(f.trust.BecomeArbiter(f.authority))
	if !isArbiter() {
		t.Error("not renewed")
	}
	if f.trust.Resign(); isArbiter() || f.trust.ArbiterStale() {
		t.Error("an arbiter after the term")
	}
}

// TestUnsavedCertificateCounts: in this process. To refuse it would have the node renew
// every two seconds, and be out of the mesh when the old one ends.
func TestUnsavedCertificateCounts(t *testing.T) {
	f := newFixture(t)
	if f.trust.Stale() || f.trust.CertificateLeft() != pki.NodeLife {
		t.Errorf("fresh: stale %v, left %v", f.trust.Stale(), f.trust.CertificateLeft())
	}
	f.now = f.now.Add(17 * time.Hour)
	if !f.trust.Stale() {
		t.Error("not stale after two thirds")
	}
	next, err := f.authority.IssueNode(pki.MakeRequest(f.trust.Key), []string{"agent"}, f.now)
	f.ok(err)
	f.saveErr = errors.New("disk full")
	if err := f.trust.Adopt(next); err == nil || f.trust.Stale() {
		t.Errorf("a full disk must be told, and keep nobody from going on with the new one: %v", err)
	}
	f.saveErr = nil
	f.ok(f.trust.Adopt(next))
	if f.trust.Stale() || string(f.saved) != string(next) || string(f.trust.Certificate().Certificate[0]) != string(next) {
		t.Error("not adopted")
	}
}

// judge asks the client side of a TLS configuration what it thinks of a peer.
func judge(t *Trust, alpn string, raw ...[]byte) error {
	var found pki.Peer
	return verdict(t.ToArbiter(alpn, &found), alpn, raw)
}

func TestWhomANodeTalksTo(t *testing.T) {
	f := newFixture(t)
	key, cert := f.node()
	leaf, err := f.authority.IssueArbiter(key.Public(), f.now)
	f.ok(err)
	if err := judge(f.trust, port.ALPNRelay, leaf); err != nil {
		t.Errorf("a relay to the arbiter: %v", err)
	}
	if err := judge(f.trust, port.ALPNRelay, cert); !errors.Is(err, ErrNotArbiter) {
		t.Errorf("a relay to a mere node: %v", err)
	}
	if err := judge(f.trust, port.ALPNStream, cert); err != nil {
		t.Errorf("a stream to a node that will redirect: %v", err)
	}
	if err := verdict(f.trust.ToNode(port.ALPNRaft, key.ID()), port.ALPNRaft, [][]byte{cert}); err != nil {
		t.Errorf("the voter that was dialled: %v", err)
	}
	if err := verdict(f.trust.ToNode(port.ALPNRaft, identity.NodeID{9}), port.ALPNRaft, [][]byte{cert}); !errors.Is(err, ErrNotMember) {
		t.Errorf("another in the place of the dialled: %v", err)
	}
	chain := [][]byte{leaf, f.authority.Certificate()}
	if err := verdict(f.trust.ToRenew(), port.ALPNRenew, chain); err != nil {
		t.Errorf("a renewal at the arbiter: %v", err)
	}
	f.now = f.now.Add(2 * time.Hour)
	if err := verdict(f.trust.ToRenew(), port.ALPNRenew, chain); !errors.Is(err, pki.ErrExpired) {
		t.Errorf("a renewal goes by another clock than the node's: %v", err)
	}
}
