package mesh

import "time"

// Limits of the mesh.
const (
	// MaxHint is the most bytes of metadata a member may gossip.
	MaxHint = 512
	// MaxMembers is how many names the table of members holds; there are no
	// more node indexes.
	MaxMembers = 4095
	// HintInterval is the least time between two hints sent: each is
	// broadcast to the whole mesh. In a large one it is longer, so that the hints
	// of all fill no more than one hintShare-th of what a member gossips.
	HintInterval = 500 * time.Millisecond
	hintShare    = 2
	// hintBytes is what one takes in a gossip datagram, with the member's name and
	// address around it.
	hintBytes = 192
	// sendTimeout bounds the wait until a changed hint has left this node:
	// 16 transmissions, 3 at a time, 5 times a second in the largest mesh.
	sendTimeout = 1500 * time.Millisecond
	// LeaveTimeout bounds each of the two steps of Leave.
	LeaveTimeout = 2 * time.Second

	// packetBytes is the largest gossip datagram, below the MTU of any path
	// that carries IPv6.
	packetBytes = 1200
	// queueDepth is how many received gossip messages wait to be handled.
	queueDepth = 1024
	// streamTimeout bounds every operation on a gossip TCP stream.
	streamTimeout = 5 * time.Second
	// reclaimAfter is how long a dead name keeps its address; then the node
	// may come back under another one.
	reclaimAfter = 10 * time.Second

	// receiveBuffer is how many bytes of datagrams the kernel may keep for us, datagramMost the
	// largest that there is.
	receiveBuffer = 2 << 20
	datagramMost  = 1<<16 - 1
	// bindTries is how often a number is looked for that is free for UDP and TCP.
	bindTries = 10
	// errorPause is how long a port that failed is left alone.
	errorPause = 50 * time.Millisecond
)
