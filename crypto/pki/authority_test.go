package pki

import (
	"bytes"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"testing"
	"time"
)

func TestAuthorityFromKey(t *testing.T) {
	m, other := newMesh(t, "a"), newMesh(t, "b")
	again, err := AuthorityFromKey(m.Certificate(), m.Seed())
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := again.IssueNode(MakeRequest(m.key), []string{RoleAgent, RoleGateway}, founded())
	if err != nil || !bytes.Equal(leaf, m.node[0]) {
		t.Errorf("restored CA issues other bytes for the same request: %v", err)
	}
	if again.Cluster() != m.Cluster() || again.Hash() != m.Hash() {
		t.Error("restored CA has another cluster or hash")
	}
	_, err = AuthorityFromKey(m.Certificate(), other.Seed())
	wantError(t, "seed of another", err, ErrKey)
	_, err = AuthorityFromKey(m.node[0], m.key.Seed())
	wantError(t, "leaf as CA", err, ErrCertificate)
	if _, err = AuthorityFromKey(m.Certificate(), nil); err == nil {
		t.Error("no seed was accepted")
	}
	if _, err := NewAuthority(bytes.NewReader(nil), m.Cluster(), founded()); err == nil {
		t.Error("a CA was made without randomness")
	}
}

func TestAuthorityHash(t *testing.T) {
	const want = "hls344maxhiv3pjhld435iizsqwfcgcu4xxrlyobdpbiikglyejq"
	m := newMesh(t, "golden")
	if got := FormatHash(m.Hash()); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if hash, err := Hash(m.Certificate()); err != nil || hash != m.Hash() {
		t.Errorf("Hash of the certificate: %x, %v", hash, err)
	}
	if _, err := Hash([]byte("x")); err == nil {
		t.Error("garbage has a hash")
	}
}

func TestIssueRoles(t *testing.T) {
	m := newMesh(t, "a")
	request := MakeRequest(m.key)
	for what, roles := range map[string][]string{
		"none": nil, "arbiter": {RoleArbiter}, "arbiter among others": {RoleAgent, RoleArbiter},
		"unknown": {"beacon"}, "injected": {"agent,arbiter"}, "slash": {"agent/x"}, "empty": {""},
		"twice": {RoleAgent, RoleAgent},
	} {
		_, err := m.IssueNode(request, roles, founded())
		wantError(t, what, err, ErrRole)
	}
	_, err := m.IssueNode([]byte("x"), []string{RoleAgent}, founded())
	wantError(t, "garbage", err, ErrRequest)
}

// A leaf ends with its CA at the latest, and an expired CA issues nothing.
func TestIssueAtEndOfAuthority(t *testing.T) {
	m := newMesh(t, "a")
	end := founded().AddDate(AuthorityYears, 0, 0)
	der, err := m.IssueArbiter(m.key.Public(), end.Add(-time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	if cert, err := x509.ParseCertificate(der); err != nil || !cert.NotAfter.Equal(end) {
		t.Errorf("ends %v, want %s (%v)", cert.NotAfter, end, err)
	}
	_, err = m.IssueArbiter(m.key.Public(), end.Add(time.Second))
	wantError(t, "expired CA", err, ErrExpired)
}

func TestAuthorityRedacted(t *testing.T) {
	m := newMesh(t, "a")
	holder := struct{ ca *Authority }{m.Authority}
	text := fmt.Sprintf("%v %+v %#v %s %x %v %+v", m.Authority, m.Authority, m.Authority, m.Authority, m.Authority, holder, holder)
	seed := m.Seed()
	for _, leak := range []string{hex.EncodeToString(seed), fmt.Sprint(seed)[1:40], string(seed)} {
		if bytes.Contains([]byte(text), []byte(leak)) {
			t.Errorf("key leaks: %s", text)
		}
	}
}

// OpenSSL-style verification by crypto/x509 agrees with our own.
func TestIssuedChainIsPlainX509(t *testing.T) {
	m := newMesh(t, "a")
	roots := x509.NewCertPool()
	ca, err := x509.ParseCertificate(m.Certificate())
	if err != nil {
		t.Fatal(err)
	}
	roots.AddCert(ca)
	for _, der := range [][]byte{m.node[0], m.arbiter[0]} {
		leaf, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: founded()}); err != nil {
			t.Error(err)
		}
	}
}
