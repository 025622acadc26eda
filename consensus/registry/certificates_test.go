package registry

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func certificate(n int) Certificate {
	return Certificate{
		ID: CertificateID{byte(n >> 16), byte(n >> 8), byte(n), 1}, Authority: MeshAuthority, Client: "carol", Serial: fmt.Sprintf("%x", n), Ends: 1000,
	}
}

func put(cert Certificate, now int64) Command {
	return Command{PutCertificate: &PutCertificate{Certificate: cert, Now: now}}
}

// certified is a mesh with an imported CA, a client by its own certificates, and
// one by the imported CA's.
func certified(t *testing.T) *fixture {
	t.Helper()
	f := newFixture(t)
	f.must(Command{PutAuthority: &PutAuthority{Authority: Authority{Name: "corp", Roots: [][]byte{{1}}}}})
	f.must(Command{PutClient: &PutClient{Client: Client{Name: "carol", Authority: MeshAuthority}}})
	f.must(Command{PutClient: &PutClient{Client: Client{Name: "dave", Authority: "corp"}}})
	return f
}

// openBy opens session n with a certificate.
func (f *fixture) openBy(n int, client string, cert Certificate) *OpenSession {
	f.t.Helper()
	c := f.opening(n, client, f.slice(0, 0))
	c.Session.Certificate = &cert
	return c
}

func TestRevokedCertificate(t *testing.T) {
	f := certified(t)
	one, two := certificate(1), certificate(2)
	f.must(put(one, 0))
	f.must(put(two, 0))
	f.must(Command{OpenSession: f.openBy(1, "carol", one)})
	f.must(Command{OpenSession: f.openBy(2, "carol", two)})
	f.deny(ErrNotFound, Command{OpenSession: f.openBy(3, "dave", one)})
	gone := one
	gone.Revoked = true
	f.must(put(gone, 0))
	if s := f.s.Sessions.Get(session(1)); s.State != SessionEnded || s.Reason != ReasonCertificate {
		t.Errorf("its session is %s, %q", s.State, s.Reason)
	}
	if s := f.s.Sessions.Get(session(2)); s.State != SessionActive {
		t.Errorf("the other certificate's session is %s, %q", s.State, s.Reason)
	}
	f.must(put(one, 0)) // listing again does not readmit
	f.deny(ErrRevoked, Command{OpenSession: f.openBy(4, "carol", one)})
	if err := f.s.Certified(&two, "carol"); err != nil {
		t.Error(err)
	}
	// What was never listed is not the mesh's word.
	unlisted := certificate(3)
	if err := f.s.Certified(&unlisted, "carol"); !errors.Is(err, ErrRevoked) {
		t.Error(err)
	}
}

// A client that is revoked and admitted again does not get its old certificates back.
func TestRevokedClientLosesItsCertificates(t *testing.T) {
	f := certified(t)
	one := certificate(1)
	f.must(put(one, 0))
	f.must(Command{RevokeClient: &RevokeClient{Name: "carol"}})
	f.refuse(ErrRevoked, put(certificate(2), 0))
	f.must(Command{PutClient: &PutClient{Client: Client{Name: "carol", Authority: MeshAuthority}}})
	f.deny(ErrRevoked, Command{OpenSession: f.openBy(1, "carol", one)})
}

func TestRevokedAuthority(t *testing.T) {
	f := certified(t)
	foreign := Certificate{ID: CertificateID{9}, Authority: "corp"}
	f.must(Command{OpenSession: f.openBy(1, "dave", foreign)})
	f.deny(ErrNotFound, Command{OpenSession: f.openBy(2, "carol", foreign)}) // not by another CA than its own
	resume := Command{ResumeKey: &ResumeKey{Session: session(1), Request: request(5), Key: key(4), Hello: hash}}
	f.must(resume)
	f.must(Command{RevokeAuthority: &RevokeAuthority{Name: "corp"}})
	if s := f.s.Sessions.Get(session(1)); s.State != SessionEnded || s.Reason != ReasonAuthority {
		t.Errorf("the session is %s, %q", s.State, s.Reason)
	}
	f.deny(ErrRevoked, Command{OpenSession: f.openBy(3, "dave", foreign)})
	f.must(Command{PutAuthority: &PutAuthority{Authority: Authority{Name: "corp", Roots: [][]byte{{2}}}}})
	f.must(Command{OpenSession: f.openBy(4, "dave", foreign)})
	f.refuse(ErrExists, Command{PutAuthority: &PutAuthority{Authority: Authority{Name: "corp", Roots: [][]byte{{2}}}}})
	f.refuse(ErrInvalid, Command{PutAuthority: &PutAuthority{Authority: Authority{Name: MeshAuthority, Roots: [][]byte{{2}}}}})
	f.refuse(ErrNotFound, Command{RevokeAuthority: &RevokeAuthority{Name: "nobody"}})
}

