package node

import (
	"time"

	"github.com/meshcrypt/meshcrypt/node/gateway"
	"github.com/meshcrypt/meshcrypt/node/port"
)

// Limits and times of a node (I10).
const (
	// Descriptors is how many this process asks the kernel for: two for each connection
	// that its TCP port may hold and relay, and the gateway's ports twice over.
	Descriptors = 2*port.MaxConnections + 2*gateway.MaxPorts
	// FirstSessions is how many sessions one client may have in a new mesh.
	FirstSessions = 4
	// FirstTokenUses and FirstTokenLife are of the token that init prints.
	FirstTokenUses = 4
	FirstTokenLife = time.Hour
	// RenewCheck is how often the certificate's age is looked at.
	RenewCheck = time.Minute
	// RenewRetry is the pause after a renewal that failed.
	RenewRetry = 2 * time.Second
	// DialTimeout bounds a TLS connection to another node.
	DialTimeout = 2 * time.Second
	// JoinTimeout bounds a join or renewal through one peer.
	JoinTimeout = 10 * time.Second
	// OperatorWait bounds one operation.
	OperatorWait = 10 * time.Second
	// WorkMoves bounds leave and drain, which wait for what a node carries to
	// move; WorkLook is how often they look.
	WorkMoves = 58 * time.Second
	WorkLook  = 250 * time.Millisecond
	// LeaveAgain is when a node that heard nothing asks to leave once more:
	// there may be another arbiter.
	LeaveAgain = time.Second
	// GoodbyeWithin is how long a stopping daemon finishes answers, and how
	// long it tries to pass the lead on.
	GoodbyeWithin = time.Second
	// EndWithin is how long the parts of a daemon have to end. Those that wait for a host
	// without power take some seconds each: gossip that looks for others, what the log has
	// under way, and the goodbye.
	EndWithin = 30 * time.Second
	// ClientEndsWithin is how long a next client waits for one that is about to end.
	ClientEndsWithin = 2 * time.Second
	// SupersededLinger is how long a node whose key another process has waits for its
	// answer to be on its way; it carries nothing meanwhile.
	SupersededLinger = 500 * time.Millisecond
	// RelayRetry is the pause between attempts to reach one meanwhile.
	RelayRetry = 100 * time.Millisecond
	// TrunkWait is how long at most of port.RelayWait a client's connection waits to hear
	// whether the arbiter takes trunks.
	TrunkWait = time.Second
	// AcquaintEvery is how often the TCP port is told who is no stranger.
	AcquaintEvery = time.Second
	// MaxAcquaintances is how many clients it is told at most.
	MaxAcquaintances = 1 << 16
	// CalibrateFor is how long the sealing capacity is measured at start.
	CalibrateFor = 50 * time.Millisecond
	// GossipEvery is how often the load is gossiped and lost members are sought.
	GossipEvery = time.Second
	// ReachEvery is how often the other servers of the log are asked whether they
	// answer, ReachWithin how long an answer may take, and ReachStale how long it
	// counts.
	ReachEvery  = time.Second
	ReachWithin = 5 * time.Second
	ReachStale  = 3 * time.Second
	// ClockEvery is how often it is looked whether voters are to be asked for the time,
	// ClockWithin how long an answer may take, and ClockStale how long it counts.
	ClockEvery  = time.Second
	ClockWithin = 3 * time.Second
	ClockStale  = 30 * time.Second
	// ApartMost is how seldom an arbiter asks a member that does not answer whether it is one, too.
	ApartMost = 10 * time.Second
	// DiskEvery is how often the disk of the data directory is looked at. With less than
	// DiskLeast bytes free it is full.
	DiskEvery = time.Second
	// KnownTurns is how many looks at the disk it takes until it hears how far the log went;
	// KnownWithin how long a voter that starts waits for others to say so, MaxAsked how many.
	KnownTurns  = 5
	KnownWithin = time.Second
	MaxAsked    = 16
	DiskLeast   = 1 << 20
	// HeadlessLeast is the shortest time without an arbiter that an operator may set: an
	// election on a busy host, or a restart of all voters, must fit in.
	HeadlessLeast = time.Minute
	// RefuseEvery is how often it is looked whether the arbiter is to be told whom this log
	// refuses, MaxRefusals how many at a time.
	RefuseEvery = 2 * time.Second
	// RoomEvery is how often that is tried where the arbiter has no room for it.
	RoomEvery   = time.Minute
	MaxRefusals = 1024
	// HeapEvery is how often it is looked how much is made on the heap. HeapAtRest and
	// HeapBusy are the least and the most that it may have more than what lives, in
	// percent, the first also the step between them, and HeapLeast and HeapHoles the same in
	// bytes; HeapMarks is how many bytes collections may mark in a second with less than the
	// most: some two hundredths of a core. What is kept for later and is more than the room
	// by HeapSpare percent of the heap goes back to the host at once; each HeapTurns-th
	// look, also what is room. HeapCalm looks find less to do before the room shrinks.
	HeapEvery  = time.Second
	HeapCalm   = 5
	HeapAtRest = 5
	HeapBusy   = 200
	HeapLeast  = 4 << 20
	HeapHoles  = 48 << 20
	HeapMarks  = 16 << 20
	HeapSpare  = 3
	HeapTurns  = 60
	// HandOverWithin is how long another voter may take to take the lead over.
	HandOverWithin = time.Second
	// LeadAgain is how long a node that cannot be the arbiter, and finds nobody else,
	// waits before it tries again.
	LeadAgain = time.Second
	// FaultsEvery is how often this host is looked at for what is in the way; less
	// often where a look takes more than one FaultsShare-th of that.
	FaultsEvery = 500 * time.Millisecond
	FaultsShare = 50
	// LookAtAddresses is how often this host's addresses are read, beside the
	// kernel's word that one changed.
	LookAtAddresses = 5 * time.Second
	// ExposedFor is how long the inside interface counts as one that strangers
	// reach, after they did.
	ExposedFor = time.Minute
	// KnowEvery is how often it is looked who is no stranger any more, and
	// what is flooded.
	KnowEvery = 100 * time.Millisecond
)

const (
	// MaxWorkers bounds the TUN queues and the sockets of one port.
	MaxWorkers = 16
	// MaxToldNetworks bounds the local networks that a client has warned of: later
	// ones are in its status only.
	MaxToldNetworks = 1024
	// NodeMTU is the MTU of a node's TUN, as large as any network's: what a
	// session does not carry, the packet engine refuses by itself.
	NodeMTU = 9216
)
