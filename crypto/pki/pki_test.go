package pki

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// founded is when every test's mesh begins.
func founded() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }

// seeded gives the same bytes for the same seed, for ever.
func seeded(seed string) *bytes.Reader {
	var out []byte
	for block := sha256.Sum256([]byte(seed)); len(out) < 4096; block = sha256.Sum256(block[:]) {
		out = append(out, block[:]...)
	}
	return bytes.NewReader(out)
}

func clusterOf(seed string) (c identity.ClusterID) {
	digest := sha256.Sum256([]byte(seed))
	copy(c[:], digest[:])
	return c
}

func keyOf(t testing.TB, seed string) identity.Key {
	t.Helper()
	key, err := identity.NewKey(seeded(seed))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// mesh is a CA with one node and one arbiter, which is what most tests need.
type mesh struct {
	*Authority
	node, arbiter [][]byte // chains
	key           identity.Key
}

func newMesh(t testing.TB, seed string) mesh {
	t.Helper()
	authority, err := NewAuthority(seeded("ca "+seed), clusterOf(seed), founded())
	if err != nil {
		t.Fatal(err)
	}
	m := mesh{Authority: authority, key: keyOf(t, "node "+seed)}
	node, err := authority.IssueNode(MakeRequest(m.key), []string{RoleGateway, RoleAgent}, founded())
	if err != nil {
		t.Fatal(err)
	}
	arbiter, err := authority.IssueArbiter(m.key.Public(), founded())
	if err != nil {
		t.Fatal(err)
	}
	m.node = [][]byte{node, authority.Certificate()}
	m.arbiter = [][]byte{arbiter, authority.Certificate()}
	return m
}

func wantError(t *testing.T, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) || want == nil && got != nil {
		t.Errorf("%s: got error %v, want %v", what, got, want)
	}
}
