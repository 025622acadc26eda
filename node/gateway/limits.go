package gateway

import (
	"time"

	"github.com/meshcrypt/meshcrypt/crypto/esp"
)

const (
	// MaxRows is how many rows a gateway holds for all nodes together.
	MaxRows = 1 << 16
	// MaxPorts is how many inside ports are opened, and so how many rows one
	// node can have: a row's port is unique among the rows of its node.
	MaxPorts = 1024
	// MaxUnconfirmed is how many rows of one node may wait for its answer: more
	// push out the oldest of them. A port is a socket and a thread, and each
	// waiting row has one.
	MaxUnconfirmed = 256
	// MaxDuplicates is how many datagrams are remembered to know copies by.
	MaxDuplicates = 1 << 15
	// MaxPrefixes is how many source prefixes have a token bucket.
	MaxPrefixes = 1 << 14
	// PrefixBurst is how many rows one source prefix can make at once.
	PrefixBurst = 256
	// PrefixRate is how many more it can make each second.
	PrefixRate = 64
	// MaxStreams is how many clients a gateway takes in by streams, and
	// MaxStreamsPerPrefix how many of one source prefix: a hotel, an office.
	MaxStreams          = 512
	MaxStreamsPerPrefix = 64
	// IdleUnconfirmed and IdleConfirmed are how long a row lives without a
	// packet of its client, and a stream too. Clients speak every 15 s.
	IdleUnconfirmed = 5 * time.Second
	IdleConfirmed   = 90 * time.Second
	// MaxFaults is how many errors in a row an inside port survives.
	MaxFaults = 64

	// minESP is the smallest ESP datagram there can be.
	minESP = esp.MinFrame
	// minAccept and maxAccept bound an accept: header, SPIs, encapsulation,
	// signature and knock.
	minAccept = 1200
	maxAccept = 1232
	// shards spreads the table's locks; a power of two.
	shards = 64
)
