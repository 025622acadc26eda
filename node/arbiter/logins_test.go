package arbiter

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/pki"
	"github.com/meshcrypt/meshcrypt/node/auth"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// visitors is an arbiter to which somebody logs in.
type visitors struct {
	*fixture
	a       *Arbiter
	binding auth.Binding
	random  int64
	logins  int
}

func newVisitors(t *testing.T) *visitors {
	t.Helper()
	f := newFixture(t)
	return &visitors{fixture: f, a: f.still(), binding: auth.Binding{Exporter: [32]byte{1}, Hello: [32]byte{2}}, random: 1}
}

// admit adds a client.
func (v *visitors) admit(c registry.Client) {
	v.Helper()
	v.commit(registry.Command{PutClient: &registry.PutClient{Client: c}})
}

// login is what the arbiter answers, and the stream it answered on.
func (v *visitors) login(m *protocol.Auth) (*clientStream, error) {
	v.logins++
	c := &clientStream{introduction: &introduction{}, remote: netip.AddrPortFrom(addr(v.logins), 1)} // each from elsewhere
	return c, v.a.authenticate(c, m, v.binding)
}

// credential is a certificate and its key.
type credential struct {
	der []byte
	key ed25519.PrivateKey
}

func (v *visitors) proves(user string, c credential) *protocol.Auth {
	v.Helper()
	proof, err := auth.SignCertificate(rand.Reader, c.key, v.binding, user, c.der)
	v.ok(err)
	return &protocol.Auth{Method: protocol.MethodCertificate, User: user, Chain: [][]byte{c.der}, Proof: proof}
}

func newKey(t testing.TB) ed25519.PrivateKey {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// issue has the mesh's CA certify a client, and lists it.
func (v *visitors) issue(name string, life time.Duration) credential {
	v.Helper()
	key := newKey(v.TB)
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	v.ok(err)
	der, record, err := v.a.IssueClient(csr, name, life)
	v.ok(err)
	v.commit(registry.Command{PutCertificate: &registry.PutCertificate{Certificate: record}})
	return credential{der, key}
}

// foreign is another CA, and signs as it is told.
type foreign struct {
	v    *visitors
	cert *x509.Certificate
	key  ed25519.PrivateKey
}

func (v *visitors) otherCA() *foreign {
	v.Helper()
	f := &foreign{v: v, key: newKey(v.TB)}
	der := f.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: "Other CA"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		NotAfter: v.wall().Add(time.Hour),
	}, f.key)
	var err error
	f.cert, err = x509.ParseCertificate(der)
	v.ok(err)
	return f
}

func (f *foreign) sign(template *x509.Certificate, key ed25519.PrivateKey) []byte {
	f.v.Helper()
	f.v.random++
	template.SerialNumber, template.NotBefore = big.NewInt(f.v.random), f.v.wall().Add(-time.Hour)
	parent := f.cert
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), f.key)
	f.v.ok(err)
	return der
}

func (f *foreign) issue(name string, ends time.Time) credential {
	f.v.Helper()
	key := newKey(f.v.TB)
	return credential{f.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: name}, NotAfter: ends, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, key), key}
}

func (v *visitors) importCA(name string, f *foreign) {
	v.Helper()
	v.commit(registry.Command{PutAuthority: &registry.PutAuthority{Authority: registry.Authority{Name: name, Roots: [][]byte{f.cert.Raw}}}})
}

// no wants a refusal with a code and words.
func (v *visitors) no(what string, m *protocol.Auth, code, words string) {
	v.Helper()
	_, err := v.login(m)
	var refusal *errNo
	if !errors.As(err, &refusal) || refusal.Code != code || !strings.Contains(refusal.Reason, words) {
		v.Errorf("%s: %v, want %s with %q", what, err, code, words)
	}
}

func (v *visitors) yes(what string, m *protocol.Auth) *clientStream {
	v.Helper()
	c, err := v.login(m)
	if err != nil || c.who.User == "" {
		v.Errorf("%s: %+v, %v", what, c.who, err)
	}
	return c
}

