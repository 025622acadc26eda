package descriptors

import "time"

// Limits and times (I10).
const (
	// MaxAside is how many are set aside: the streams of two other voters, this node's own to
	// the arbiter, its trunk, two operators, and as much again. A process with a low limit
	// sets one in asideShare of it aside.
	MaxAside   = 32
	asideShare = 8
	// maxLent is how many are given up for one attempt: others may take what comes free.
	maxLent = 4
	// LookEvery is how often it is looked whether there is one to be had. Who found none for
	// ShortAfter is short of them, until it has found some for ShortFor.
	LookEvery  = 500 * time.Millisecond
	ShortAfter = time.Second
	ShortFor   = 10 * time.Second

	// acceptAgain is the pause of a listener after an attempt that failed for want of them.
	acceptAgain = 50 * time.Millisecond
)
