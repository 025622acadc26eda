package pmtu

import "time"

// MinMTU is the least that a session offers: IPv6 must pass. Where a datagram
// carries less, larger packets travel in two.
const MinMTU = 1280

// Legacy is what a far end is assumed to take that answers no padded probe of
// any size though it is heard: it is older than they are.
const Legacy = 1420

// BaseOuter is the outer packet that is assumed to pass before anything was
// measured: the MTU of every IPv6 link.
const BaseOuter = 1280

// Outers are the outer packets that a first round tries: the MTUs that links
// have. The last one is the largest that is ever used, the first one the
// smallest with which two datagrams still carry MinMTU.
var Outers = [...]int{728, 1024, 1200, BaseOuter, 1380, 1400, 1420, 1440, 1460, 1480, 1492, 1500, 2000, 4000, 9000}

// Limits of a search (I10).
const (
	// SearchTries is how often a size is tried before it counts as too large,
	// ConfirmTries the same for one that passed before.
	SearchTries  = 3
	ConfirmTries = 4
	// Points is how many sizes a round of bisection tries.
	Points = 3
	// MaxAttempts is the most sizes under test at a time.
	MaxAttempts = len(Outers) + 1
	// Grain is how close a search comes.
	Grain = 8
)

// Times of a search.
const (
	// ConfirmEvery is how often the size in use is shown again under traffic.
	ConfirmEvery = 500 * time.Millisecond
	// RaiseEvery is how often larger sizes are tried under traffic (RFC 8899
	// 5.1.1), RaiseSoon the same after the size had to shrink.
	RaiseEvery = 10 * time.Minute
	RaiseSoon  = time.Minute
	// MaxRest is the longest pause between two rounds while nothing is heard. The
	// first one is as long as an answer may take, each further one twice that.
	MaxRest = 15 * time.Second
)
