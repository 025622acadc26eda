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
	// relayBuffer is small, for connections that cannot be waited for without one keep it.
	relayBuffer = 4 << 10
)
