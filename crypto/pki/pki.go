// Package pki says what a key may be: the mesh's certificate authority, the
// short-lived certificates it gives to nodes and to the arbiter, the longer ones it
// gives to clients, how a peer's certificates are judged, and the token by which a new host joins.
//
// Identity is the key. A certificate adds the cluster and the roles that its
// holder may take, in one URI: mesh://<cluster>/<roles>/<node>. It counts only
// while the registry lists that key with that role, which the caller checks.
//
// The package owns certificates, requests, join tokens and the tls.Config of
// our own parties. It does not own storage, the registry's lists, sockets, or
// a clock: the time is an argument everywhere.
package pki

import "errors"

// Why a certificate, request, token or connection was refused. Dates are
// judged last: ErrExpired and ErrNotYetValid speak of genuine certificates.
var (
	ErrCertificate = errors.New("pki: not a certificate of this kind")
	ErrName        = errors.New("pki: malformed name")
	ErrAuthority   = errors.New("pki: not of the pinned certificate authority")
	ErrCluster     = errors.New("pki: certificate of another mesh")
	ErrKey         = errors.New("pki: key does not match")
	ErrRole        = errors.New("pki: role not allowed")
	ErrExpired     = errors.New("pki: certificate expired")
	ErrNotYetValid = errors.New("pki: certificate not valid yet")
	ErrRequest     = errors.New("pki: malformed certificate request")
	ErrToken       = errors.New("pki: malformed join token")
	ErrHash        = errors.New("pki: malformed CA hash")
	ErrProtocol    = errors.New("pki: not exactly the one expected ALPN protocol")
)

// The roles a certificate can name. RoleArbiter is never given on request: a
// leader mints it for itself, for ArbiterLife.
const (
	RoleAgent   = "agent"
	RoleArbiter = "arbiter"
	RoleGateway = "gateway"
	RoleVoter   = "voter"
	RoleWitness = "witness"
)
