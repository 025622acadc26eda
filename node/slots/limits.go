package slots

import "time"

// Limits (I10). Slots, room and budgets of the classes are node/port's.
const (
	// MaxSources is how many sources one generation remembers; two are kept.
	MaxSources = 8192
	// Grace is how long a handshake keeps its slot when others wait: a round
	// trip to the far side of the earth, and the peer's own computing.
	Grace = 700 * time.Millisecond
	// Young is how long a handshake, and the introduction behind it, counts among those that
	// are let in (Slots.Next).
	Young = 2 * Grace
	// Soon is how long a turn may be away for those who can be told to come again: they queue
	// for what is nearer. MaxWait is the longest that they are told, and Near the longest while
	// the crowd is not older than that.
	Soon    = 2 * time.Second
	Near    = 30 * time.Second
	MaxWait = 2 * time.Minute
	// SpeedOver is over how long turns are counted, SlowestRate how many a second there are
	// taken to be at least, and Faster how much more after each such time in which nobody
	// had to wait. Slower is how much of what was missing in one in which somebody waited is
	// believed to be missing in the next.
	SpeedOver   = time.Second
	SlowestRate = 5
	Faster      = 1.25
	Slower      = 0.25
	// Remembered is how long a source counts as what it proved to be.
	Remembered = time.Hour
	// SiegeFrom is how many refusals, none later than CalmAfter behind the one
	// before, are told to the operator.
	SiegeFrom = 20
	CalmAfter = 10 * time.Second
)
