package client

import (
	"time"

	"github.com/meshcrypt/meshcrypt/node/port"
)

// Limits of a client (I10).
const (
	// MaxEvents is the control loop's queue.
	MaxEvents = 1024
	// MaxOutside is how many datagrams of strangers wait for the loop.
	MaxOutside = 64
	// MaxControl is how many control messages of agents wait for the loop, and
	// MaxControlEach how many over one slice.
	MaxControl     = 1024
	MaxControlEach = 64
	// MaxSlices is how many slices one session may have, retiring ones included.
	MaxSlices = 32
	// MaxGateways bounds the list in a profile, and that an arbiter pushes.
	MaxGateways = 64
	// MaxStops is how often a gateway, a direct way or an agent may stand still for
	// longer than StopLimit in StopsOver before it is left.
	MaxStops = 3
	// MaxUnanswered is how many probes in a row are not left unanswered by chance: where a
	// quarter of all packets is lost each way, once in 4,000 times.
	MaxUnanswered = 10
	// AskedEnough is how many of them a client at rest asks before it waits for the end of a silence.
	AskedEnough = 3
	// MaxSlower is how often it takes twice as long to leave the gateways once more, which
	// answer and are of no use.
	MaxSlower = 5
	// FirstTries is how often each gateway is tried before the first session.
	FirstTries = 2
	// MeasureProbes is how many probes a fresh slice gets in a row at most, so that its
	// path is known before it has to carry anything. It rests as soon as that is so.
	MeasureProbes = 8
	// SaidFree is how often in a row it is said that this process stood still, SaidRate how
	// often a second from then on.
	SaidFree = 16
	SaidRate = 1.0 / 60
	// Trickle is how many bytes a parked client moves in TrickleOver and stays so.
	Trickle = 64 << 10
	// Vouches is how often the egress is told that a slice is used again: datagrams get lost.
	Vouches = 3
	// MaxAppointments is how often in a row a client comes when it is told to, for
	// AppointedMost in all; then it asks another gateway.
	MaxAppointments = 4
	// MaxOutbox is how many messages may wait for the arbiter.
	MaxOutbox = 256
)

