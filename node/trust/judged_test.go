package trust

import (
	"errors"
	"runtime"
	"slices"
	"testing"

	"github.com/meshcrypt/meshcrypt/crypto/pki"
)

// TestACertificateIsJudgedOnce: the CA's signature is checked the first time; when the
// certificate is shown again only what may have changed is looked at.
func TestACertificateIsJudgedOnce(t *testing.T) {
	f := newFixture(t)
	_, cert := f.node()
	chain := [][]byte{cert, f.trust.CA}
	for range 3 {
		_, err := f.trust.Member(chain, everybody)
		f.ok(err)
	}
	_, other := f.node()
	own := f.trust.CA
	f.trust.CA = nil // whoever needs the CA fails
	if _, err := f.trust.Member(chain, everybody); err != nil {
		t.Errorf("a certificate that was judged before is judged again: %v", err)
	}
	if _, err := f.trust.Member([][]byte{other, own}, everybody); err == nil {
		t.Error("a certificate that was never judged is admitted")
	}
	f.trust.CA = own
	if _, err := f.trust.Member(chain, nobody); !errors.Is(err, ErrNotMember) {
		t.Errorf("a node that is listed no more: %v", err)
	}
	f.now = f.now.Add(pki.NodeLife + 1)
	if _, err := f.trust.Member(chain, everybody); !errors.Is(err, pki.ErrExpired) {
		t.Errorf("a certificate that has expired meanwhile: %v", err)
	}
	if peer, err := f.trust.Peer(chain); err != nil || !peer.Has("agent") {
		t.Errorf("without dates: %v, %v", peer, err)
	}
}

// TestWrongCertificatesAreNotRemembered: not even if their bytes but for the signature are
// those of a good one; and the memory has an end.
func TestWrongCertificatesAreNotRemembered(t *testing.T) {
	f := newFixture(t)
	_, cert := f.node()
	forged := slices.Clone(cert)
	forged[len(forged)-1] ^= 1
	for range 2 {
		if _, err := f.trust.Peer([][]byte{forged}); !errors.Is(err, pki.ErrAuthority) {
			t.Errorf("forged: %v", err)
		}
	}
	for _, chain := range [][][]byte{nil, {cert, cert, cert}} {
		if _, err := f.trust.Peer(chain); !errors.Is(err, pki.ErrCertificate) {
			t.Errorf("%d certificates: %v", len(chain), err)
		}
	}
	if n := len(f.trust.judged.all); n != 0 {
		t.Errorf("%d wrong ones are remembered", n)
	}
	for i := range MaxJudged {
		f.trust.judged.remember([32]byte{byte(i), byte(i >> 8)}, pki.Judged{})
	}
	f.trust.judged.remember([32]byte{31: 1}, pki.Judged{})
	if n := len(f.trust.judged.all); n != 1 {
		t.Errorf("%d are remembered beside one more than %d", n, MaxJudged)
	}
}

// TestJudgedAreSmall: a mesh of three nodes makes some 40 certificates a day, and none is
// forgotten for months.
func TestJudgedAreSmall(t *testing.T) {
	const count, most = 256, 1 << 10
	f := newFixture(t)
	var chains [][][]byte
	for range count {
		_, cert := f.node()
		chains = append(chains, [][]byte{cert})
	}
	held := func() int64 {
		for range 2 { // what the first one finishes is free after the second
			runtime.GC()
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := held()
	for _, chain := range chains {
		_, err := f.trust.Peer(chain)
		f.ok(err)
	}
	if each := (held() - before) / count; each > most {
		t.Errorf("%d bytes for each, at most %d", each, most)
	}
	runtime.KeepAlive(chains)
	runtime.KeepAlive(f)
}
