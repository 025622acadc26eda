package raftmodel

import "time"

// Times that consensus leaves to the library, or to the machine. Those of elections are
// consensus's own.
const (
	WriteLeast  = 500 * time.Microsecond // of one write to disk
	WriteMost   = 4 * time.Millisecond
	Resend      = 250 * time.Millisecond // until a message of entries without an answer is sent anew
	RefusedMost = time.Second            // between two tries at a server that refuses entries
	LeaseLeast  = 10 * time.Millisecond  // between two looks at the lease
)

// Limits (I10).
const (
	MaxQueued = 1_024 // proposals that are not in the log yet
	MaxAsked  = 64    // servers without an answer to Reach
	MaxPast   = 64    // writes that Lose can undo
)