// TestResumptionNeedsTheCertificate: what a session was opened by must hold when it
// comes back.
func TestResumptionNeedsTheCertificate(t *testing.T) {
	f := certified(t)
	f.must(put(certificate(1), 0))
	f.must(Command{OpenSession: f.openBy(1, "carol", certificate(1))})
	f.must(Command{PutClient: &PutClient{Client: Client{Name: "carol"}, Replace: true}})
	f.deny(ErrNotFound, Command{ResumeKey: &ResumeKey{Session: session(1), Request: request(5), Key: key(4), Hello: hash}})
}

// I10, and what is over makes room.
func TestLimitsOfCertificates(t *testing.T) {
	f := certified(t)
	for i := len(f.s.Authorities); i < MaxAuthorities; i++ {
		f.must(Command{PutAuthority: &PutAuthority{Authority: Authority{Name: fmt.Sprint("ca", i), Roots: rootsOf(MaxRoots)}}})
	}
	f.refuse(ErrExhausted, Command{PutAuthority: &PutAuthority{Authority: Authority{Name: "more", Roots: rootsOf(1)}}})
	f.must(Command{RevokeAuthority: &RevokeAuthority{Name: "corp"}})
	f.refuse(ErrInvalid, Command{PutAuthority: &PutAuthority{Authority: Authority{Name: "corp", Roots: rootsOf(MaxRoots + 1)}}})
	long := Certificate{ID: CertificateID{9}, Revoked: true, Client: strings.Repeat("c", MaxName)}
	f.must(put(long, 0))
	long.Client += "c"
	f.refuse(ErrInvalid, put(long, 0))
	for id := range f.s.Certificates.All() {
		f.s.dropCertificate(id)
	}
	for i := range f.s.Room().Certificates {
		cert := certificate(i)
		f.s.putCertificate(&cert)
	}
	f.refuse(ErrExhausted, put(certificate(f.s.Room().Certificates), 1000))
	f.must(put(certificate(f.s.Room().Certificates), 1001))
	if n := f.s.Certificates.Len(); n != 1 {
		t.Errorf("%d certificates are left", n)
	}
}

func rootsOf(n int) (roots [][]byte) {
	for range n {
		roots = append(roots, []byte{1})
	}
	return roots
}

func TestRestoreKeepsRevocations(t *testing.T) {
	f := certified(t)
	f.must(put(certificate(1), 0))
	snapshot := f.s.Clone()
	gone := certificate(1)
	gone.Revoked = true
	f.must(put(gone, 0))
	f.must(Command{RevokeAuthority: &RevokeAuthority{Name: "corp"}})
	snapshot.Succeed(f.s)
	if !snapshot.Certificates.Get(gone.ID).Revoked || !snapshot.Authorities["corp"].Revoked {
		t.Error("a restore readmits what was revoked")
	}
}

// TestRestoreIntoAFullTable: a revocation that there was no room for would readmit whom it
// was for; both states together need the room of an enlarged mesh.
func TestRestoreIntoAFullTable(t *testing.T) {
	f := certified(t)
	snapshot := f.s.Clone()
	for i := range snapshot.Room().Certificates {
		cert := certificate(i + 2)
		snapshot.putCertificate(&cert)
	}
	gone := certificate(1)
	gone.Revoked = true
	f.must(put(gone, 0))
	snapshot.Succeed(f.s)
	if listed := snapshot.Certificates.Get(gone.ID); listed == nil || !listed.Revoked {
		t.Error("a restore readmits what was revoked")
	}
	raw, err := EncodeSnapshot(snapshot)
	if err == nil {
		_, err = DecodeSnapshot(raw)
	}
	if err != nil {
		t.Errorf("the united state cannot be read again: %v", err)
	}
}

func TestSharedKeyOfClient(t *testing.T) {
	f := newFixture(t)
	add := func(k *SharedKey) Command {
		return Command{PutClient: &PutClient{Client: Client{Name: "erin", SharedKey: k}}}
	}
	f.refuse(ErrInvalid, add(&SharedKey{Stored: hash, Server: hash[:31]}))
	f.refuse(ErrInvalid, add(&SharedKey{Server: hash}))
	f.must(add(&SharedKey{Stored: hash, Server: hash}))
	if v := f.s.version(); v != 3 {
		t.Errorf("snapshot version %d", v)
	}
}
