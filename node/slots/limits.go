package slots

import "time"

// Limits (I10). Slots, room and budgets of the classes are node/port's.
const (
	// MaxSources is how many sources one generation remembers; two are kept.
	MaxSources = 8192
	// Grace is how long a handshake keeps its slot when others wait: a round
	// trip to the far side of the earth, and the peer's own computing.
	Grace = 700 * time.Millisecond
	// Remembered is how long a source counts as what it proved to be.
	Remembered = time.Hour
	// SiegeFrom is how many refusals, none later than CalmAfter behind the one
	// before, are told to the operator.
	SiegeFrom = 20
	CalmAfter = 10 * time.Second
)
