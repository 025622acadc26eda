//go:build e2e

package netns

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/e2e/netns/lab"
	"github.com/meshcrypt/meshcrypt/node/control"
)

// TestLogins: every way to log in with the program that users have, and what it says
// when it is refused.
func TestLogins(t *testing.T) {
	t.Parallel()
	m := newMesh(t, 1)
	m.found()
	l := &logins{m, m.nodes[0]}
	l.sharedKey()
	l.meshCertificate()
	l.importedCA()
}

type logins struct {
	*mesh
	node *host
}

// profileOf writes a client's profile.
func (l *logins) profileOf(name string) []string {
	l.Helper()
	return []string{"--profile", l.Write(l.node.must("client", "profile", name), name+".toml")}
}

// enters connects, transfers and leaves.
func (l *logins) enters(name string, how ...string) {
	l.Helper()
	l.client.start(l.connectArgs(name, how)...)
	l.Until(name+" to be connected", 20*time.Second, l.reach)
	if err := l.transfer(lab.Plan{Bytes: 1_000_000, Down: true}).Wait(within(20 * time.Second)).Check(); err != nil {
		l.t.Errorf("%s: %v", name, err)
	}
	l.disconnect()
}

func (l *logins) connectArgs(name string, how []string) []string {
	return append(append([]string{"connect", "--run-dir", l.File("client", "run")}, l.profileOf(name)...), how...)
}

func (l *logins) disconnect() {
	l.Helper()
	l.client.must("disconnect", "--run-dir", l.File("client", "run"))
	if code, ok := l.client.process.Wait(10 * time.Second); !ok || code != 0 {
		l.t.Errorf("the client ended with %d, %t: %s", code, ok, l.client.process.Tail(5))
	}
}

// refused wants exit 4 and the words.
func (l *logins) refused(what, words, name string, how ...string) {
	l.Helper()
	r := l.client.try(l.connectArgs(name, how)...)
	if r.Code != control.CodeAuth || !strings.Contains(r.Stderr, words) || !strings.Contains(r.Stderr, "next:") {
		l.t.Errorf("%s: exit %d, want 4 and %q:\n%s", what, r.Code, words, r.Stderr)
	}
}

func (l *logins) sharedKey() {
	l.Helper()
	secret := func(name string) string {
		raw := make([]byte, 32)
		rand.Read(raw)
		return l.Write(base64.StdEncoding.EncodeToString(raw)+"\n", name)
	}
	good, wrong := secret("site.psk"), secret("wrong.psk")
	if r := l.node.try("client", "add", "site", "--psk-file", l.Write("hunter2\n", "weak.psk")); r.Code != control.CodeUsage ||
		!strings.Contains(r.Stderr, "too easy to guess") || !strings.Contains(r.Stderr, "/dev/urandom") {
		l.t.Errorf("a weak key: exit %d, %s", r.Code, r.Stderr)
	}
	l.node.must("client", "add", "site", "--psk-file", good)
	l.enters("site", "--psk-file", good)
	const words = "user name or pre-shared key is wrong"
	l.refused("a wrong key", words, "site", "--psk-file", wrong)
	l.refused("an unknown user", words, "site", "--psk-file", good, "--user", "nobody")
	raw, err := os.ReadFile(good)
	if err != nil {
		l.t.Fatal(err)
	}
	if found := l.node.Try(nil, "grep", "-rlF", strings.TrimSpace(string(raw)), l.node.dir); found.Code == 0 {
		l.t.Errorf("the key is on the node's disk: %s", found.Out)
	}
}

