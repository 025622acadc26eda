package load

import "time"

// Limits and constants (I10).
const (
	// MinTicks is the least count between two samples; less says nothing.
	MinTicks = 10
	// MaxGroupDepth bounds how many control groups above ours are asked.
	MaxGroupDepth = 32
	// QuotaEvery is how long the CPU limit of control groups is taken for what it was: it
	// changes by an operator's hand, or once for a new unit.
	QuotaEvery = 5 * time.Second
	// DefaultBudget is a sensible time for Calibrate.
	DefaultBudget = 50 * time.Millisecond
	// maxBudget bounds what a caller may spend.
	maxBudget = time.Second
	// ticksPerSecond is USER_HZ, fixed by the kernel's interface.
	ticksPerSecond = 100
	// overhead is how many times more an agent spends on a byte than sealing
	// it takes: receiving, sending and the TUN are most of the work.
	overhead = 6
)
