package masquerade

import "time"

// Limits of an egress (I10).
const (
	// MaxFlows is how many flows are carried at once, MaxFlowsOfClient how many
	// of one lease. One more is refused.
	MaxFlows         = 2048
	MaxFlowsOfClient = 1024
	// DialTimeout bounds the way to a destination.
	DialTimeout = 20 * time.Second
	// IdleUDP ends a flow of datagrams over which nothing passes (RFC 4787 asks
	// for no less than 2 min). That of connections is node/splice's.
	IdleUDP = 3 * time.Minute
	// RefusedFor is how long datagrams to a port that was closed are refused
	// without asking it.
	RefusedFor = time.Second

	maxDatagram = 65535
)
