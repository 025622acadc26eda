package splice

import "time"

// Limits of a pair of connections (I10).
const (
	// IdleLimit ends a connection over which nothing passes (RFC 5382 asks
	// for no less than 2 h 4 min), HalfIdleLimit one of which a direction has
	// ended. idleLook is how often this is looked at.
	IdleLimit     = 125 * time.Minute
	HalfIdleLimit = 5 * time.Minute
	idleLook      = time.Minute

	bufferSize = 64 << 10

	// HalfCloseLinger is how long one direction of a relay may go on after the
	// other has ended.
	HalfCloseLinger = 30 * time.Second
	// relayBuffer is kept twice for each relay, so it is small: ten thousand
	// idle clients cost 80 MB.
	relayBuffer = 4 << 10
)
