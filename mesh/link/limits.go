package link

import "time"

// Limits of a train. The kernel takes at most 64 segments before 6.9, and
// 49 segments of 1,436 bytes (70 KB) give EMSGSIZE, so both bounds count.
const (
	// MaxTrain is the largest number of bytes in one train.
	MaxTrain = 65000
	// MaxSegments is the largest number of datagrams in one train.
	MaxSegments = 64
	// BufferBytes is the socket buffer asked for in each direction. Beyond
	// this, queueing time starts to defeat the failure detector (8 MB at
	// 1 Gbit/s is 64 ms).
	BufferBytes = 8 << 20
	// MaxSockets is the largest number of sockets Listen opens on one port.
	MaxSockets = 256
	// MaxAhead is how many messages one system call takes beside the one that is
	// asked for; each may be a train, and has a buffer. singleMost is the longest
	// one that is taken for a single datagram.
	MaxAhead   = 7
	singleMost = 2048
	// MaxReaders is how many goroutines read a Group, MaxMembers how many sockets it has.
	MaxReaders = 256
	MaxMembers = 1 << 16
	// readyAtOnce is how many ready sockets of a Group one reader is told of by one
	// call: others have the rest. turn is how many messages it takes of one before
	// the others have theirs.
	readyAtOnce = 4
	turn        = 64
	// A socket that wakes a reader busyAfter times, each within busyWithin of the last,
	// has a goroutine of its own until nothing
	// comes for quietAfter. There are at most ownReaders of those for each reader. One that
	// is no member rests until so many came, each within quietAfter of the last.
	busyAfter  = 32
	busyWithin = 2 * time.Millisecond
	quietAfter = 10 * time.Millisecond
	ownReaders = 2
	// sendRetries bounds how often one Send repeats a call that reported an
	// earlier datagram's ICMP error or an interrupted wait.
	sendRetries = 8
	// MaxKnown is how many peers a Door tells from strangers: each makes the
	// kernel's comparison longer.
	MaxKnown = 512
	// MaxWindows is how many SPIs the kernel compares the sequence numbers of;
	// of what is beyond a window a socket that hears answers takes up one in
	// sampled.
	MaxWindows = 64
	sampled    = 16
	// MaxAnswering is how many hosts may answer at a socket that only hears answers.
	MaxAnswering = 64
	// StrangerBytes is the queue of a strangers' socket, StrangerRate how many
	// trains a second it takes up, StrangerBurst how many at once.
	StrangerBytes = 512 << 10
	StrangerRate  = 10_000
	StrangerBurst = 1_000
	// strangerNap is the shortest wait for that budget.
	strangerNap = time.Millisecond
)
