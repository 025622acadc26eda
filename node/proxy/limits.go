package proxy

import "time"

// Limits of the proxy (I10).
const (
	// MaxConnections is how many connections of local programs are served at
	// once, UDP associations included. One more is closed.
	MaxConnections = 1024
	// HandshakeTimeout bounds what comes before the destination is known.
	HandshakeTimeout = 10 * time.Second
	// DialTimeout bounds the way to a destination, all its addresses together.
	DialTimeout = 20 * time.Second
	// MaxAddresses is how many addresses of one name are tried.
	MaxAddresses = 8
	// AssociationIdle ends a UDP association over which nothing passes.
	AssociationIdle = 10 * time.Minute
	// MaxNames and NameLife bound the names that one association remembers.
	MaxNames = 64
	NameLife = time.Minute
	// MaxHeader bounds the header of an HTTP request.
	MaxHeader = 64 << 10
	// MaxIdleOnward is how many unused HTTP connections are kept, OnwardIdle
	// for how long.
	MaxIdleOnward = 64
	OnwardIdle    = 30 * time.Second

	maxDatagram  = 65535
	acceptRetry  = 50 * time.Millisecond
	maxNameBytes = 255
)
