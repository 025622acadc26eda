package arbiter

import (
	"crypto/x509"
	"errors"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/crypto/pki"
	"github.com/meshcrypt/meshcrypt/node/auth"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// prove checks a credential.
func (a *Arbiter) prove(c *clientStream, m *protocol.Auth, binding auth.Binding) error {
	switch m.Method {
	case protocol.MethodPassword:
		return a.byPassword(c, m, binding)
	case protocol.MethodSharedKey:
		return a.bySharedKey(c, m, binding)
	case protocol.MethodCertificate:
		return a.byCertificate(c, m, binding)
	case protocol.MethodResume:
		return a.bySession(c, m, binding)
	}
	return no(protocol.RefusedAuth, "unknown method of authentication; upgrade the older side")
}

// byPassword costs and answers the same for an unknown name and a wrong password.
func (a *Arbiter) byPassword(c *clientStream, m *protocol.Auth, binding auth.Binding) (err error) {
	var key identity.PublicKey
	a.config.Store.View(func(s *registry.State) {
		if client := s.Clients.Get(m.User); client != nil {
			key = client.PasswordKey
		}
	})
	if c.who, err = auth.VerifyPassword(key, binding, m.User, m.Proof); err != nil {
		return no(protocol.RefusedAuth, "user name or password is wrong")
	}
	return nil
}

// bySharedKey does as byPassword, and has the mesh prove itself in its welcome.
func (a *Arbiter) bySharedKey(c *clientStream, m *protocol.Auth, binding auth.Binding) (err error) {
	var v auth.Verifier
	a.config.Store.View(func(s *registry.State) {
		if client := s.Clients.Get(m.User); client != nil && client.SharedKey != nil {
			v = auth.Verifier{Stored: client.SharedKey.Stored, Server: client.SharedKey.Server}
		}
	})
	if c.who, c.proof, err = auth.VerifySharedKey(v, binding, m.User, m.Proof); err != nil {
		return no(protocol.RefusedAuth, "user name or pre-shared key is wrong")
	}
	return nil
}

// byCertificate judges possession of the key, then who signed and when, then whom
// the certificate names. Only its owner is told more than no.
func (a *Arbiter) byCertificate(c *clientStream, m *protocol.Auth, binding auth.Binding) error {
	chain, err := pki.ParseClientChain(m.Chain)
	if err != nil {
		return no(protocol.RefusedAuth, "%v", err)
	}
	leaf := chain[0]
	if c.who, err = auth.VerifyCertificate(leaf, binding, m.User, m.Proof); err != nil {
		return no(protocol.RefusedAuth, "the certificate's key did not sign this login")
	}
	authority, err := a.authorityOf(chain)
	if err != nil {
		return no(protocol.RefusedAuth, "the certificate is not accepted: %v", err)
	}
	name, err := pki.ClientName(leaf, a.cluster.ID)
	switch {
	case err != nil:
		return no(protocol.RefusedAuth, "%v", err)
	case name != m.User:
		return no(protocol.RefusedAuth, "the certificate names %q, not %q", name, m.User)
	}
	c.cert = certificateOf(leaf, authority)
	return a.certified(c.cert, m.User)
}

// authorityOf finds the CA that a chain leads to. When there is none, the reason of
// one that knows the chain is better than that of those that do not.
func (a *Arbiter) authorityOf(chain []*x509.Certificate) (name string, err error) {
	anchors := map[string][][]byte{registry.MeshAuthority: {a.cluster.CA}}
	a.config.Store.View(func(s *registry.State) {
		for _, one := range s.Authorities {
			if !one.Revoked {
				anchors[one.Name] = one.Roots
			}
		}
	})
	best := errForeign
	for name, roots := range anchors {
		err := pki.VerifyClient(chain, roots, a.config.Wall())
		if err == nil {
			return name, nil
		}
		if !errors.Is(err, pki.ErrAuthority) {
			best = err
		}
	}
	return "", best
}

var errForeign = errors.New("it is not of an authority that this mesh trusts")

// certificateOf is what the registry keeps of a client's certificate.
func certificateOf(leaf *x509.Certificate, authority string) *registry.Certificate {
	return &registry.Certificate{
		ID: pki.CertificateID(leaf), Authority: authority, Serial: leaf.SerialNumber.Text(16), Ends: leaf.NotAfter.Unix(),
	}
}

// certified asks the registry about a genuine certificate, at login and whenever its
// session comes back.
func (a *Arbiter) certified(cert *registry.Certificate, user string) (err error) {
	a.config.Store.View(func(s *registry.State) { err = s.Certified(cert, user) })
	switch {
	case errors.Is(err, registry.ErrRevoked):
		return no(protocol.RefusedAuth, "the certificate or its authority is revoked")
	case err != nil:
		return no(protocol.RefusedAuth, "%s may not log in by a certificate of this authority", user)
	case cert != nil && a.config.Wall().Unix() > cert.Ends:
		return no(protocol.RefusedAuth, "the certificate that this session was opened with has expired")
	}
	return nil
}

// errOver is a no to one that proved who it is. It guessed nothing: each client that was
// away, or parked, when its session ended asks once.
type errOver struct{ error }

func (e errOver) Unwrap() error { return e.error }

// bySession resumes: the session's key, and what the session was opened with.
func (a *Arbiter) bySession(c *clientStream, m *protocol.Auth, binding auth.Binding) (err error) {
	var key identity.PublicKey
	var user, over string
	var cert *registry.Certificate
	a.config.Store.View(func(s *registry.State) {
		if live := s.Sessions.Get(m.Session); live != nil {
			key, user, cert = live.Key, live.Client, live.Certificate
			if live.State != registry.SessionActive {
				over = protocol.ItEnded + live.Reason
			}
		}
	})
	if c.who, err = auth.VerifyResume(key, binding, m.Session, user, m.Proof); err != nil {
		return no(protocol.RefusedSession, "there is no such session to resume")
	}
	c.proved = key == c.key
	if over != "" { // said to its owner alone
		return errOver{no(protocol.RefusedSession, "%s", over)}
	}
	return a.certified(cert, user)
}
