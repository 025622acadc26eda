package pki

import "time"

// How long certificates live.
const (
	AuthorityYears = 10                  // of the CA certificate
	NodeLife       = 24 * time.Hour      // of a node's certificate
	ArbiterLife    = time.Hour           // of the certificate a leader mints for itself
	Backdate       = 5 * time.Minute     // before now, for peers whose clock is behind
	RenewGrace     = 90 * 24 * time.Hour // past expiry, in which a listed key may still renew
)

// How long the certificates of clients live.
const (
	ClientLife    = 365 * 24 * time.Hour     // unless the operator says otherwise
	MaxClientLife = 5 * 365 * 24 * time.Hour // at most, and never longer than the CA's
)

// Bounds on what a client may present (I10); other authorities write more into their
// certificates than ours does.
const (
	MaxClientChain       = 4       // certificates: the leaf and what is between it and an anchor
	MaxClientCertificate = 8 << 10 // bytes of one certificate or request
	minRSA, maxRSA       = 2048, 8192
)

// Bounds on what a peer may present (I10).
const (
	MaxChain       = 2    // certificates: the leaf and its CA
	MaxCertificate = 2048 // bytes of one certificate
	MaxRoles       = 8    // roles in one name
	MaxRole        = 16   // letters of one role
)

// MaxName is the length of the longest name that the bounds above allow.
const MaxName = len(scheme) + clusterLength + 1 + MaxRoles*(MaxRole+1) - 1 + 1 + nodeLength
