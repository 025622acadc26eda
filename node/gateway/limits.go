package gateway

import (
	"time"

	"github.com/meshcrypt/meshcrypt/crypto/esp"
)

const (
	// MaxRows is how many rows a gateway holds for all nodes together.
	MaxRows = 1 << 16
	// MaxPorts is how many inside ports are opened, and so how many rows one
	// node can have: a row's port is unique among the rows of its node. Linux has
	// 28,232 ports to give out where nobody changed that.
	MaxPorts = 1 << 14
	// MaxUnconfirmed is how many rows of one node may wait for its answer: more
	// push out the oldest of them. A port is a socket, and each waiting row has one.
	MaxUnconfirmed = 256
	// MaxRowsPerSA is how many rows one source prefix has for one SPI: a client
	// whose NAT forgot has another port, and a retired row waits for its end.
	MaxRowsPerSA = 8
	// PrefixShare is how many rows of a node one source prefix may have for each
	// that is free: 12,288 of 16,384 when it is alone, and never all.
	PrefixShare = 3
	// SPIShare is the same of one SPI over all prefixes, of which it has MaxRowsPerSPI
	// at most. MaxRowsPerSA it may have in any case.
	SPIShare      = 1
	MaxRowsPerSPI = 512
	// MaxDuplicates is how many datagrams are remembered by their ends, and how many
	// whole, to know copies by.
	MaxDuplicates = 1 << 15
	// MaxPrefixes is how many source prefixes have a token bucket.
	MaxPrefixes = 1 << 14
	// PrefixBurst is how many rows one source prefix can make at once: thousands of
	// clients behind one carrier's NAT come back together.
	PrefixBurst = 1024
	// PrefixRate is how many more it can make each second.
	PrefixRate = 512
	// MaxStreams is how many clients a gateway takes in by streams, and
	// MaxStreamsPerPrefix how many of one source prefix: a hotel, an office.
	MaxStreams          = 512
	MaxStreamsPerPrefix = 64
	// IdleUnconfirmed and IdleConfirmed are how long a row lives without an
	// answer of its node: the first one, and the next. Clients ask every 15 s, parked ones
	// each slice once a minute. A
	// stream lives as long without one.
	IdleUnconfirmed = 5 * time.Second
	IdleConfirmed   = 90 * time.Second
	// AnswerStep is how exact the time of a row's last answer is.
	AnswerStep = time.Second
	// PortRest is how long an inside port that was answered at is given to no
	// other client: until then the node may answer the one before. A client that
	// lives has spoken by another way meanwhile. PortRestLeast is how long where
	// no other port is left, and for a port where nothing was answered.
	PortRest      = 20 * time.Second
	PortRestLeast = time.Second

	// FaultShown is how long it is said that a port did not open, unless one does.
	FaultShown = time.Minute

	// minESP is the smallest ESP datagram there can be.
	minESP = esp.MinFrame
	// endLen is how much of each end: SPI, sequence number and IV, and the ICV.
	endLen = 16
	// minAccept and maxAccept bound an accept: header, SPIs, encapsulation,
	// signature and knock.
	minAccept = 1200
	maxAccept = 1232
	// shards spreads the table's locks; a power of two.
	shards = 64
)
