package pki

import (
	"crypto/ed25519"
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

func TestVerifyNode(t *testing.T) {
	m := newMesh(t, "a")
	for _, chain := range [][][]byte{m.node, m.node[:1]} {
		peer, err := VerifyNode(chain, m.Certificate(), m.Cluster(), founded())
		if err != nil {
			t.Fatal(err)
		}
		if peer.Key != m.key.Public() || peer.Node != m.key.ID() || peer.Cluster != m.Cluster() {
			t.Errorf("wrong peer: %+v", peer)
		}
		if !slices.Equal(peer.Roles, []string{RoleAgent, RoleGateway}) || peer.Has(RoleVoter) || !peer.Has(RoleAgent) {
			t.Errorf("wrong roles: %v", peer.Roles)
		}
		if !peer.NotAfter.Equal(founded().Add(NodeLife)) {
			t.Errorf("ends %s", peer.NotAfter)
		}
	}
}

func TestVerifyArbiter(t *testing.T) {
	m := newMesh(t, "a")
	peer, err := VerifyArbiter(m.arbiter, m.Hash(), m.Cluster(), founded())
	if err != nil || peer.Node != m.key.ID() || !peer.NotAfter.Equal(founded().Add(ArbiterLife)) {
		t.Errorf("arbiter: %+v, %v", peer, err)
	}
	learned, err := LearnArbiter(m.arbiter, m.Hash(), founded())
	if err != nil || learned.Cluster != m.Cluster() {
		t.Errorf("learned: %+v, %v", learned, err)
	}
}

// TestVerifyGateway: by the same rules, but for the role.
func TestVerifyGateway(t *testing.T) {
	m, other := newMesh(t, "a"), newMesh(t, "b")
	peer, err := VerifyGateway(m.node, m.Hash(), m.Cluster(), founded())
	if err != nil || peer.Node != m.key.ID() {
		t.Errorf("gateway: %+v, %v", peer, err)
	}
	_, err = VerifyGateway(m.arbiter, m.Hash(), m.Cluster(), founded())
	wantError(t, "arbiter's certificate", err, ErrRole)
	_, err = VerifyGateway(other.node, m.Hash(), m.Cluster(), founded())
	wantError(t, "another mesh's", err, ErrAuthority)
	_, err = VerifyGateway(m.node, m.Hash(), m.Cluster(), founded().Add(NodeLife+time.Second))
	wantError(t, "expired", err, ErrExpired)
}

func TestVerifyArbiterRefuses(t *testing.T) {
	m, other := newMesh(t, "a"), newMesh(t, "b")
	hash, cluster, now := m.Hash(), m.Cluster(), founded()
	for _, c := range []struct {
		what    string
		chain   [][]byte
		hash    [32]byte
		cluster identity.ClusterID
		now     time.Time
		want    error
	}{
		{"no certificate", nil, hash, cluster, now, ErrCertificate},
		{"leaf alone", m.arbiter[:1], hash, cluster, now, ErrCertificate},
		{"one too many (I10)", append(slices.Clone(m.arbiter), m.arbiter[1]), hash, cluster, now, ErrCertificate},
		{"leaf twice", [][]byte{m.arbiter[0], m.arbiter[0]}, hash, cluster, now, ErrCertificate},
		{"CA as leaf", [][]byte{m.arbiter[1], m.arbiter[1]}, hash, cluster, now, ErrCertificate},
		{"wrong CA hash", m.arbiter, other.Hash(), cluster, now, ErrAuthority},
		{"wrong CA", other.arbiter, hash, cluster, now, ErrAuthority},
		{"right CA beside foreign leaf", [][]byte{other.arbiter[0], m.arbiter[1]}, hash, cluster, now, ErrAuthority},
		{"wrong cluster", m.arbiter, hash, other.Cluster(), now, ErrCluster},
		{"zero cluster", m.arbiter, hash, identity.ClusterID{}, now, ErrCluster},
		{"wrong role", m.node, hash, cluster, now, ErrRole},
		{"last second", m.arbiter, hash, cluster, now.Add(ArbiterLife), nil},
		{"expired by a second", m.arbiter, hash, cluster, now.Add(ArbiterLife + time.Second), ErrExpired},
		{"clock behind", m.arbiter, hash, cluster, now.Add(-Backdate), nil},
		{"clock too far behind", m.arbiter, hash, cluster, now.Add(-Backdate - time.Second), ErrNotYetValid},
	} {
		peer, err := VerifyArbiter(c.chain, c.hash, c.cluster, c.now)
		wantError(t, c.what, err, c.want)
		if err != nil && peer.Node != (identity.NodeID{}) {
			t.Errorf("%s: a refused peer is returned", c.what)
		}
	}
}

func TestVerifyNodeRefuses(t *testing.T) {
	m, other := newMesh(t, "a"), newMesh(t, "b")
	now := founded()
	for _, c := range []struct {
		what    string
		chain   [][]byte
		ca      []byte
		cluster identity.ClusterID
		now     time.Time
		want    error
	}{
		{"no certificate", nil, m.Certificate(), m.Cluster(), now, ErrCertificate},
		{"garbage", [][]byte{[]byte("garbage")}, m.Certificate(), m.Cluster(), now, ErrCertificate},
		{"one too many (I10)", append(slices.Clone(m.node), m.node[1]), m.Certificate(), m.Cluster(), now, ErrCertificate},
		{"too large (I10)", [][]byte{make([]byte, MaxCertificate+1)}, m.Certificate(), m.Cluster(), now, ErrCertificate},
		{"CA as node", [][]byte{m.Certificate()}, m.Certificate(), m.Cluster(), now, ErrCertificate},
		{"wrong CA", other.node, m.Certificate(), m.Cluster(), now, ErrAuthority},
		{"wrong cluster", m.node, m.Certificate(), other.Cluster(), now, ErrCluster},
		{"no CA", m.node, nil, m.Cluster(), now, ErrCertificate},
		{"leaf as CA", m.node, m.node[0], m.Cluster(), now, ErrCertificate},
		{"last second", m.node, m.Certificate(), m.Cluster(), now.Add(NodeLife), nil},
		{"expired by a second", m.node, m.Certificate(), m.Cluster(), now.Add(NodeLife + time.Second), ErrExpired},
		{"not yet", m.node, m.Certificate(), m.Cluster(), now.Add(-time.Hour), ErrNotYetValid},
	} {
		_, err := VerifyNode(c.chain, c.ca, c.cluster, c.now)
		wantError(t, c.what, err, c.want)
	}
}

// forge signs a template by the mesh's own CA, to show that a signature alone
// is not enough.
func forge(t *testing.T, m mesh, change func(*x509.Certificate)) [][]byte {
	t.Helper()
	name := Name{Cluster: m.Cluster(), Roles: []string{RoleAgent}, Node: m.key.ID()}
	public := m.key.Public()
	template := leafTemplate(public, name, founded(), founded().Add(NodeLife))
	change(template)
	der, err := x509.CreateCertificate(nil, template, m.cert, ed25519.PublicKey(public[:]), m.Authority.key.Ed25519())
	if err != nil {
		t.Fatal(err)
	}
	return [][]byte{der}
}

func TestVerifyNodeForm(t *testing.T) {
	m, stranger := newMesh(t, "a"), keyOf(t, "stranger")
	named := func(n Name) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.ExtraExtensions[0] = nameExtension(n.String()) }
	}
	agent := []string{RoleAgent}
	for _, c := range []struct {
		what   string
		change func(*x509.Certificate)
		want   error
	}{
		{"unchanged", func(*x509.Certificate) {}, nil},
		{"another's node id", named(Name{m.Cluster(), agent, stranger.ID()}), ErrKey},
		{"another cluster", named(Name{clusterOf("b"), agent, m.key.ID()}), ErrCluster},
		{"unknown role", named(Name{m.Cluster(), []string{"beacon"}, m.key.ID()}), nil},
		{"no name", func(c *x509.Certificate) { c.ExtraExtensions = nil; c.Subject.CommonName = "x" }, ErrName},
		{"no role", named(Name{m.Cluster(), nil, m.key.ID()}), ErrName},
		{"is a CA", func(c *x509.Certificate) { c.IsCA = true }, ErrCertificate},
		{"may sign", func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCertSign }, ErrCertificate},
		{"client only", func(c *x509.Certificate) { c.ExtKeyUsage = c.ExtKeyUsage[1:] }, ErrCertificate},
		{"other critical extension", func(c *x509.Certificate) {
			odd := nameExtension("x")
			odd.Id = []int{1, 3, 9999}
			c.ExtraExtensions = append(c.ExtraExtensions, odd)
		}, ErrCertificate},
		{"over the size (I10)", func(c *x509.Certificate) {
			c.Subject.OrganizationalUnit = make([]string, 300)
		}, ErrCertificate},
	} {
		_, err := VerifyNode(forge(t, m, c.change), m.Certificate(), m.Cluster(), founded())
		wantError(t, c.what, err, c.want)
	}
}

