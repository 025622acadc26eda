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
)
