package consensus

import (
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// ErrNoLog means that the directory holds no log to go on from.
var ErrNoLog = errors.New("consensus: the directory holds no log")

// RewriteConfig names the replica to be rewritten. Nothing else may have it open.
type RewriteConfig struct {
	Dir   string
	ID    identity.NodeID
	Log   *slog.Logger
	Empty bool // a directory without a log is started from nothing
	// Term is the newest that this node was told of: of a mesh that was recovered before, it is
	// above all that this log knows.
	Term uint64
}

// Rewrite makes a stopped replica the only server of its own log, for when the
// majority is lost: whatever it holds, committed or not, counts as committed.
// change gets that state and returns the one to go on from; if it fails, the
// replica is as it was. The incarnation that it gets is the latest that this replica
// heard of: to be heeded by who heeds that one, what comes next has to be above it. The
// other servers of the old configuration must not run on as if nothing had happened: that is
// for the caller to see to.
func Rewrite(c RewriteConfig, change func(*registry.State) (*registry.State, error)) (err error) {
	if _, err := os.Stat(c.Dir); err != nil && !c.Empty {
		return fmt.Errorf("%w: %w", ErrNoLog, err)
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return misplaced(c.Dir, err)
	}
	file, err := openLog(c.Dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	out := newLogger(c.Log)
	snapshots, err := openSnapshots(c.Dir, file, out)
	if err != nil {
		return err
	}
	return c.rewrite(file, snapshots, out, change)
}

func (c RewriteConfig) rewrite(file *logStore, snapshots *snapshotStore, out *logger,
	change func(*registry.State) (*registry.State, error)) error {
	conf := Config{ID: c.ID}.raft(out)
	_, transport := raft.NewInmemTransport(serverAddress(c.ID))
	alone := raft.Configuration{Servers: []raft.Server{{ID: serverID(c.ID), Address: serverAddress(c.ID)}}}
	empty, err := file.empty()
	switch {
	case err != nil:
		return fmt.Errorf("consensus: %w", err)
	case empty && !c.Empty:
		return ErrNoLog
	case empty:
		term, err := file.unbegin()
		if err != nil {
			return fmt.Errorf("consensus: %w", err)
		}
		c.Term = max(c.Term, term)
		if err := raft.BootstrapCluster(conf, file, file, snapshots, transport, alone); err != nil {
			return fmt.Errorf("consensus: rewrite: %w", err)
		}
	}
	snapshots.rewrite = func() (uint64, origin, error) { return file.newHistory(c.Term) }
	outlived, err := file.outlived()
	if err != nil {
		return fmt.Errorf("consensus: %w", err)
	}
	r := &rewriter{fsm: newFSM(), change: change, outlived: outlived, snapshots: snapshots}
	err = raft.RecoverCluster(conf, r, file, file, snapshots, transport, alone)
	switch {
	case r.refused != nil:
		return r.refused // raft gives only its text
	case err != nil:
		return fmt.Errorf("consensus: rewrite: %w", err)
	}
	return nil
}

// newHistory is whose entry a rewritten snapshot ends with. Its leadership is one that nobody
// had, so that no log which ends at that index is taken for the same; and its term is
// beyond those that the voters which were given up may get to, those of an earlier recovery
// among them: else a voter that has that one's snapshot takes this for the older of the two.
// For whom the log was given up stays noted: the state that is written is of a later incarnation,
// and if it is not written after all, as at a loss of power, the log is as it was.
func (l *logStore) newHistory(told uint64) (term uint64, by origin, err error) {
	term, err = l.recentLog.GetUint64([]byte(keyTerm))
	if err != nil && !errors.Is(err, raftboltdb.ErrKeyNotFound) {
		return 0, by, err
	}
	term = max(term, told) + TermsGivenUp
	return term, newOrigin(), l.recentLog.SetUint64([]byte(keyTerm), term)
}

// rewriter is an fsm whose snapshot is another state than its own.
type rewriter struct {
	*fsm
	change    func(*registry.State) (*registry.State, error)
	outlived  uint64 // incarnation that the replica heard of
	refused   error
	snapshots *snapshotStore
}

// Snapshot asks for the state to go on from.
func (r *rewriter) Snapshot() (raft.FSMSnapshot, error) {
	if err := r.failure(); err != nil {
		return nil, err
	}
	present := r.state.Clone()
	present.Cluster.Incarnation = max(present.Cluster.Incarnation, r.outlived)
	state, err := r.change(present)
	if err != nil {
		r.refused = err
		return nil, err
	}
	r.snapshots.least = state.Index
	return image{state}, nil
}
