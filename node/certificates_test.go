package node

import (
	"net/netip"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/pki"
)

// TestWrongClockForgetsNoRevocation: the revocation of an imported CA's certificate is
// all that keeps its key out. An arbiter whose clock is years ahead must not make the
// mesh forget it, and one whose clock is right forgets it 30 days past its end.
func TestWrongClockForgetsNoRevocation(t *testing.T) {
	founded := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	const day = 24 * time.Hour
	revoked := registry.Certificate{ID: registry.CertificateID{1}, Ends: founded.Add(10 * day).Unix(), Revoked: true}
	for name, tc := range map[string]struct {
		wall time.Time
		age  time.Duration // of the mesh, by its ticks
		kept bool
	}{
		"right, before its end":         {founded.Add(5 * day), 5 * day, true},
		"right, 29 days past its end":   {founded.Add(39 * day), 39 * day, true},
		"right, 31 days past its end":   {founded.Add(41 * day), 41 * day, false},
		"ahead by three years":          {founded.Add(3 * 365 * day), 5 * day, true},
		"behind":                        {founded.Add(-day), 41 * day, true},
		"right, the mesh was off a lot": {founded.Add(60 * day), 9 * day, true},
	} {
		s := foundedRegistry(t)
		for i, cert := range []registry.Certificate{revoked, {ID: registry.CertificateID{2}, Revoked: true}} {
			now := forgetBefore(tc.wall, founded.Add(-pki.Backdate), registry.Tick(tc.age.Seconds())).Unix()
			registry.Apply(s, uint64(i+2), 1, registry.Command{
				ID: registry.CommandID{byte(i + 2)}, PutCertificate: &registry.PutCertificate{Certificate: cert, Now: now},
			})
		}
		if kept := s.Certificates.Get(revoked.ID) != nil; kept != tc.kept {
			t.Errorf("%s: kept %v, want %v", name, kept, tc.kept)
		}
	}
}

// foundedRegistry is that of a mesh which has done nothing yet.
func foundedRegistry(t *testing.T) *registry.State {
	t.Helper()
	secrets, err := newMeshSecrets(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	parts, err := cutPool([]netip.Prefix{netip.MustParsePrefix("10.77.0.0/24")}, nil)
	if err != nil {
		t.Fatal(err)
	}
	found, err := secrets.found(FoundConfig{
		Place: Place{Name: "n1", Outer: netip.MustParseAddrPort("192.0.2.1:6484"), Inside: netip.MustParseAddr("10.0.0.1"), Capacity: 1000},
		Pool:  []netip.Prefix{netip.MustParsePrefix("10.77.0.0/24")}, Egress: registry.EgressRouted,
	}, parts)
	if err != nil {
		t.Fatal(err)
	}
	s := registry.New()
	if r := registry.Apply(s, 1, 1, registry.Command{ID: registry.CommandID{1}, Found: &found}); r.Err() != nil {
		t.Fatal(r.Err())
	}
	return s
}