// A certificate's every byte counts: leaf and CA, each byte changed two ways.
func TestVerifyEveryByte(t *testing.T) {
	m := newMesh(t, "a")
	for which := range m.arbiter {
		for at := range m.arbiter[which] {
			for _, flip := range []byte{0x01, 0x80} {
				chain := [][]byte{slices.Clone(m.arbiter[0]), slices.Clone(m.arbiter[1])}
				chain[which][at] ^= flip
				if _, err := VerifyArbiter(chain, m.Hash(), m.Cluster(), founded()); err == nil {
					t.Fatalf("certificate %d, byte %d ^ %#x was accepted", which, at, flip)
				}
			}
		}
	}
}

// A pin covers the CA key alone; the wrapping must still be the CA's own.
func TestVerifyArbiterRewrappedCA(t *testing.T) {
	m := newMesh(t, "a")
	_, thief, _ := ed25519.GenerateKey(seeded("thief"))
	template := authorityTemplate(m.Authority.key.Public(), m.Cluster(), founded().AddDate(20, 0, 0))
	parent := authorityTemplate(keyOf(t, "thief").Public(), m.Cluster(), founded())
	der, err := x509.CreateCertificate(nil, template, parent, m.cert.PublicKey, thief)
	if err != nil {
		t.Fatal(err)
	}
	_, err = VerifyArbiter([][]byte{m.arbiter[0], der}, m.Hash(), m.Cluster(), founded())
	wantError(t, "rewrapped CA", err, ErrCertificate)
}

