package mirror

import "time"

// Limits of a stream (I10).
const (
	// MaxFlows is how many flows of one egress a second keeps.
	MaxFlows = 65536
	// MaxPrefixes is how many pool parts one stream is about.
	MaxPrefixes = 256
	// maxFrame is a request for MaxPrefixes, the largest frame.
	maxFrame = 1 + MaxPrefixes*(2+16)
)

// Times of a stream.
const (
	// AliveEvery is how often an egress says that it is there, and checks that
	// its peer is still its second.
	AliveEvery = time.Second
	// SilentAfter ends a stream over which nothing came, or nothing left.
	SilentAfter = 10 * AliveEvery
	// ResyncEvery is how often all flows are told again, ResyncPause how soon
	// after one list another may follow.
	ResyncEvery = 5 * time.Minute
	ResyncPause = time.Second
	// Keep is how long a flow lives in the second's kernel at least, where no
	// packet renews it: beyond the next whole list.
	Keep = 3 * ResyncEvery
	// RedialAfter is the pause after a stream that failed.
	RedialAfter = 500 * time.Millisecond
)
