package agent

import (
	"time"

	"github.com/meshcrypt/meshcrypt/node/dataplane"
)

// Limits of the control loop (I10).
const (
	// MaxEvents is the control loop's queue.
	MaxEvents = 1024
	// MaxOutside is how many datagrams of strangers wait for the loop.
	MaxOutside = 64
	// MaxFromNodes is how many datagrams of other nodes wait for the loop.
	MaxFromNodes = 1024
	// MaxHandshakes is how many Accepts and Confirms from the inside network wait for
	// it: each link is one of each, and repeated.
	MaxHandshakes = 256
	// MaxControl is how many control messages inside SAs wait for the loop, and
	// MaxControlEach how many of one session, or node: a rekey's answer is two.
	MaxControl     = 8192
	MaxControlEach = 16
	// MaxAsked is how many questions to one node may be answered: those of seconds.
	MaxAsked = 64
	// MaxForged is how many packets may fail under one key before it is renewed and
	// the arbiter told. RFC 9001, 6.6, ends a key after 2^36 with
	// ChaCha20-Poly1305, and 2^52 with AES-GCM; this is less, for it also shows
	// that somebody goes on trying.
	MaxForged = 1 << 20
	// MaxOutbox is how many messages may wait for the arbiter.
	MaxOutbox = 4096
	// MaxSlices is how many slices one agent holds, all epochs together.
	MaxSlices = 65536
	// MinPrekeys and MaxPrekeys bound the size of the pool that the arbiter has.
	// Twice the upper one are held while one series replaces another.
	MinPrekeys = 64
	MaxPrekeys = 4096
	// MaxYoung is how many of the latest prekeys are kept with their private keys, 8 KB
	// each: more than a pool that 50 clients a second drain.
	MaxYoung = 512
	// PrekeyBatch is how many prekeys are made in one tick: each costs about
	// a quarter of a millisecond.
	PrekeyBatch = 64
	// MaxParts bounds the pool parts of a view.
	MaxParts = 256
	// MaxRemade is how many sessions' routes are made anew in one turn of the loop: each
	// costs 10 to 30 µs.
	MaxRemade = 256
	// MaxVerdicts is how many verdicts of a client an agent takes over one
	// slice in VerdictWindow: one about each of its slices.
	MaxVerdicts = 32
	// CallLeast is how often a client is called that does not say that it is parked.
	CallLeast = 3
	// MaxEnded is how many sessions that are over an arbiter may wait to hear of.
	MaxEnded = 65536
	// MaxTesters is how many nodes a path test goes to: if it comes out to one,
	// what keeps it from the other is elsewhere.
	MaxTesters = 2
	// MaxUnfed is how many questions a tick go to nodes that this one does not feed,
	// path tests among them.
	MaxUnfed = 5
	// MaxFaults and MaxFault bound what is told of this node's faults: how many,
	// and how many bytes of each.
	MaxFaults = 4
	MaxFault  = 300
	// MaxStops is how often this process may stand still in StopsOver before that
	// is a fault of its host.
	MaxStops = 3
	// MaxStrangers is how many unknown inside addresses wait to be judged.
	MaxStrangers = 64
)

