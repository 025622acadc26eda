package arbiter

import (
	"crypto/x509"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
)

// IssueClient signs a client's request with the mesh's CA key, which only an arbiter
// has open. The certificate counts once the returned record is committed.
func (a *Arbiter) IssueClient(csr []byte, client string, life time.Duration) (der []byte, record registry.Certificate, err error) {
	if der, err = a.authority.IssueClient(csr, client, life, a.config.Wall()); err != nil {
		return nil, record, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, record, err
	}
	record = *certificateOf(leaf, registry.MeshAuthority)
	record.Client = client
	return der, record, nil
}
