package dataplane

import (
	"time"

	"github.com/meshcrypt/meshcrypt/mesh/link"
)

const (
	// slabBytes holds one outgoing train and the sealed form of its last frame.
	slabBytes = link.MaxTrain + 4096
	// MaxControl is the largest control message inside an SA, so that its
	// datagram passes every path of 1,280 bytes.
	MaxControl = 1200
	// MaxPadded is the largest control message that tests how large packets may be.
	MaxPadded = 9216
	// MinLimit is the smallest packet that one datagram always carries.
	MinLimit = 576
	// RefusalsPerSecond and RefusalBurst bound the ICMP messages by which one
	// worker refuses packets that are too large.
	RefusalsPerSecond = 1000
	RefusalBurst      = 50
	// MaxHalves is how many packets cut in two wait for their other half at one
	// worker, MaxHalvesPerPair how many of one pair.
	MaxHalves        = 64
	MaxHalvesPerPair = 8
	// HalfLife is how long one waits.
	HalfLife = time.Second
	// MaxSmallTrain is how many small packets leave together.
	MaxSmallTrain = link.MaxSegments
	// smallMost is the largest packet that counts as small, smallFrame its size
	// when it is sealed.
	smallMost  = 126
	smallFrame = 160
	// MaxCoalesced is the largest number of inner packets in one written
	// super-packet; the kernel's own limit for UDP is the same.
	MaxCoalesced = 64
	// MaxExtensions is how many extension headers an inner packet may have
	// (RFC 8504, 5.3, lets a host stop there).
	MaxExtensions = 8
	// MaxFaults is how many errors in a row a worker takes from its socket or
	// queue before it gives up and reports the last one.
	MaxFaults = 64
	// MaxWorkers bounds the queues and sockets one engine serves at a time.
	MaxWorkers = 1024
	// StallLimit is how long this process may stand still, and OwnerLimit how long the owner
	// may not tick, before nothing is opened or sealed until the owner has confirmed its
	// slices. RanEvery is how often a busy process notes that it runs.
	StallLimit = 300 * time.Millisecond
	OwnerLimit = 5 * time.Second
	RanEvery   = 20 * time.Millisecond
	// BusyRate is how many packets a second make an engine busy, looked at each BusyEvery;
	// CalmAfter is for how long there are fewer until it is busy no more.
	BusyRate  = 20_000
	BusyEvery = 100 * time.Millisecond
	CalmAfter = 5 * time.Second
	// KeyLife is how long the keys of one pair may be used, at both ends
	// (design 5: hard 15 minutes); the owner sets Pair.Ends by it.
	KeyLife = 15 * time.Minute
	// ChallengeInterval is the least time between two questions along one way.
	ChallengeInterval = 20 * time.Millisecond
	// AmplificationMost is how many bytes go along a way that is not proven for each
	// that came (RFC 9000, 8.1).
	AmplificationMost = 3
	// MaxWays is how many ways of one peer are remembered, and WayEvery how often
	// there may be a new one when so many came at once.
	MaxWays  = 8
	WayEvery = 2 * time.Second
	// TokenLife is how long the same question is asked along a way; it counts as
	// long again. ProvenFor is how long a way stays proven that is not in use: less
	// than a gateway's port rests.
	TokenLife = 5 * time.Second
	ProvenFor = 10 * time.Second
	// FloodTold is how many packets are replayed, or forged, at an SA between two
	// looks before it is worth while to keep them out of the queue. AheadMost is
	// how far beyond its window a packet may then be: the peer may have sent so
	// many since.
	FloodTold = 100
	AheadMost = 1 << 20
	// FloodHeld is how long after a flood its SA is still told: the next one finds
	// the queue defended.
	FloodHeld = 10 * time.Second
	// ViolationInterval is the least time between two reports of the same
	// reason by one worker.
	ViolationInterval = time.Second
)