// Times of the control loop.
const (
	TickEvery  = 100 * time.Millisecond
	LoadTicks  = 5  // load is reported every 500 ms
	UsageTicks = 20 // usage every 2 s
	// PrekeyLife is how long a prekey may wait for its grant. The pool is
	// offered anew after half of it, so that an arbiter never grants a dead one.
	PrekeyLife = 10 * time.Minute
	// PrekeyBusy is how soon after it was full a pool that fell below half is
	// doubled: it is full again after a tick or a few, and what is left in the end of a
	// rush was made for nobody.
	PrekeyBusy = 2 * time.Second
	// PrekeyRest is after how long without a grant a pool that has grown is as small as
	// the least again.
	PrekeyRest = time.Minute
	// PrekeyYoung is after how long without a grant none of them is.
	PrekeyYoung = 10 * time.Second
	// PrekeyGrace is how long a grant under way may name a prekey of a series
	// that was replaced.
	PrekeyGrace = 30 * time.Second
	// AcceptAgain is the shortest time between two answers to one Accept. Clients
	// repeat it less often.
	AcceptAgain = 50 * time.Millisecond
	// LookEvery is how often a slice at rest is looked at, for what packet workers
	// count: an SA is due for renewal long before it is full.
	LookEvery = 10 * time.Second
	// HeardEvery is how often it is told that a client is heard still: often enough
	// for session.SilentAfter.
	HeardEvery = 20 * time.Second
	// WaySilent is how long a silent client is answered where it was: less than its
	// gateway keeps the way. Clients speak every 15 s, parked ones once a minute.
	WaySilent = 75 * time.Second
	// AcceptWithin is how long a granted slice waits for its client.
	AcceptWithin = 30 * time.Second
	// ProbeMisses silent probe intervals make a node silent.
	ProbeMisses = 3
	// PathMisses path tests that did not come out mean that the host does not
	// forward; a busy host loses a few.
	PathMisses = 20
	// ReplyWithin is how long an answer to a probe says that its node lives.
	ReplyWithin = time.Second
	// PathSuspect is how many of them in a row are a fault, if it lasts.
	PathSuspect = 3
	// WayPatience is how long the answer to a padded probe of a node may take.
	WayPatience = 300 * time.Millisecond
	// RedialMin and RedialMax bound the wait between attempts to reach an arbiter.
	RedialMin = 100 * time.Millisecond
	RedialMax = time.Second
	// FenceAgain is how often it is tried again to save a fence.
	FenceAgain = time.Second
	// PathSettle is how long a tester must have answered plain probes before a
	// path test that does not return means anything.
	PathSettle = time.Second
	// StrangerGrace is how long the arbiter has to name the owner of an inside
	// address before packets from it are a violation.
	StrangerGrace = 2 * time.Second
	// VerdictWindow is the time over which a client's verdicts are counted.
	VerdictWindow = time.Second
	// TakeoverWait is how long a second that took over waits for the arbiter's
	// word before it yields to an egress that is heard again.
	TakeoverWait = 5 * time.Second
	// TakeoverHold is how long a second leaves a part alone after the arbiter kept
	// it where it was, or took it from this node.
	TakeoverHold = 2 * time.Second
	// WordLate is how old the last word of an arbiter is when a node no longer
	// waits for the next: a few of those that come every 500 ms were lost.
	WordLate = 1500 * time.Millisecond
	// LetGoMisses is after how many ticks without an answer of any node, and without an
	// arbiter's word, an egress lets go. Its second takes over a tick or more later,
	// after ProbeMisses of its own.
	LetGoMisses = 2
	// ResumeAfter is how long an arbiter has to answer a node that is heard again, until
	// that takes back what it had let go: a stream that broke is opened anew by then.
	ResumeAfter = 2 * time.Second
	// AbsentAfter is how long a node is asked that neither this one nor the arbiter has
	// heard, until it counts as gone.
	AbsentAfter = time.Second
	// ContestEvery is the least time between two claims of a part at all nodes.
	ContestEvery = 500 * time.Millisecond
	// ClaimWord is how old an arbiter's last word may be when a claim is doubted that is
	// above it: what it decides is heard by then, or it is not heard.
	ClaimWord = time.Second
	// RivalGap is how long another host that answers for an address of this node may
	// be silent and go on being one, and RivalAfter how long it must be one to be named:
	// members have agreed by then.
	RivalGap   = 5 * time.Second
	RivalAfter = 3 * time.Second
	// AskedLately is how long a question of another node shows that it is heard.
	AskedLately = 500 * time.Millisecond
	// AskedBeyond is how long after its last answer a question of a node shows that
	// it asks and does not hear.
	AskedBeyond = 2 * TickEvery
	// ClaimedLately is how long a claim shows that its egress lives which does not answer:
	// it is asked for each 500 ms, and one answer may be lost.
	ClaimedLately = 1100 * time.Millisecond
	// DeafAfter is how long nothing may arrive on the inside network from nodes
	// that the arbiter hears; DeafFirst if nothing ever did, and how long the arbiter
	// hears a node before it is said to answer nothing.
	DeafAfter = time.Second
	DeafFirst = 5 * time.Second
	// BrokenAfter is how long this node may have faults before it says that it
	// does not forward. FaultFade is how many times slower that is forgotten: a
	// fault that comes and goes counts too, one that comes rarely does not.
	BrokenAfter = 2 * time.Second
	FaultFade   = 4
	// MendedAfter is how long a broken node must be without a fault to be a
	// last resort, and WholeAfter to be chosen like any other.
	MendedAfter = 3 * time.Second
	WholeAfter  = time.Minute
	// StopsOver is the time in which MaxStops stops are a fault.
	StopsOver = 10 * time.Second
	// TellFaults is how often a node says anew why it is broken.
	TellFaults = 5 * time.Second
	// LinkRetry is how long a request for an SA with a node waits for its answer.
	LinkRetry = 1500 * time.Millisecond
	// CallAgain is how soon a client is called again, twice as long each time up to
	// CallMost, while it says that it is parked.
	CallAgain = time.Second
	CallMost  = 15 * time.Second
	// RekeyLinger is how long an SA still opens after its successor is in use.
	RekeyLinger = 10 * time.Second
)

// Times of a slice's keys (design 5: soft 10 minutes, jittered; hard 15).
const (
	RekeyAfter = 10 * time.Minute
	RekeyRetry = time.Second
	KeysEnd    = dataplane.KeyLife
)

// RestartAfter is how long a process may have stood still and keep its keys.
const RestartAfter = time.Second

// SettlesWithin is how long it takes what settles by itself, where all nodes start at once: the
// log warns of what lasts longer.
const SettlesWithin = 2 * time.Second

// SaidFree is how often in a row it is said that a node is silent, that none is heard, that
// the path is good again, that this process stood still or this loop had no turn, or that the
// registry has no leader, SaidRate how often a second from then on.
const (
	SaidFree = 16
	SaidRate = 1.0 / 60
)

// WakeGrace is how long after that nothing is concluded from an arbiter that is not heard.
const WakeGrace = 10 * time.Second