// Times of a client.
const (
	TickEvery = 50 * time.Millisecond
	// LookEvery is how often a client at rest looks at all that it has, and one that has
	// nothing to send and that nobody answered for MuteAfter.
	LookEvery = time.Second
	MuteAfter = 2 * time.Second
	// AskedFirst is how long a client asks its agents on that was told when its turn is.
	AskedFirst = 2 * time.Second
	// ProbeActive is the probe interval of a slice that carries or awaits
	// traffic, ProbeIdle of one that does not.
	ProbeActive = 100 * time.Millisecond
	ProbeIdle   = 15 * time.Second
	// Unhurried is how many times as long all takes for who moves nothing.
	Unhurried = 4
	// WordAfter is how long after the first question that nobody answers a word of the arbiter
	// was surely not on its way already.
	WordAfter = time.Second
	// ProbeMute is the longest interval for one that nobody answers and that has nothing to
	// send, and between two gateways then: a MutePart-th of how long nobody did.
	ProbeMute = 5 * time.Second
	MutePart  = 4
	// ActiveFor is how long after its last packet a slice counts as active.
	ActiveFor = 2 * time.Second
	// StopLimit, StopsOver and StopHold: see MaxStops. Who was left is not taken
	// again for StopHold, unless nobody else answers.
	StopLimit = 300 * time.Millisecond
	StopsOver = 10 * time.Second
	StopHold  = time.Minute
	// VerdictEvery is how often the egress is told again that a slice is silent.
	VerdictEvery = time.Second
	// AcceptRetry and AcceptTries bound M4 without an answer.
	AcceptRetry = 100 * time.Millisecond
	AcceptTries = 50
	// SizeRetry and SizeTries bound what tells an agent the sizes in force.
	SizeRetry = 100 * time.Millisecond
	SizeTries = 50
	// RetireAfter is how long a dropped epoch still opens packets.
	RetireAfter = 5 * time.Second
	// AliveEvery is how often the arbiter is told what was moved and measured. An
	// arbiter that knows no beats says something every 500 ms: silence for AliveWithin
	// makes the client try another gateway.
	AliveEvery  = time.Second
	AliveWithin = 4 * time.Second
	// ParkAfter is after how much rest a client parks, and how soon it asks for that again;
	// ParkUnused is the same for who moved nothing since it logged in, ParkAgain for who moved
	// nothing since it came back, which is before a beat is due (parkAfter). ParkMost is how long
	// it is parked at most: agents' word on the arbiter is all it has meanwhile.
	ParkAfter  = time.Minute
	ParkUnused = 10 * time.Second
	ParkAgain  = time.Second
	ParkMost   = 6 * time.Hour
	// ParkBriefly is how long it is parked in vain, and ParkVainMost the longest rest before
	// it asks again then (restBefore).
	ParkBriefly  = 2 * time.Minute
	ParkVainMost = 5 * time.Minute
	// TrickleOver: see Trickle. Who moved nothing since it came is looked at sooner, for it parks
	// sooner, but not before TrickleLeast.
	TrickleOver  = 10 * time.Second
	TrickleLeast = 3 * time.Second
	// ParkedTurn is how often a parked client asks one of the slices that go the same way,
	// and ParkedEach how often each of them at least: a gateway keeps the way to a client
	// for 90 s, and an agent uses it for 75 s.
	ParkedTurn = 20 * time.Second
	ParkedEach = time.Minute
	// AskedLately is how often agents that ask where a parked client is have it ask them all.
	AskedLately = time.Second
	// HeadlessLeast is the headless time of a mesh whose clients park: a few probes.
	HeadlessLeast = 2 * ParkedEach
	// MoveWithin is how long a parked client's slices may take to be heard by another
	// gateway, and MinKnown how many gateways it knows at least.
	MoveWithin = time.Second
	// LeftWithin is the same where it was silent: the nodes may all have been restarted.
	LeftWithin = MoveWithin / 2
	MinKnown   = 2
	// PartWithin is how long a parked client tries to reach the arbiter to say goodbye.
	PartWithin = 3 * time.Second
	// RestartAfter is how long this process may have stood still and keep its keys.
	RestartAfter = time.Second
	// ByeWithin bounds the wait for the arbiter's answer to a goodbye.
	ByeWithin = time.Second
	// FallbackAfter is how long UDP may be silent, though asked, before a
	// stream over TLS is opened: longer than the way from a dead gateway to the
	// next one and to the one after it.
	FallbackAfter = time.Second
	// FallbackIdle is the same for a session that has nothing to send, FallbackAway where the
	// arbiter is away then, too: it may be that the mesh has no time to answer, and a crowd
	// that opened streams to it would make each of its gateways a handshake for nothing.
	FallbackIdle = 3 * time.Second
	FallbackAway = 30 * time.Second
	// OpenWaitMin and OpenWaitMax bound the wait after a stream that did not open.
	OpenWaitMin = time.Second
	OpenWaitMax = 30 * time.Second
	// AskUDPMin and AskUDPMax bound how often UDP is asked while a stream is in
	// use: rarely where it does not last for UDPLasting.
	AskUDPMin  = 5 * time.Second
	AskUDPMax  = 5 * time.Minute
	UDPLasting = time.Minute
	// AskDirectMin and AskDirectMax bound how often an agent is asked whether the
	// way straight to it is open.
	AskDirectMin = time.Second
	AskDirectMax = 5 * time.Minute
	// DialTimeout is how long a gateway may take to take a connection, and a stream in all.
	// AnswerWithin is how long nothing may come over a connection then: it may queue at the
	// gateway, wait there for an arbiter to be elected, and queue at that. Whoever gave up
	// before threw all of that away, and took a gateway that works for a mute one. QueuedWithin
	// is the same for who takes no appointment, and queues for longer. AnswerSlack is for the way
	// there and back. AttemptWithin bounds the whole attempt.
	DialTimeout   = 4 * time.Second
	AnswerWithin  = 2*port.WaitTimeout + port.RelayWait + AnswerSlack
	QueuedWithin  = 2*port.QueueTimeout + port.RelayWait + AnswerSlack
	AnswerSlack   = 500 * time.Millisecond
	AttemptWithin = 15 * time.Second
	// DialStagger is how long one family is tried alone, and a gateway at a first login.
	DialStagger = 250 * time.Millisecond
	// FirstWays bounds the gateways that one attempt at a first login tries: the first two
	// hosts of a profile may be gone.
	FirstWays = 3
	// TakenPatience is how long a first login waits for gateways that took its connection
	// before it tries a further one.
	TakenPatience = time.Second
	// FirstWithin is how long a first login is tried again.
	FirstWithin = 20 * time.Second
	// AppointedMost is how much longer it is tried where the mesh says that its turn comes,
	// and how long any client waits for such turns of one gateway in a row.
	AppointedMost = 2 * time.Minute
	// FirstRedialMax bounds the wait between attempts at a first login.
	FirstRedialMax = 2 * time.Second
	// RedialMin and RedialMax bound the wait between attempts; the wait is jittered.
	RedialMin = 200 * time.Millisecond
	RedialMax = 5 * time.Second
	// CrowdMax is RedialMax where an arbiter was reached that did not answer in time, or
	// not for Lasting: ten thousand clients ask it four hundred times a second then.
	CrowdMax = 30 * time.Second
	Lasting  = 30 * time.Second
	// WelcomeWithin bounds the wait for an arbiter that beats: the time of a commit, and
	// that of its queue when all come at once.
	WelcomeWithin = 15 * time.Second
)