func TestLoginByCertificateOfTheMesh(t *testing.T) {
	v := newVisitors(t)
	v.admit(registry.Client{Name: "ann", Authority: registry.MeshAuthority})
	v.admit(registry.Client{Name: "bob", Authority: registry.MeshAuthority})
	ann, spare := v.issue("ann", time.Hour), v.issue("ann", time.Hour)
	if c := v.yes("ann", v.proves("ann", ann)); c.cert == nil || c.cert.Authority != registry.MeshAuthority {
		t.Errorf("recorded as %+v", c.cert)
	}
	v.no("as somebody else", v.proves("bob", ann), protocol.RefusedAuth, `names "ann", not "bob"`)
	v.no("with another key", v.proves("ann", credential{ann.der, spare.key}), protocol.RefusedAuth, "did not sign")
	other := v.proves("ann", ann)
	v.binding.Exporter[0]++
	v.no("on another connection", other, protocol.RefusedAuth, "did not sign")
	record := *certificateOf(parsed(t, ann.der), registry.MeshAuthority)
	record.Revoked = true
	v.commit(registry.Command{PutCertificate: &registry.PutCertificate{Certificate: record}})
	v.no("revoked", v.proves("ann", ann), protocol.RefusedAuth, "revoked")
	v.yes("by the spare", v.proves("ann", spare))
	v.ahead.Store(int64(2 * time.Hour))
	v.no("expired", v.proves("ann", spare), protocol.RefusedAuth, "expired")
	v.ahead.Store(0)
	v.commit(registry.Command{PutClient: &registry.PutClient{Client: registry.Client{Name: "ann"}, Replace: true}})
	v.no("a client that logs in by password now", v.proves("ann", spare), protocol.RefusedAuth, "may not log in by a certificate")
	v.commit(registry.Command{RevokeClient: &registry.RevokeClient{Name: "bob"}})
	v.no("no chain", &protocol.Auth{Method: protocol.MethodCertificate, User: "ann"}, protocol.RefusedAuth, "0 certificates")
}

