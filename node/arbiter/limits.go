package arbiter

import (
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
)

// Limits of a term (I10).
const (
	// MaxEvents is the control loop's queue.
	MaxEvents = 4096
	// MaxProposals may wait for the log. It exceeds what the arbitrator
	// leaves without outcome, so the loop never blocks on it.
	MaxProposals = 8192
	// MaxFlying is how many commands go to the log together.
	MaxFlying = 256
	// RoundsFree is how many rounds of the log follow each other at once, and RoundsRate how
	// many more each second: what comes faster gathers, for a round costs the disks of all
	// voters the same whatever goes along.
	RoundsFree = 16
	RoundsRate = 32
	// MaxOutbox is how many messages may wait for one peer.
	MaxOutbox = 4096
	// MaxTrunks is how many trunks of one gateway are open at once.
	MaxTrunks = 2
	// MaxClients is how many client connections are held at once.
	MaxClients = registry.MaxSessions
	// ArrivalsEach is how many clients each CPU lets in at once: few, for what they ask of the
	// arbiter, of gateways and agents queues there, behind it beats of the log come too late,
	// and answers after their client gave up. Clients that are 100 ms away are some 50 a second
	// for each CPU then, as computed from three round trips.
	ArrivalsEach = 16
	// OwingShare: of one account a share of 1 in so many of those places is held, at most, by
	// clients that are welcomed and agree no keys.
	OwingShare = 8
	// MaxSaidEach is how many messages of one client, of all its sessions, wait in the
	// loop's queue. ClientFree is how many a session may say at once, as when it lost all
	// its slices, and ClientRate how many more each second: it says one by itself.
	MaxSaidEach = 32
	ClientFree  = 256
	ClientRate  = 20
	// LoginsFree is how many right logins and resumptions one client has at once, from
	// all its hosts, which all come back to a new arbiter; LoginsRate is how many more
	// each second.
	LoginsFree = 4096
	LoginsRate = 32
	// CallsFree is how many parked clients are called at once, and CallsRate how many more
	// each second: each comes back, which costs some 10 ms.
	CallsFree = 64
	CallsRate = 50
	// LinesFree is how many lines of the log one client causes at once, LinesRate how
	// many more each second.
	LinesFree = 32
	LinesRate = 0.2
	// MaxPrekeysEach is how many prekeys of one node are kept.
	MaxPrekeysEach = 4096
	// MaxViolations is how many reasons of one node are kept, MaxReason the
	// longest name of one, and how much of a client's words on a slice is logged.
	MaxViolations = 32
	MaxReason     = 64
	// MaxBehind is how many entries of the log a standby may lack when it is given
	// its vote: what a busy mesh commits between two of its reports.
	MaxBehind = 1024
	// MaxGuesses is how many tallies of wrong logins are kept; evictAmong is how
	// many are compared when one has to go. MaxFamiliar is how many users and
	// sources of right logins one generation remembers; two are kept.
	MaxGuesses  = 16384
	MaxFamiliar = 8192
	evictAmong  = 64
	// GuessesFree is how many wrong logins of one user from one source cost
	// nothing; then each doubles the wait, from 1 s on.
	GuessesFree = 5
	// SourceGuessesFree is the same for all users of one source, which may be a
	// company behind one address; then every SourceGuessesStep more double it.
	SourceGuessesFree, SourceGuessesStep = 50, 8
	// WideGuessesFree and WideGuessesStep are those of an IPv6 /48, and of
	// resumptions, which clients of sessions that are over try once.
	WideGuessesFree, WideGuessesStep = 1000, 64
	// GatewayGuesses is how many wrong logins through one other node cost nothing, from
	// whatever addresses it names; GatewayGuessRate is how many more each second.
	GatewayGuesses   = 1000
	GatewayGuessRate = 2
	// AlarmGuesses is how many wrong logins of one client, from wherever, are an
	// alarm; MaxAlarmSources is how many sources it counts.
	AlarmGuesses    = 100
	MaxAlarmSources = 1024
	// maxQuiet is the longest silence of a client, in seconds, that is told apart.
	maxQuiet = 86400
	// MaxFault is how many bytes of a node's word on its faults are passed on.
	MaxFault = 1000
)

// Times of a term.
const (
	TickEvery      = 50 * time.Millisecond
	KnownEvery     = 2 * time.Second
	AliveEvery     = 500 * time.Millisecond
	AdvanceSeconds = 5
	// StoodStill is how long the loop may stand still without a new proof that this node
	// leads: less than the others need to elect another (consensus.HeartbeatTimeout).
	StoodStill = 300 * time.Millisecond
	// HelloWithin is how long a connection may take to introduce itself.
	HelloWithin = 5 * time.Second
	// EnterWithin is how long a client counts among those that are being let in, and
	// KeysWithin how long after its welcome, while it agrees keys with its agents.
	EnterWithin = 15 * time.Second
	KeysWithin  = time.Second
	// ProposeWithin bounds the wait for one commit.
	ProposeWithin = 5 * time.Second
	// MeasuresEvery is how often an egress is told at most what the paths of a
	// session differ by.
	MeasuresEvery = 250 * time.Millisecond
	// LinkPause is the least time between two SAs of the same two nodes, for each
	// costs a prekey.
	LinkPause = time.Second
	// LeaveLinger is how long a leaver that holds nothing any more still opens
	// and seals what is on its way: longer than Linger.
	LeaveLinger = 6 * time.Second
	// LeaveWithin ends the patience with sessions that cannot be moved: so long none was.
	// LeaveMost ends it in any case; 25,000 are moved by then (session.MovesPerSecond).
	LeaveWithin = 45 * time.Second
	LeaveMost   = 10 * time.Minute
	// VoterSilence is how long a voter may be silent before it is replaced.
	VoterSilence = 60 * time.Second
	// StandbyPatience is how long the Raft port of a standby may be closed before
	// another node is asked in its place; PassOver is when it is asked again.
	StandbyPatience = 15 * time.Second
	PassOver        = 10 * time.Minute
	// Recovered is how long a server has to be good on end before what was bad of it is
	// forgotten. One that was bad Flaps times until then comes and goes.
	Recovered = 30 * time.Second
	Flaps     = 3
	// ReplicaWithin is how long a node has to say where its copy of the log stands;
	// later it is taken for a build that does not.
	ReplicaWithin = 10 * time.Second
	// LogViolations is the least time between two log lines of one node's
	// violations for one reason.
	LogViolations = 10 * time.Second
	// MaxGuessWait is the longest wait after a wrong login. GuessForgiven is how
	// long one weighs, AlarmForgets how long those of a client's alarm do.
	MaxGuessWait  = 15 * time.Minute
	GuessForgiven = 15 * time.Minute
	AlarmForgets  = time.Hour
	// CopyForgotten is how long it is shown that two hosts had one node's key.
	CopyForgotten = time.Hour
	// ServersWithin is how long a term waits for the streams of those that keep the
	// log before it takes them to be down.
	ServersWithin = 10 * time.Second
	// CallAgain is when a parked client is called again that an agent still reports.
	CallAgain = 10 * time.Second
	// AskAgain is when an agent that did not say that it freed a session is asked
	// again: after its slices have lingered.
	AskAgain = 10 * time.Second
	// AskTicks is how often it is looked whom to ask: every second.
	AskTicks = 20
	// Linger is how long a revoked slice still opens packets, in seconds.
	Linger = 5
)
