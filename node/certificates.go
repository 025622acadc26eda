package node

import (
	"cmp"
	"crypto/x509"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/pki"
	"github.com/meshcrypt/meshcrypt/node/control"
)

// forgetCertificates is how long past their end certificates stay listed.
const forgetCertificates = 30 * 24 * time.Hour

// putCertificate commits a listing or a revocation. Only an arbiter says what time it is.
func (n *Node) putCertificate(r *http.Request, cert registry.Certificate) error {
	if _, err := n.term(); err != nil {
		return err
	}
	var tick registry.Tick
	if err := n.view(func(s *registry.State) { tick = s.Tick }); err != nil {
		return err
	}
	ca, err := x509.ParseCertificate(n.trust.CA)
	if err != nil {
		return err
	}
	now := forgetBefore(n.wall(), ca.NotBefore, tick).Unix()
	_, err = n.propose(r.Context(), registry.Command{PutCertificate: &registry.PutCertificate{Certificate: cert, Now: now}})
	return err
}

// forgetBefore is when a certificate ended that is listed no more. A clock that is ahead
// makes nothing older than the mesh: its CA's first second and the ticks since, which
// leave out when it was off, are never too late. A revocation that a wrong clock made the
// mesh forget would let a stolen key in again as soon as the clock is right.
func forgetBefore(wall, founded time.Time, tick registry.Tick) time.Time {
	now := founded.Add(pki.Backdate + time.Duration(tick)*time.Second)
	if wall.Before(now) {
		now = wall
	}
	return now.Add(-forgetCertificates)
}

func (n *Node) issueCertificate(r *http.Request, in control.IssueRequest) (control.Issued, error) {
	a, err := n.term()
	if err != nil {
		return control.Issued{}, err
	}
	der, record, err := a.IssueClient(in.CSR, in.Client, cmp.Or(in.Life, pki.ClientLife))
	if err != nil {
		return control.Issued{}, control.Errorf(control.CodeUsage, "meshcrypt ca issue --help", "%v", err)
	}
	if err := n.putCertificate(r, record); err != nil {
		return control.Issued{}, err
	}
	return control.Issued{
		Schema: "meshcrypt.certificate/v1", Client: in.Client, Serial: record.Serial,
		Ends: time.Unix(record.Ends, 0).UTC(), Certificate: der,
	}, nil
}

func (n *Node) importAuthority(r *http.Request, in control.ImportRequest) (control.Nothing, error) {
	for _, der := range in.Roots {
		if _, err := pki.CheckAnchor(der, n.wall()); err != nil {
			return control.Nothing{}, control.Errorf(control.CodeUsage, "meshcrypt ca import --help", "%v", err)
		}
	}
	_, err := n.propose(r.Context(), registry.Command{PutAuthority: &registry.PutAuthority{
		Authority: registry.Authority{Name: in.Name, Roots: in.Roots},
	}})
	return control.Nothing{}, err
}

func (n *Node) revokeCertificate(r *http.Request, in control.RevokeRequest) (control.Nothing, error) {
	if in.Authority != "" {
		_, err := n.propose(r.Context(), registry.Command{RevokeAuthority: &registry.RevokeAuthority{Name: in.Authority}})
		return control.Nothing{}, err
	}
	cert, err := n.findCertificate(in)
	if err != nil {
		return control.Nothing{}, err
	}
	cert.Revoked = true
	return control.Nothing{}, n.putCertificate(r, cert)
}

// findCertificate resolves what is to be revoked: by its file whoever issued it, by
// serial number if it is listed.
func (n *Node) findCertificate(in control.RevokeRequest) (found registry.Certificate, err error) {
	if len(in.Certificate) > 0 {
		cert, err := x509.ParseCertificate(in.Certificate)
		if err != nil {
			return found, control.Errorf(control.CodeUsage, "meshcrypt ca revoke --help", "no certificate: %v", err)
		}
		return registry.Certificate{
			ID: pki.CertificateID(cert), Serial: serialText(cert), Ends: cert.NotAfter.Unix(),
		}, nil
	}
	count := 0
	err = n.view(func(s *registry.State) {
		for _, cert := range s.Certificates.All() {
			if strings.EqualFold(cert.Serial, in.Serial) {
				found = *cert
				count++
			}
		}
	})
	if err == nil && count != 1 {
		err = control.Errorf(control.CodeFailed, "meshcrypt ca show lists them; or name the certificate's file",
			"%d certificates with the serial number %q are listed", count, in.Serial)
	}
	return found, err
}

func serialText(cert *x509.Certificate) string { return cert.SerialNumber.Text(16) }

func (n *Node) listAuthorities(*http.Request, control.Nothing) (control.Authorities, error) {
	out := control.Authorities{
		Schema: "meshcrypt.ca/v1", Authorities: []control.AuthorityRow{}, Certificates: []control.CertificateRow{},
	}
	now := n.wall()
	err := n.view(func(s *registry.State) {
		clients := make(map[string]int)
		for _, c := range s.Clients.All() {
			clients[c.Authority]++
		}
		add := func(name string, roots [][]byte, revoked bool) {
			for _, der := range roots {
				row := authorityRow(name, der, revoked, now)
				row.Clients = clients[name]
				out.Authorities = append(out.Authorities, row)
			}
		}
		add(registry.MeshAuthority, [][]byte{s.Cluster.CA}, false)
		for _, a := range s.Authorities {
			add(a.Name, a.Roots, a.Revoked)
		}
		for _, cert := range s.Certificates.All() {
			out.Certificates = append(out.Certificates, certificateRow(cert, now))
		}
	})
	slices.SortStableFunc(out.Authorities, func(x, y control.AuthorityRow) int { return strings.Compare(x.Name, y.Name) })
	slices.SortFunc(out.Certificates, func(x, y control.CertificateRow) int {
		return cmp.Or(strings.Compare(x.Client, y.Client), x.Ends.Compare(y.Ends), strings.Compare(x.Serial, y.Serial))
	})
	return out, err
}

func authorityRow(name string, der []byte, revoked bool, now time.Time) control.AuthorityRow {
	row := control.AuthorityRow{Name: name, State: "trusted"}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		row.State = fmt.Sprintf("unreadable: %v", err)
		return row
	}
	row.Subject, row.Ends = cert.Subject.String(), cert.NotAfter
	row.Hash = pki.FormatHash(pki.KeyHash(cert))
	switch {
	case revoked:
		row.State = "revoked"
	case now.After(cert.NotAfter):
		row.State = "expired"
	}
	return row
}

func certificateRow(cert *registry.Certificate, now time.Time) control.CertificateRow {
	row := control.CertificateRow{
		Serial: cert.Serial, Client: cert.Client, Authority: cert.Authority, Ends: time.Unix(cert.Ends, 0).UTC(), State: "valid",
	}
	switch {
	case cert.Revoked:
		row.State = "revoked"
	case now.Unix() > cert.Ends:
		row.State = "expired"
	}
	return row
}
