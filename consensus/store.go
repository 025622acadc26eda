// Package consensus keeps the registry on several nodes: hashicorp/raft behind
// one interface, Store. A node reads its replica, proposes commands to the
// leader's, and hears who leads; the leader is the mesh's arbiter.
//
// The package owns the log, its snapshots, its transport's streams and the
// place where committed commands meet registry.Apply. It does not own what the
// commands mean (registry), who may open a stream (the layer passed in), nor
// when servers are added, promoted or removed (node). See DESIGN.md.
package consensus

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// Why a call had no, or no known, effect.
var (
	// ErrNotLeader: nothing was appended; ask the leader.
	ErrNotLeader = errors.New("consensus: not the leader")
	// ErrOutcomeUnknown: the command may or may not be, or become, committed. The
	// same command, with the same id, may be proposed again.
	ErrOutcomeUnknown = errors.New("consensus: outcome of the proposal is unknown")
	// ErrClosed: this replica is closed.
	ErrClosed = errors.New("consensus: closed")
	// ErrHasState: the directory holds a log, so it cannot found a mesh.
	ErrHasState = errors.New("consensus: the directory already holds a log")
	// ErrDamagedLog: the file in the directory is no log, or none any more.
	ErrDamagedLog = errors.New("consensus: the log is damaged")
	// ErrFileGone: the log's file was removed or replaced while it is in use.
	ErrFileGone = errors.New("consensus: the file of the log is gone")
	// ErrFailed: a committed entry or snapshot cannot be applied by this build.
	ErrFailed = errors.New("consensus: replica stopped applying")
)

// Store is one replica of the registry with the log behind it. Raft serves it
// in this process; a supervised child process could serve it as well.
type Store interface {
	// Propose commits a command and returns what Apply answered: ErrNotLeader,
	// ErrOutcomeUnknown, ErrClosed, ErrFailed. A refusal by Apply is no error: it
	// is in the result.
	Propose(context.Context, registry.Command) (registry.Result, error)
	// Enqueue puts a command behind all that were enqueued before, and returns a wait
	// for what Propose would return: several commands may be on their way at once.
	Enqueue(context.Context, registry.Command) (wait func() (registry.Result, error), err error)
	// Barrier returns once everything committed before is applied here, and this
	// replica is still the leader.
	Barrier(context.Context) error
	// View lends the state for reading. The function must not keep it, change it,
	// nor call back into the store.
	View(func(*registry.State))
	// Changes is signalled after the state changed; signals coalesce. One reader.
	Changes() <-chan struct{}
	// Leadership tells the newest view of who leads; views coalesce. One reader.
	Leadership() <-chan Leadership
	// Leader is the present leader, if this replica knows one.
	Leader() (identity.NodeID, bool)
	// AddStandby adds a server that keeps the log without a vote.
	AddStandby(context.Context, identity.NodeID) error
	// AddVoter adds a server with a vote, or gives a standby its vote.
	AddVoter(context.Context, identity.NodeID) error
	// Demote takes a server's vote; it keeps the log.
	Demote(context.Context, identity.NodeID) error
	// RemoveServer takes a server out of the configuration.
	RemoveServer(context.Context, identity.NodeID) error
	// TransferLeadership hands the lead to the most current other voter.
	TransferLeadership(context.Context) error
	// TransferLeadershipTo hands the lead to a certain voter.
	TransferLeadershipTo(context.Context, identity.NodeID) error
	// Servers is the newest configuration this replica knows.
	Servers() []Server
	// Reach asks another server's replica whether it is there, over the log's own
	// port. It changes nothing, and needs no leader.
	Reach(context.Context, identity.NodeID) error
	// Stats is for status.
	Stats() Stats
	// Learn tells how far the log was committed, by somebody else's word: this replica
	// neither votes for one that lacks it, nor stands without it.
	Learn(Known)
	// Hold says how far this node's arbiter committed.
	Hold(Known)
	// Behind says that it does not stand for that.
	Behind() bool
	// Misses says, at a leader, that its log lacks what was committed.
	Misses(Known) bool
	// Disk says why the log cannot be written as it should; nil: it can.
	Disk() error
	// Snapshot writes a snapshot now.
	Snapshot(context.Context) error
	// Failed yields an error when this replica cannot go on: the node must stop.
	Failed() <-chan error
	// Close stops the replica and closes its layer.
	Close() error
}

// StreamLayer carries raft's streams between servers. Both ends are proven to
// be nodes of the configuration before a stream reaches this package. The
// store closes it.
type StreamLayer interface {
	net.Listener
	// Dial opens a stream to a server wherever it is now: raft knows it by its
	// NodeID only, so a change of address is no change of the configuration.
	Dial(ctx context.Context, server identity.NodeID) (net.Conn, error)
}

// Leadership is who leads, as one replica saw it.
type Leadership struct {
	Leader bool            // this replica does
	Term   uint64          // the term it leads in; else the newest term it knows
	ID     identity.NodeID // the leader, zero while none is known
}

// Server is one server of the configuration.
type Server struct {
	ID    identity.NodeID
	Voter bool // else a standby
}

// Stats is where a replica stands.
type Stats struct {
	Leader      bool
	Term        uint64
	Commit      uint64    // index of the newest committed entry
	Applied     uint64    // index of the newest entry given to the registry
	Last        uint64    // index of the newest entry in the log
	Stored      uint64    // entries in the log file
	Snapshot    uint64    // index of the newest snapshot, 0: none
	Denied      uint64    // index of the newest revocation or removal given to the registry since the start
	By          string    // the number of the leadership that this replica has; empty: none
	LastContact time.Time // with the leader; zero: never, or this replica leads
}