func parsed(t *testing.T, der []byte) *x509.Certificate {
	t.Helper()
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// TestUnlistedCertificate: the CA's signature alone lets nobody in.
func TestUnlistedCertificate(t *testing.T) {
	v := newVisitors(t)
	v.admit(registry.Client{Name: "ann", Authority: registry.MeshAuthority})
	key := newKey(t)
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	v.ok(err)
	der, err := v.authority.IssueClient(csr, "ann", time.Hour, v.wall())
	v.ok(err)
	v.no("unlisted", v.proves("ann", credential{der, key}), protocol.RefusedAuth, "revoked")
}

func TestLoginByImportedCA(t *testing.T) {
	v := newVisitors(t)
	corp, stranger := v.otherCA(), v.otherCA()
	v.importCA("corp", corp)
	v.importCA("partner", v.otherCA())
	v.admit(registry.Client{Name: "ann", Authority: "corp"})
	v.admit(registry.Client{Name: "bob", Authority: "partner"})
	ends := v.wall().Add(time.Minute)
	ann := corp.issue("ann", ends)
	v.yes("ann", v.proves("ann", ann))
	v.no("a wrong CA", v.proves("ann", stranger.issue("ann", ends)), protocol.RefusedAuth, "not of an authority that this mesh trusts")
	v.no("another client's CA", v.proves("bob", corp.issue("bob", ends)), protocol.RefusedAuth, "may not log in by a certificate of this authority")
	v.no("nobody", v.proves("eve", corp.issue("eve", ends)), protocol.RefusedAuth, "may not log in by a certificate of this authority")
	v.no("expired", v.proves("ann", corp.issue("ann", v.wall().Add(-time.Second))), protocol.RefusedAuth, "expired")
	revoked := registry.Certificate{ID: pki.CertificateID(parsed(t, ann.der)), Revoked: true}
	v.commit(registry.Command{PutCertificate: &registry.PutCertificate{Certificate: revoked}})
	v.no("revoked", v.proves("ann", ann), protocol.RefusedAuth, "revoked")
	another := corp.issue("ann", ends)
	v.yes("another", v.proves("ann", another))
	v.commit(registry.Command{RevokeAuthority: &registry.RevokeAuthority{Name: "corp"}})
	v.no("the CA is revoked", v.proves("ann", another), protocol.RefusedAuth, "not of an authority")
}

// TestResumptionLooksAtTheCertificate: what a session was opened by must still hold
// when its client comes back.
func TestResumptionLooksAtTheCertificate(t *testing.T) {
	v := newVisitors(t)
	v.admit(registry.Client{Name: "ann", Authority: registry.MeshAuthority})
	ann, id := v.issue("ann", time.Hour), registry.SessionID{7}
	session := v.joiner("session").key
	v.store.state.Sessions.Put(id, &registry.Session{
		ID: id, Client: "ann", Key: session.Public(), State: registry.SessionActive,
		Certificate: certificateOf(parsed(t, ann.der), registry.MeshAuthority),
	})
	resume := func() *protocol.Auth {
		return &protocol.Auth{Method: protocol.MethodResume, Session: id, Proof: auth.SignResume(session, v.binding, id)}
	}
	v.yes("in time", resume())
	v.ahead.Store(int64(2 * time.Hour))
	v.no("expired", resume(), protocol.RefusedAuth, "expired")
	v.ahead.Store(0)
	v.store.state.Certificates.Get(v.store.state.Sessions.Get(id).Certificate.ID).Revoked = true
	v.no("revoked", resume(), protocol.RefusedAuth, "revoked")
}

// TestWhoseSessionIsOverDoesNotGuess: thousands may ask for sessions that ended while they
// were away; none is a wrong login, and nobody is slowed down by them.
func TestWhoseSessionIsOverDoesNotGuess(t *testing.T) {
	v := newVisitors(t)
	v.admit(registry.Client{Name: "ann"})
	id, session := registry.SessionID{7}, v.joiner("session").key
	v.store.state.Sessions.Put(id, &registry.Session{
		ID: id, Client: "ann", Key: session.Public(), State: registry.SessionEnded, Reason: "kicked",
	})
	for range 2 * GuessesFree {
		v.no("over", &protocol.Auth{Method: protocol.MethodResume, Session: id, Proof: auth.SignResume(session, v.binding, id)},
			protocol.RefusedSession, "it ended: kicked")
		for len(v.a.events) > 0 {
			if w, is := (<-v.a.events).(wrongLogin); is {
				t.Fatalf("it counts as a wrong login: %+v", w)
			}
		}
	}
}

// TestLoginBySharedKey: an unknown user, one without a key and a wrong key are one
// answer; the right key gets the mesh's proof.
func TestLoginBySharedKey(t *testing.T) {
	v := newVisitors(t)
	cost := auth.Cost{Memory: 8, Passes: 1, Threads: 1}
	key, err := auth.DeriveSharedKey([]byte("k3Zr8vQ1mXo7Tq2sYw9LfB4nHd6JcPgE"), v.a.cluster.ID, "ann", cost)
	v.ok(err)
	wrong, err := auth.DeriveSharedKey([]byte("x3Zr8vQ1mXo7Tq2sYw9LfB4nHd6JcPgE"), v.a.cluster.ID, "ann", cost)
	v.ok(err)
	check := key.Verifier()
	v.admit(registry.Client{Name: "ann", SharedKey: &registry.SharedKey{Stored: check.Stored, Server: check.Server}})
	v.admit(registry.Client{Name: "bob"})
	by := func(user string, k auth.SharedKey) *protocol.Auth {
		return &protocol.Auth{Method: protocol.MethodSharedKey, User: user, Proof: k.Prove(v.binding, user)}
	}
	c := v.yes("ann", by("ann", key))
	v.ok(key.Confirm(v.binding, "ann", c.proof))
	proof := string(c.proof)
	if w := v.a.welcome(c, registry.SessionID{}, nil); string(w.Proof) != proof || c.introduction != nil {
		t.Error("the welcome lacks the mesh's proof")
	}
	const same = "user name or pre-shared key is wrong"
	v.no("wrong key", by("ann", wrong), protocol.RefusedAuth, same)
	v.no("unknown user", by("eve", key), protocol.RefusedAuth, same)
	v.no("no pre-shared key", by("bob", key), protocol.RefusedAuth, same)
	v.commit(registry.Command{RevokeClient: &registry.RevokeClient{Name: "ann"}})
	v.no("revoked, wrong key", by("ann", wrong), protocol.RefusedAuth, same)
	v.no("revoked", by("ann", key), protocol.RefusedPolicy, "revoked")
	v.no("unknown method", &protocol.Auth{Method: "magic", User: "ann"}, protocol.RefusedAuth, "unknown method")
}