func (l *logins) meshCertificate() {
	l.Helper()
	l.node.must("client", "add", "ann", "--cert", "--out", l.Dir)
	pair := func(cert, key string) []string { return []string{"--cert", l.File(cert), "--key", l.File(key)} }
	l.enters("ann", pair("ann.crt", "ann.key")...)
	if info, err := os.Stat(l.File("ann.key")); err != nil || info.Mode().Perm() != 0o600 {
		l.t.Errorf("the key's file: %v, %v", info.Mode(), err)
	}
	l.node.must("client", "add", "bob", "--cert", "--out", l.Dir, "--life", "3s")
	l.refused("another's certificate", `names "ann", not "bob"`, "bob", pair("ann.crt", "ann.key")...)
	time.Sleep(4 * time.Second) // --life
	l.refused("an expired certificate", "expired", "bob", pair("bob.crt", "bob.key")...)
	// A session ends with its certificate's revocation, and does not come back.
	l.client.start(l.connectArgs("ann", pair("ann.crt", "ann.key"))...)
	l.Until("ann to be connected", 20*time.Second, l.reach)
	l.node.must("ca", "revoke", l.File("ann.crt"))
	if _, ok := l.client.process.Wait(10 * time.Second); !ok {
		l.t.Errorf("the client lives on: %s", l.client.process.Tail(5))
	}
	l.refused("a revoked certificate", "revoked", "ann", pair("ann.crt", "ann.key")...)
	if shown := l.node.must("ca", "show"); !strings.Contains(shown, "revoked") || !strings.Contains(shown, "expired") {
		l.t.Errorf("ca show:\n%s", shown)
	}
	if l.node.try("ca", "issue", "ann", "--out", l.Dir).Code == 0 {
		l.t.Error("a certificate was written over another")
	}
}

func (l *logins) importedCA() {
	l.Helper()
	corp, stranger := newCA(l.mesh, "corp"), newCA(l.mesh, "stranger")
	if r := l.node.try("ca", "import", "corp", corp.issue("leaf", time.Hour)[1]); r.Code != control.CodeUsage ||
		!strings.Contains(r.Stderr, "no certificate authority") {
		l.t.Errorf("a leaf as CA: exit %d, %s", r.Code, r.Stderr)
	}
	l.node.must("ca", "import", "corp", corp.file)
	l.node.must("client", "add", "carol", "--ca", "corp")
	good := corp.issue("carol", time.Hour)
	l.enters("carol", good...)
	l.refused("a wrong CA", "not of an authority that this mesh trusts", "carol", stranger.issue("carol", time.Hour)...)
	l.refused("an expired certificate", "expired", "carol", corp.issue("carol", -time.Minute)...)
	l.refused("a name that nobody has", "may not log in", "carol", append(corp.issue("dave", time.Hour), "--user", "dave")...)
	l.node.must("ca", "revoke", good[1])
	l.refused("a revoked certificate", "revoked", "carol", good...)
	l.node.must("ca", "revoke", "--authority", "corp")
	l.refused("a revoked CA", "not of an authority", "carol", corp.issue("carol", time.Hour)...)
}

// authority is a CA that is not the mesh's.
type authority struct {
	*mesh
	cert   *x509.Certificate
	key    ed25519.PrivateKey
	file   string
	issued int64
}

func newCA(m *mesh, name string) *authority {
	m.Helper()
	a := &authority{mesh: m}
	var der []byte
	der, a.key = a.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		NotAfter: time.Now().Add(time.Hour),
	})
	var err error
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		m.t.Fatal(err)
	}
	a.file = m.Write(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), name+"-root.pem")
	return a
}

// sign makes a key and certifies it; the first one itself.
func (a *authority) sign(template *x509.Certificate) ([]byte, ed25519.PrivateKey) {
	a.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	a.issued++
	template.SerialNumber, template.NotBefore = big.NewInt(a.issued), time.Now().Add(-time.Hour)
	parent, by := a.cert, a.key
	if parent == nil {
		parent, by = template, private
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, by)
	if err != nil {
		a.t.Fatal(err)
	}
	return der, private
}

// issue writes a certificate and its key, and is the flags that name them.
func (a *authority) issue(name string, life time.Duration) []string {
	a.Helper()
	der, key := a.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(life), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	file := strings.TrimSuffix(a.file, "-root.pem") + big.NewInt(a.issued).String()
	for name, block := range map[string]*pem.Block{
		file + ".crt": {Type: "CERTIFICATE", Bytes: der}, file + ".key": {Type: "PRIVATE KEY", Bytes: raw},
	} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
	return []string{"--cert", file + ".crt", "--key", file + ".key"}
}
