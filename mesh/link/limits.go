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
