package pki

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// TestExpiredAuthorityIssuesNothing to clients.
func TestExpiredAuthorityIssuesNothing(t *testing.T) {
	founded := time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)
	a, err := NewAuthority(rand.Reader, identity.ClusterID{1}, founded)
	if err != nil {
		t.Fatal(err)
	}
	key, err := identity.NewKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for now, want := range map[time.Time]error{
		founded: nil, founded.AddDate(AuthorityYears, 0, 1): ErrExpired, founded.AddDate(-1, 0, 0): ErrNotYetValid,
	} {
		if _, err := a.IssueClient(MakeRequest(key), "ann", time.Hour, now); !errors.Is(err, want) {
			t.Errorf("on %v: %v, want %v", now, err, want)
		}
	}
}

// TestAnchorIsAnAuthority, also where it does not say what its key is for.
func TestAnchorIsAnAuthority(t *testing.T) {
	c := newCorporate(t)
	for name, change := range map[string]func(*x509.Certificate){
		"no constraints":     func(x *x509.Certificate) {},
		"an end certificate": func(x *x509.Certificate) { x.BasicConstraintsValid = true },
	} {
		template := &x509.Certificate{
			SerialNumber: big.NewInt(5), Subject: pkix.Name{CommonName: "no CA"}, NotBefore: c.now.Add(-time.Hour), NotAfter: c.now.Add(time.Hour),
		}
		change(template)
		cert := c.sign(template, nil, c.key.Public(), c.key)
		if _, err := CheckAnchor(cert.Raw, c.now); !errors.Is(err, ErrCertificate) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestMaxClientCertificate: what is at the limit is read, and is no certificate; what is
// beyond is not read.
func TestMaxClientCertificate(t *testing.T) { // I10
	for size, says := range map[int]bool{MaxClientCertificate: false, MaxClientCertificate + 1: true} {
		_, err := ParseClientChain([][]byte{make([]byte, size)})
		if !errors.Is(err, ErrCertificate) || strings.Contains(err.Error(), "more than") != says {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
}
