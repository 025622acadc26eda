package pki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net/url"
	"strings"
	"testing"
	"time"
)

// corporate is a CA as other people run them, with the leaf's template.
type corporate struct {
	t    *testing.T
	now  time.Time
	root *x509.Certificate
	key  crypto.Signer
	leaf *x509.Certificate
}

func newCorporate(t *testing.T) *corporate {
	t.Helper()
	c := &corporate{t: t, now: time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC), key: newECDSA(t, elliptic.P384())}
	c.root = c.sign(&x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Corp Root"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: c.now.Add(-time.Hour), NotAfter: c.now.Add(24 * time.Hour), KeyUsage: x509.KeyUsageCertSign,
		MaxPathLen: -1,
	}, nil, c.key.Public(), c.key)
	c.leaf = &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "ann"}, EmailAddresses: []string{"ann@example.com"},
		NotBefore: c.now.Add(-time.Hour), NotAfter: c.now.Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	return c
}

func newECDSA(t *testing.T, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (c *corporate) sign(template, parent *x509.Certificate, public any, by crypto.Signer) *x509.Certificate {
	c.t.Helper()
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, by)
	if err != nil {
		c.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		c.t.Fatal(err)
	}
	return cert
}

// between is an intermediate CA.
func (c *corporate) between(parent *x509.Certificate, by crypto.Signer, change func(*x509.Certificate)) (*x509.Certificate, crypto.Signer) {
	c.t.Helper()
	key := newECDSA(c.t, elliptic.P256())
	template := &x509.Certificate{
		SerialNumber: big.NewInt(3), Subject: pkix.Name{CommonName: "Corp Between"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: c.now.Add(-time.Hour), NotAfter: c.now.Add(time.Hour), KeyUsage: x509.KeyUsageCertSign, MaxPathLen: -1,
	}
	if change != nil {
		change(template)
	}
	return c.sign(template, parent, key.Public(), by), key
}

// judge signs the leaf and judges it with what is between.
func (c *corporate) judge(parent *x509.Certificate, by crypto.Signer, between ...*x509.Certificate) error {
	c.t.Helper()
	leaf := c.sign(c.leaf, parent, newECDSA(c.t, elliptic.P256()).Public(), by)
	raw := [][]byte{leaf.Raw}
	for _, b := range between {
		raw = append(raw, b.Raw)
	}
	chain, err := ParseClientChain(raw)
	if err != nil {
		return err
	}
	return VerifyClient(chain, [][]byte{c.root.Raw}, c.now)
}

// verdict is how a chain is made, and what is said of it.
type verdict struct {
	do   func(c *corporate) error
	want error
}

func check(t *testing.T, verdicts map[string]verdict) {
	t.Helper()
	for name, v := range verdicts {
		t.Run(name, func(t *testing.T) {
			if err := v.do(newCorporate(t)); !errors.Is(err, v.want) {
				t.Errorf("got %v, want %v", err, v.want)
			}
		})
	}
}

func TestVerifyClient(t *testing.T) {
	check(t, map[string]verdict{
		"good": {func(c *corporate) error { return c.judge(c.root, c.key) }, nil},
		"through another CA": {func(c *corporate) error {
			b, key := c.between(c.root, c.key, nil)
			return c.judge(b, key, b)
		}, nil},
		"what is between is missing": {func(c *corporate) error {
			b, key := c.between(c.root, c.key, nil)
			return c.judge(b, key)
		}, ErrAuthority},
		"another CA": {func(c *corporate) error {
			other := newCorporate(c.t)
			return c.judge(other.root, other.key)
		}, ErrAuthority},
		"expired": {func(c *corporate) error {
			c.leaf.NotAfter = c.now.Add(-time.Second)
			return c.judge(c.root, c.key)
		}, ErrExpired},
		"not yet valid": {func(c *corporate) error {
			c.leaf.NotBefore = c.now.Add(time.Second)
			return c.judge(c.root, c.key)
		}, ErrNotYetValid},
		"the CA expired": {func(c *corporate) error {
			c.leaf.NotAfter = c.now.Add(48 * time.Hour)
			c.now = c.now.Add(30 * time.Hour)
			return c.judge(c.root, c.key)
		}, ErrExpired},
		"what is between is no CA": {func(c *corporate) error {
			b, key := c.between(c.root, c.key, func(b *x509.Certificate) { b.IsCA, b.KeyUsage, b.MaxPathLen = false, 0, 0 })
			return c.judge(b, key, b)
		}, ErrAuthority},
		"a chain too long (I10)": {func(c *corporate) error {
			return c.judge(c.root, c.key, c.root, c.root, c.root, c.root)
		}, ErrCertificate},
	})
}

// TestVerifyClientPurpose: what a certificate is for, and what its authorities may
// sign.
func TestVerifyClientPurpose(t *testing.T) {
	check(t, map[string]verdict{
		"for servers": {func(c *corporate) error {
			c.leaf.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
			return c.judge(c.root, c.key)
		}, ErrCertificate},
		"for anything": {func(c *corporate) error {
			c.leaf.ExtKeyUsage = nil
			return c.judge(c.root, c.key)
		}, ErrCertificate},
		"not for signatures": {func(c *corporate) error {
			c.leaf.KeyUsage = x509.KeyUsageKeyEncipherment
			return c.judge(c.root, c.key)
		}, ErrCertificate},
		"a CA's own": {func(c *corporate) error {
			c.leaf.IsCA, c.leaf.BasicConstraintsValid, c.leaf.KeyUsage = true, true, x509.KeyUsageDigitalSignature|x509.KeyUsageCertSign
			return c.judge(c.root, c.key)
		}, ErrCertificate},
		"path too long": {func(c *corporate) error {
			first, firstKey := c.between(c.root, c.key, func(b *x509.Certificate) { b.MaxPathLen, b.MaxPathLenZero = 0, true })
			second, secondKey := c.between(first, firstKey, func(b *x509.Certificate) { b.Subject.CommonName = "Second" })
			return c.judge(second, secondKey, second, first)
		}, ErrCertificate},
		"name constraints": {func(c *corporate) error {
			b, key := c.between(c.root, c.key, func(b *x509.Certificate) { b.PermittedEmailAddresses = []string{"example.org"} })
			return c.judge(b, key, b)
		}, ErrCertificate},
		"a CA for servers only": {func(c *corporate) error {
			b, key := c.between(c.root, c.key, func(b *x509.Certificate) { b.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })
			return c.judge(b, key, b)
		}, ErrCertificate},
	})
}

// TestClientLimits: how large a certificate and an RSA key may be (I10).
func TestClientLimits(t *testing.T) {
	c := newCorporate(t)
	sized := func(n int) []byte {
		c.leaf.ExtraExtensions = []pkix.Extension{{Id: []int{1, 2, 3}, Value: make([]byte, n)}}
		return c.sign(c.leaf, c.root, c.key.Public(), c.key).Raw
	}
	room := MaxClientCertificate - len(sized(7000))
	for _, more := range []int{-16, 16} { // a signature of ECDSA varies by some bytes
		der := sized(7000 + room + more)
		_, err := ParseClientChain([][]byte{der})
		if fits := len(der) <= MaxClientCertificate; fits != (more < 0) || fits != (err == nil) || !fits && !errors.Is(err, ErrCertificate) {
			t.Errorf("%d bytes: %v", len(der), err)
		}
	}
	for bits, want := range map[int]error{minRSA - 1: ErrKey, minRSA: nil, maxRSA: nil, maxRSA + 1: ErrKey} {
		key := &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), uint(bits-1)), E: 65537}
		if err := CheckClientKey(key); !errors.Is(err, want) {
			t.Errorf("RSA of %d bits: %v", bits, err)
		}
	}
	if err := CheckClientKey("a key"); !errors.Is(err, ErrKey) {
		t.Errorf("no key at all: %v", err)
	}
}

