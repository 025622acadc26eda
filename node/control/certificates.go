package control

import "time"

// IssueRequest asks the mesh's CA for a client's certificate. Its private key stays
// where it was made.
type IssueRequest struct {
	Client string        `json:"client"`
	CSR    []byte        `json:"csr"` // PKCS #10, DER
	Life   time.Duration `json:"life_ns"`
}

// Issued is a certificate fresh from the mesh's CA.
type Issued struct {
	Schema      string    `json:"schema"`
	Client      string    `json:"client"`
	Serial      string    `json:"serial"`
	Ends        time.Time `json:"ends"`
	Certificate []byte    `json:"certificate"` // DER
}

// ImportRequest makes a CA known under a name.
type ImportRequest struct {
	Name  string   `json:"name"`
	Roots [][]byte `json:"roots"` // trust anchors, DER
}

// RevokeRequest names what to refuse: an imported CA, a certificate, or the serial
// number of one that is listed.
type RevokeRequest struct {
	Authority   string `json:"authority,omitempty"`
	Certificate []byte `json:"certificate,omitempty"` // DER
	Serial      string `json:"serial,omitempty"`
}

// Authorities lists whose certificates let clients in, and which are known.
type Authorities struct {
	Schema       string           `json:"schema"`
	Authorities  []AuthorityRow   `json:"authorities"`
	Certificates []CertificateRow `json:"certificates"`
}

// AuthorityRow is one trust anchor.
type AuthorityRow struct {
	Name    string    `json:"name"` // "mesh" is the mesh's own
	Subject string    `json:"subject"`
	Hash    string    `json:"hash"` // of its key
	Ends    time.Time `json:"ends"`
	State   string    `json:"state"`   // trusted, expired or revoked
	Clients int       `json:"clients"` // that log in by its certificates
}

// CertificateRow is one certificate that the mesh issued, or that was revoked.
type CertificateRow struct {
	Serial    string    `json:"serial"`
	Client    string    `json:"client"`
	Authority string    `json:"authority"`
	Ends      time.Time `json:"ends"`
	State     string    `json:"state"` // valid, expired or revoked
}
