package registry

import (
	"cmp"
	"maps"
	"slices"
)

// MeshAuthority is the name of the mesh's own CA among those whose certificates
// let clients in. The others are imported under names of their own.
const MeshAuthority = "mesh"

// Why sessions of a certificate ended.
const (
	ReasonCertificate = "certificate revoked"
	ReasonAuthority   = "certificate authority revoked"
)

func (c *PutAuthority) apply(s *State, _ entry) (Result, *Error) {
	a := c.Authority
	known := s.Authorities[a.Name]
	switch {
	case !validName(a.Name) || a.Name == MeshAuthority:
		return Result{}, ErrInvalid.with("authority name %q", a.Name)
	case known != nil && !known.Revoked:
		return Result{}, ErrExists.with("authority %s", a.Name)
	case known == nil && len(s.Authorities) >= MaxAuthorities:
		return Result{}, ErrExhausted.with("%d authorities", MaxAuthorities)
	case len(a.Roots) == 0 || len(a.Roots) > MaxRoots:
		return Result{}, ErrInvalid.with("%d certificates, want 1 to %d", len(a.Roots), MaxRoots)
	}
	for _, root := range a.Roots {
		if len(root) == 0 || len(root) > MaxBlob {
			return Result{}, ErrInvalid.with("certificate of %d bytes", len(root))
		}
	}
	s.Authorities = maps.Clone(s.Authorities)
	s.Authorities[a.Name] = &Authority{Name: a.Name, Roots: slices.Clone(a.Roots), Created: s.Tick}
	return Result{}, nil
}

func (c *RevokeAuthority) apply(s *State, _ entry) (Result, *Error) {
	if s.Authorities[c.Name] == nil {
		return Result{}, ErrNotFound.with("authority %q", c.Name)
	}
	revoked := *s.Authorities[c.Name]
	revoked.Revoked = true
	s.Authorities = maps.Clone(s.Authorities)
	s.Authorities[c.Name] = &revoked
	s.endCertified(ReasonAuthority, func(used *Certificate) bool { return used.Authority == c.Name })
	return Result{}, nil
}

// apply lists or revokes a certificate. Revoking is for good: nothing lists it again.
func (c *PutCertificate) apply(s *State, _ entry) (Result, *Error) {
	if err := c.check(s); err != nil {
		return Result{}, err
	}
	s.forgetCertificates(c.Now)
	known := s.Certificates.Get(c.Certificate.ID)
	if known == nil && s.Certificates.Len() >= s.Room().Certificates {
		return Result{}, ErrExhausted.with("%d certificates", s.Room().Certificates)
	}
	switch {
	case c.Certificate.Revoked || known != nil && known.Revoked:
		s.revokeListed(&c.Certificate)
	case known == nil:
		put := c.Certificate
		s.putCertificate(&put)
	}
	return Result{}, nil
}

// revokeListed lists a certificate as revoked, whether it was listed or not.
func (s *State) revokeListed(cert *Certificate) {
	put := *cert
	if known := s.Certificates.Get(cert.ID); known != nil {
		put = *known
	}
	put.Revoked = true
	s.putCertificate(&put)
	s.endCertified(ReasonCertificate, func(used *Certificate) bool { return used.ID == put.ID })
}

func (c *PutCertificate) check(s *State) *Error {
	cert := c.Certificate
	switch {
	case cert.ID == (CertificateID{}):
		return ErrInvalid.with("no certificate id")
	case len(cert.Serial) > MaxName || len(cert.Client) > MaxName || cert.Authority != "" && !validName(cert.Authority):
		return ErrInvalid.with("certificate %q of %q for %q", cert.Serial, cert.Authority, cert.Client)
	case cert.Revoked:
		return nil
	case cert.Authority != MeshAuthority:
		return ErrInvalid.with("only the mesh's own certificates are listed")
	}
	if err := s.admitted(cert.Client); err != nil {
		return err
	}
	if by := s.Clients.Get(cert.Client).Authority; by != MeshAuthority {
		return ErrInvalid.with("client %s does not log in by certificates of the mesh", cert.Client)
	}
	return nil
}

// forgetCertificates drops those whose dates are over: those refuse them too.
func (s *State) forgetCertificates(now int64) {
	for end := range s.index.endings.All() {
		if end.at >= now {
			return
		}
		s.dropCertificate(end.id)
	}
}

// revokeCertificates revokes what the mesh issued to a client.
func (s *State) revokeCertificates(client string) {
	for _, cert := range s.Certificates.All() {
		if cert.Client == client && !cert.Revoked {
			revoked := *cert
			revoked.Revoked = true
			s.putCertificate(&revoked)
		}
	}
}

// endCertified ends the sessions that were opened by such a certificate, in an
// order that all replicas share.
func (s *State) endCertified(reason string, by func(*Certificate) bool) {
	for _, ses := range s.ActiveSessions() {
		if ses.Certificate != nil && by(ses.Certificate) {
			s.endSession(ses, reason, ses.Bytes)
		}
	}
}

// Certified says whether a certificate, genuine and in time as its caller knows,
// lets a client in. One of the mesh's own counts only while it is listed.
func (s *State) Certified(cert *Certificate, client string) error {
	if err := s.certified(cert, client); err != nil {
		return err
	}
	return nil
}

func (s *State) certified(cert *Certificate, client string) *Error {
	if cert == nil {
		return nil
	}
	listed, account, authority := s.Certificates.Get(cert.ID), s.Clients.Get(client), s.Authorities[cert.Authority]
	own := cert.Authority == MeshAuthority
	switch {
	case account == nil || account.Authority != cert.Authority:
		return ErrNotFound.with("no client %s with certificates of %s", client, cmp.Or(cert.Authority, "nobody"))
	case listed != nil && listed.Revoked:
		return ErrRevoked.with("certificate")
	case own && (listed == nil || listed.Client != client):
		return ErrRevoked.with("certificate is not listed")
	case !own && (authority == nil || authority.Revoked):
		return ErrRevoked.with("certificate authority %s", cert.Authority)
	}
	return nil
}
