package consensus

import "time"

// Timing of elections: a new leader within 3 s, also when the first try is split.
const (
	HeartbeatTimeout = 400 * time.Millisecond // a follower that hears nothing this long stands
	ElectionTimeout  = 400 * time.Millisecond // a candidate without a majority tries again
	LeaderLease      = 400 * time.Millisecond // a leader without a majority steps down
	CommitTimeout    = 50 * time.Millisecond  // a leader tells its commit index this soon
	SaidAgain        = time.Second            // an idle one tells it again this often
	AnsweredLately   = HeartbeatTimeout / 4   // while its beats are answered, the last one so long ago at most
)

// Limits of the log and its transport (I10).
const (
	SnapshotThreshold = 4_096                   // entries since the last snapshot that make another
	SnapshotInterval  = 30 * time.Second        // how often that is looked at
	TrailingLogs      = 2_048                   // entries kept behind a snapshot, for followers a little behind
	RetainedSnapshots = 2                       // on disk
	MaxAppendEntries  = 64                      // in one message
	MaxRecent         = 128                     // entries of the log that are kept in memory, too
	MaxRecentEach     = 2 << 10                 // bytes of one of them
	PagesKept         = 30 * time.Second        // of the log's mapping, until they are given back
	MaxPooledStreams  = 3                       // idle ones kept per server
	MaxStreams        = 256                     // open ones, both ways
	StreamTimeout     = 5 * time.Second         // for one message; longer in proportion for a snapshot
	HandOverWithin    = 2 * StreamTimeout       // until a request is sent, and the one before it answered
	MidRequest        = 1500 * time.Millisecond // until more of a request that has begun comes
	EnqueueTimeout    = 5 * time.Second         // until the leader's queue takes a proposal
	LockTimeout       = 1 * time.Second         // until another process lets go of the log file
	CloseGrace        = 2 * time.Second         // for proposals in flight, at Close
	DiskRetry         = 250 * time.Millisecond  // between two tries to write what has to be written
	DiskLook          = time.Second             // between two looks at a disk that fails
	DiskTry           = 128 << 10               // bytes that are written to see whether it is well
	DiskPatience      = time.Hour               // without a leader, before a voter whose disk fails stands for the lead
	RefrainTimes      = 12                      // as long as others a voter waits that leaves the lead to them
	SlowWrite         = time.Second             // of one write: more than the others wait for a leader
	SlowOnce          = 2 * SlowWrite           // of one write, that needs no second one
	SlowFor           = 30 * time.Second        // a slow write counts
	QuietFor          = time.Minute             // between two equal error lines of raft
	SettlesWithin     = 2 * time.Second         // that a server cannot be reached, where all start at once
	FailuresApart     = 10 * time.Second        // more than a voter waits between two elections: they are not one failure
	MaxTerms          = 8                       // of which it is remembered what they committed
	MaxReigns         = 32                      // that a candidate names, the latest ones
	TermsGivenUp      = 1 << 20                 // that the voters of a lost majority may yet lead in, on their own
	EntriesGivenUp    = 1 << 20                 // that they may yet have or write
	RefusedFirst      = time.Minute             // until a snapshot is offered again to who refused it; twice as long each time
	RefusedMost       = 10 * time.Minute        // at most
	MaxQuiet          = 64                      // error lines remembered for that
)