func TestClientName(t *testing.T) {
	cluster := clusterOf("a")
	uri := func(text string) *url.URL {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	own := authorityName(cluster) + clientPath
	for name, c := range map[string]struct {
		uris, mails []string
		cn, want    string
	}{
		"URI before all else":  {[]string{own + "ann"}, []string{"bob@example.com"}, "carol", "ann"},
		"one e-mail address":   {nil, []string{"bob@example.com"}, "carol", "bob@example.com"},
		"common name":          {nil, nil, "carol", "carol"},
		"URI of another mesh":  {[]string{"mesh://" + strings.Repeat("0", 32) + "/client/ann"}, nil, "carol", "carol"},
		"URI of something":     {[]string{"https://example.com/client/ann"}, nil, "carol", "carol"},
		"two URIs":             {[]string{own + "ann", own + "bob"}, nil, "carol", ""},
		"two e-mail addresses": {nil, []string{"a@example.com", "b@example.com"}, "carol", ""},
		"nothing":              {nil, nil, "", ""},
	} {
		leaf := &x509.Certificate{EmailAddresses: c.mails, Subject: pkix.Name{CommonName: c.cn}}
		for _, text := range c.uris {
			leaf.URIs = append(leaf.URIs, uri(text))
		}
		got, err := ClientName(leaf, cluster)
		if got != c.want || (err == nil) != (c.want != "") || err != nil && !errors.Is(err, ErrName) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

func request(t *testing.T, key crypto.Signer) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "admin"}}, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// TestIssueClient: of a request only the key counts; the certificate holds by the
// mesh's CA, names its client, and is none of a node.
func TestIssueClient(t *testing.T) {
	authority, now := newMesh(t, "a").Authority, founded()
	small, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []crypto.Signer{edwards, newECDSA(t, elliptic.P256()), newECDSA(t, elliptic.P384()), small} {
		der, err := authority.IssueClient(request(t, key), "ann@example.com", time.Hour, now)
		if err != nil {
			t.Fatalf("%T: %v", key, err)
		}
		chain, err := ParseClientChain([][]byte{der})
		if err != nil {
			t.Fatalf("%T: %v", key, err)
		}
		if err := VerifyClient(chain, [][]byte{authority.Certificate()}, now); err != nil {
			t.Errorf("%T: %v", key, err)
		}
		if name, err := ClientName(chain[0], authority.Cluster()); name != "ann@example.com" || err != nil {
			t.Errorf("%T: names %q, %v", key, name, err)
		}
		if _, err := VerifyNode([][]byte{der}, authority.Certificate(), authority.Cluster(), now); err == nil {
			t.Errorf("%T: a client's certificate passes for a node's", key)
		}
		again, err := authority.IssueClient(request(t, key), "ann@example.com", 2*time.Hour, now)
		if err != nil {
			t.Fatal(err)
		}
		other, err := x509.ParseCertificate(again)
		if err != nil || CertificateID(other) == CertificateID(chain[0]) {
			t.Errorf("%T: two certificates have one id: %v", key, err)
		}
	}
}

func TestIssueClientRefuses(t *testing.T) {
	authority, now := newMesh(t, "a").Authority, founded()
	good := request(t, newECDSA(t, elliptic.P256()))
	forged := bytes.Clone(good)
	forged[len(forged)-1] ^= 1
	for name, c := range map[string]struct {
		csr  []byte
		life time.Duration
		want error
	}{
		"at the limit of life":  {good, MaxClientLife, nil},
		"beyond it (I10)":       {good, MaxClientLife + 1, ErrRequest},
		"no life":               {good, 0, ErrRequest},
		"forged":                {forged, time.Hour, ErrRequest},
		"no request":            {[]byte("hello"), time.Hour, ErrRequest},
		"too large (I10)":       {make([]byte, MaxClientCertificate+1), time.Hour, ErrRequest},
		"a curve not asked for": {request(t, newECDSA(t, elliptic.P521())), time.Hour, ErrKey},
	} {
		if _, err := authority.IssueClient(c.csr, "ann", c.life, now); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// TestCertificateIDIsItsIssuersWord: the id outlives a change of the signature's
// encoding, which anybody can make of an ECDSA one.
func TestCertificateIDIsItsIssuersWord(t *testing.T) {
	c := newCorporate(t)
	public := newECDSA(t, elliptic.P256()).Public()
	one, two := c.sign(c.leaf, c.root, public, c.key), c.sign(c.leaf, c.root, public, c.key)
	if bytes.Equal(one.Raw, two.Raw) || CertificateID(one) != CertificateID(two) {
		t.Error("another signature makes another certificate")
	}
	c.leaf.SerialNumber = big.NewInt(77)
	if CertificateID(c.sign(c.leaf, c.root, public, c.key)) == CertificateID(one) {
		t.Error("another serial number does not")
	}
}

func TestCheckAnchor(t *testing.T) {
	c := newCorporate(t)
	leaf := c.sign(c.leaf, c.root, newECDSA(t, elliptic.P256()).Public(), c.key)
	for name, try := range map[string]struct {
		der  []byte
		now  time.Time
		want error
	}{
		"good": {c.root.Raw, c.now, nil}, "a leaf": {leaf.Raw, c.now, ErrCertificate}, "garbage": {[]byte{1}, c.now, ErrCertificate},
		"expired": {c.root.Raw, c.now.Add(48 * time.Hour), ErrExpired},
	} {
		if _, err := CheckAnchor(try.der, try.now); !errors.Is(err, try.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzClientChain(f *testing.F) {
	authority, now := newMesh(f, "a").Authority, founded()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		f.Fatal(err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		f.Fatal(err)
	}
	der, err := authority.IssueClient(csr, "ann", time.Hour, now)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(der, authority.Certificate())
	f.Add([]byte{}, []byte{0x30})
	f.Fuzz(func(t *testing.T, leaf, second []byte) {
		chain, err := ParseClientChain([][]byte{leaf, second})
		if err != nil {
			return
		}
		_ = VerifyClient(chain, [][]byte{authority.Certificate()}, now)
		_, _ = ClientName(chain[0], authority.Cluster())
		CertificateID(chain[0])
	})
}
