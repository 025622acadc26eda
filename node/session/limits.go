package session

import "time"

// Waits. All are measured on the clock that Step and Tick are given.
const (
	// AckTimeout is how long an agent that answers nothing has to acknowledge a grant.
	AckTimeout = 200 * time.Millisecond

	// AckMost is how much longer one has that acknowledges others meanwhile: a crowd that
	// comes back at once is granted more than an agent does in AckTimeout.
	AckMost = 3 * time.Second

	// NodeGone is how long a node's stream may be down before its slices are void.
	NodeGone = 500 * time.Millisecond

	// RebuildGrace is how long a new arbiter waits for a node it has not
	// heard of before it counts it as gone. It is more than the longest way of a
	// node that is well, when the last arbiter's host lost its power: 3 s at an older
	// build until silence is taken for the end (loop.NodePatience), then two hosts that
	// do not answer, 2 s each (search.Within). What is really gone need not wait for it:
	// a client names the slices that it does not hear, an egress's second takes over
	// by itself, and a spare carries. What waits is the one slice of a session that
	// has no other, when its agent went with the arbiter.
	RebuildGrace = 7 * time.Second

	// SuspectAfter is when a connected node is not given a part any more: it reports
	// its load every 500 ms.
	SuspectAfter = 1250 * time.Millisecond

	// EgressGrace is how long an egress may be gone before it is replaced
	// without its second having said that it took over.
	EgressGrace = 2 * time.Second

	// TakenGrace is how long a new arbiter waits for an egress that it has not heard of
	// and whose second says that it took over.
	TakenGrace = 3 * time.Second

	// AnewFor is how long an egress counts as one that began anew: its second may have to
	// find the arbiter before it can say that it took over.
	AnewFor = 3 * time.Second

	// MendedHold is how long a part stays where it is after it left a broken
	// egress, if the only node that could take it was broken itself a while ago.
	MendedHold = 10 * time.Second

	// ContestOver is the time in which MaxContests takeovers of a part from a
	// connected egress are not confirmed. The next one moves the part: something
	// between the two is wrong that neither of them sees. Not twice in ContestHold.
	ContestOver = 10 * time.Second
	ContestHold = time.Minute

	// UpTimeout is how long a client has to bring up a slice it was sent.
	UpTimeout = 3 * time.Second

	// OpenWait is how long a client waits for the last of its slices once
	// the first is acknowledged.
	OpenWait = time.Second

	// OpenDeadline is when a session of which no slice was acknowledged is given up.
	OpenDeadline = 5 * time.Second

	// UpGather is how long the first slice of a login that is up waits for the others to
	// be marked with them. It delays the client's first replies where one does not come.
	UpGather = 25 * time.Millisecond

	// RetireDelay is how long an old epoch goes on after the new one is up.
	RetireDelay = 5 * time.Second

	// RetryEvery is the pause before a command of unknown outcome is
	// proposed again under its ID.
	RetryEvery = time.Second

	// MoveHold is how long a slice stays where it is after a move, unless
	// it has no living owner, or is silent and no sibling is up.
	MoveHold = 30 * time.Second
	// StayFor is how long a silent slice that waits for that stays with its agent: longer
	// than its client needs to go to another gateway.
	StayFor = 5 * time.Second

	// FailureHold is how long a node that failed a slice is avoided for it;
	// it doubles with each failure up to MaxFailureHold.
	FailureHold    = time.Second
	MaxFailureHold = 30 * time.Second

	// GrowEvery is the least time between two slices added to one session.
	GrowEvery = 5 * time.Second

	// WeighEvery is the least time between two weighings of one session, and over which
	// those of a node's sessions are spread.
	WeighEvery = 5 * time.Second

	// ShareHold is for how long a node's capacity must be another, by more than a part of
	// ShareWithin, before the weights of its sessions follow.
	ShareHold   = 10 * time.Second
	ShareWithin = 10

	// ReserveFor is how long a grant counts as used capacity before the
	// node's own load reports are trusted to show it.
	ReserveFor = 5 * time.Second

	// LoadOver is the time over which a node's load is averaged for weights.
	LoadOver = 5 * time.Second

	// AbandonAfter is added to the headless time: a session whose
	// client was not heard of for both is ended (I12, I13).
	AbandonAfter = time.Minute

	// SilentAfter is how long nobody may have heard a session's client when it
	// gives way to a new login: four of the probes of a client that is idle. Of a parked
	// one agents say nothing for registry.ParkedWord, and it asks each of them once a
	// minute: so it is that and ParkedSilent.
	SilentAfter  = time.Minute
	ParkedSilent = 2 * time.Minute
)

// Sizes (I10).
const (
	// DefaultSlices is the most slices of a session when the policy names none.
	DefaultSlices = 8

	// MaxPrekeys is how many unused prekeys of one node are remembered.
	MaxPrekeys = 4096

	// MaxReserved is how many grants of the last ReserveFor one node's free
	// capacity accounts for; the oldest make room.
	MaxReserved = 4096

	// MaxOpenings is how many requests may be between question and answer.
	MaxOpenings = 1024

	// MaxProposals is how many commands may be without outcome. Requests are
	// refused from half of it, so that repairs always find room.
	MaxProposals = 4096

	// MaxTried is how many failed nodes are remembered for one slice.
	MaxTried = 8

	// LastResort is how often others fail a slice of unknown bandwidth before
	// the arbiter's own node takes it while it counts as last.
	LastResort = 3

	// MaxContests is how many takeovers of a part are turned down in ContestOver.
	MaxContests = 2

	// MaxReplans is how often a request is planned anew because a prekey or
	// boot was superseded between plan and commit.
	MaxReplans = 3

	// BareAfter is how long slices without an agent are gathered before the
	// operator is told of them.
	BareAfter = time.Second

	// RefillsPerSecond is how many slices without owner are granted anew in
	// a second, over all sessions.
	RefillsPerSecond = 2000

	// MovesPerSecond is how many slices are moved or added in a second
	// though nothing is broken.
	MovesPerSecond = 50

	// MinRoom is the least free capacity, in bit/s, that counts as room.
	MinRoom = 1_000_000

	// MbitPerCPU is the sealing capacity assumed of a node that was not calibrated.
	MbitPerCPU = 1000
)
