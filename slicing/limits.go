package slicing

import "time"

// The limits of this package (I10).
const (
	// MaxSlices is how many slices one Set may hold; a Picker never looks
	// beyond it.
	MaxSlices = 64

	// DefaultQuantum is the bytes of one visit to a slice when a Set names
	// none: one full super-packet, so a run is sealed whole and a burst of
	// small packets stays together.
	DefaultQuantum = 64 << 10

	// MaxQuantum bounds a visit, and with it the error of every share.
	MaxQuantum = 1 << 20

	// MaxRun is the most bytes of one run that are accounted; a super-packet
	// has fewer than 64 KiB.
	MaxRun = 1 << 20

	// MaxLead is how many quanta a slice may be ahead of its share because
	// of flows that can't be sprayed. What goes beyond is forgiven: otherwise
	// an hour of one UDP flow would keep all TCP off its slice for an hour.
	MaxLead = 16

	// FlowSets and FlowWays bound the flows whose slice one Picker remembers. A
	// flow that finds no place goes by the rendezvous alone, so it keeps its
	// slice too, as long as no weight changes.
	FlowSets = 64
	FlowWays = 4

	// FlowIdle is how long a flow keeps its place against another one.
	FlowIdle = 10 * time.Second

	// ProbeWindow is how many probes a Meter remembers, DelayProbes how many of
	// the newest answers count for the delay, and MinProbes how many there must
	// be. An answer that has not come after LostAfter is lost.
	ProbeWindow = 16
	DelayProbes = 6
	MinProbes   = 3
	LostAfter   = 500 * time.Millisecond

	// LeastSkew and MostSkew bound the rungs of a skew, and SkewHolds is how
	// long it must have been less before it counts as less.
	LeastSkew = 5 * time.Millisecond
	MostSkew  = 5120 * time.Millisecond
	SkewHolds = 5 * time.Second

	// SkewLimit is the most by which paths may differ that one flow is sprayed
	// over; TCP bears a quarter of its round trip, and few paths are shorter.
	SkewLimit = 20 * time.Millisecond
)

// The limits of a Resequencer.
const (
	// MaxHold is the longest that a segment waits for the one before it: more
	// than the skew of usable slices, far less than TCP's own patience.
	MaxHold = 25 * time.Millisecond

	// MaxFlows is how many flows are followed; a further one takes the place
	// of another. MaxHeld and MaxHeldBytes bound what waits of one flow,
	// MaxHeldInAll of all.
	MaxFlows     = 256
	MaxHeld      = 256
	MaxHeldBytes = 1 << 20
	MaxHeldInAll = 8 << 20

	// MinPause and MaxPause are how long a flow is let pass as it comes, once
	// waiting for it did not pay.
	MinPause = time.Second
	MaxPause = time.Minute

	// won, lost and broke are the score of waiting: what a hole that closed in
	// time is worth and one that did not costs, and where it is given up.
	won, lost, broke = 1, 2, -6
	mostWon          = 8
)
