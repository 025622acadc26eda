package automaton

// The limits of this package (I10).
const (
	// MaxHeld is how many packets one Checker follows at a time.
	MaxHeld = 1 << 16

	// MaxSent is how many sent packets a Composition remembers in order to
	// find feedback.
	MaxSent = 1 << 20
)