func TestParseAuthorityName(t *testing.T) {
	m := newMesh(t, "a")
	public := m.Authority.key.Public()
	for _, name := range []string{"", "mesh:/", "mesh://", "mesh://x", "m", goldenName(t).String(), "https://" + m.Cluster().String()} {
		template := authorityTemplate(public, m.Cluster(), founded())
		template.ExtraExtensions[0] = nameExtension(name)
		der, err := x509.CreateCertificate(nil, template, template, ed25519.PublicKey(public[:]), m.Authority.key.Ed25519())
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := parseAuthority(der); err == nil {
			t.Errorf("CA named %q was accepted", name)
		}
	}
}

// I11: no bytes make the judgement of a chain panic; what is accepted is ours.
func FuzzVerifyNode(f *testing.F) {
	m := newMesh(f, "a")
	f.Add(m.node[0])
	f.Add(m.arbiter[0])
	f.Add(m.arbiter[1])
	f.Fuzz(func(t *testing.T, der []byte) {
		known := slices.Equal(der, m.node[0]) || slices.Equal(der, m.arbiter[0])
		if _, err := VerifyNode([][]byte{der}, m.Certificate(), m.Cluster(), founded()); (err == nil) != known {
			t.Errorf("accepted %t, known %t: %x", err == nil, known, der)
		}
		_, _ = VerifyNode(m.node, der, m.Cluster(), founded())
		_, _ = LearnArbiter([][]byte{m.arbiter[0], der}, m.Hash(), founded())
	})
}

// A CA signs for its own cluster alone, even where leaf and caller agree on
// another.
func TestVerifyNodeOfAnotherClusterByOurCA(t *testing.T) {
	m, there := newMesh(t, "a"), clusterOf("b")
	chain := forge(t, m, func(c *x509.Certificate) {
		c.ExtraExtensions[0] = nameExtension(Name{there, []string{RoleAgent}, m.key.ID()}.String())
	})
	_, err := VerifyNode(chain, m.Certificate(), there, founded())
	wantError(t, "CA of another cluster", err, ErrCluster)
}

// TestDatesNameBothClocks: who reads it sees whose clock to look at, and how far it is off.
func TestDatesNameBothClocks(t *testing.T) {
	noon := time.Date(2030, 6, 1, 12, 0, 0, 0, time.UTC)
	cert := &x509.Certificate{NotBefore: noon, NotAfter: noon.Add(time.Hour)}
	for text, now := range map[string]time.Time{
		"begins 2030-06-01T12:00:00Z, and the clock of this host says 2030-06-01T11:00:00Z, 1h0m0s before that": noon.Add(-time.Hour),
		"ended 2030-06-01T13:00:00Z, and the clock of this host says 2030-06-01T13:30:00Z, 30m0s after that":    noon.Add(90 * time.Minute),
	} {
		if err := checkDates(cert, now); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%v lacks %q", err, text)
		}
	}
}

// TestJudgedEndsWithItsCA, whatever the dates of the certificate itself.
func TestJudgedEndsWithItsCA(t *testing.T) {
	begins := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	j := Judged{Peer{NotBefore: begins, NotAfter: begins.Add(9 * time.Hour)}, begins.Add(time.Hour), begins.Add(2 * time.Hour)}
	for hours, want := range map[int]error{-1: ErrNotYetValid, 0: ErrNotYetValid, 1: nil, 2: nil, 3: ErrExpired, 10: ErrExpired} {
		if _, err := j.At(begins.Add(time.Duration(hours) * time.Hour)); !errors.Is(err, want) {
			t.Errorf("after %d h: %v, want %v", hours, err, want)
		}
	}
}
