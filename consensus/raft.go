package consensus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// Config is what a replica is opened with.
type Config struct {
	Dir       string // holds the log and its snapshots; made if absent
	ID        identity.NodeID
	Layer     StreamLayer // closed by Close, and by Open when it fails
	Log       *slog.Logger
	Bootstrap bool // found a mesh with this node as its only voter

	// Timing of elections; zero takes HeartbeatTimeout, ElectionTimeout, LeaderLease.
	Heartbeat, Election, Lease time.Duration

	// How far the log was committed, as this node was told when it had an arbiter, and by
	// others now; see Learn.
	Told, Known Known

	// Repeats reports whether a line of the log that repeats may be said now, and what it adds
	// for those that were left out; nil: always. One goroutine asks.
	Repeats func() (left []any, ok bool)

	fails        func() error // nil: the disk is well; tests make it fail
	trailingLogs uint64       // zero: TrailingLogs; tests make it small
}

// Raft is the Store served by hashicorp/raft in this process. What becomes of it when its
// disk fails is in disk.go.
type Raft struct {
	id    identity.NodeID
	log   *slog.Logger
	raft  *raft.Raft
	fsm   *fsm
	file  *logStore
	floor floor

	former atomic.Pointer[registry.State] // see Former

	heartbeat, election time.Duration
	started             chan struct{} // closed when raft is set
	refrains            atomic.Bool   // see Refrain
	refusers            *refusers
	took                atomic.Pointer[taken]
	answers             answers

	transport  *raft.NetworkTransport
	leadership chan Leadership // one slot: the newest view
	repeats    func() (left []any, ok bool)
	hushed     bool // it was not said that there is no leader; owned by watch
	observed   chan raft.Observation
	observer   *raft.Observer

	closing  chan struct{}
	once     sync.Once
	closeErr error
	watching sync.WaitGroup

	mu       sync.Mutex // guards closed against inflight.Add and reaching.Add
	closed   bool
	inflight sync.WaitGroup
	reaching sync.WaitGroup // what changes nothing, so that nobody waits for its answer at the end
}

var _ Store = (*Raft)(nil)

// Open opens the replica in a directory and starts it. Without Bootstrap a new
// directory waits to be added by a leader.
func Open(c Config) (*Raft, error) {
	r, err := open(c)
	if err != nil {
		c.Layer.Close() // the first error is the one to tell
		return nil, err
	}
	return r, nil
}

func open(c Config) (*Raft, error) {
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, misplaced(c.Dir, err)
	}
	out := newLogger(c.Log)
	file, err := openLog(c.Dir)
	if err != nil {
		return nil, err
	}
	r := &Raft{
		id: c.ID, log: c.Log, repeats: c.Repeats, fsm: newFSM(), file: file,
		leadership: make(chan Leadership, 1), observed: make(chan raft.Observation, 16),
		closing: make(chan struct{}), started: make(chan struct{}), refusers: newRefusers(),
	}
	timing := c.raft(out)
	r.heartbeat, r.election, file.fails = timing.HeartbeatTimeout, timing.ElectionTimeout, c.fails
	file.alone, file.applied, file.floor, r.floor.own = r.alone, r.applied, &r.floor, r.incarnation
	if err := r.start(c, out); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return r, nil
}

// remember takes what was told of the mesh's history, before this process too.
func (r *Raft) remember(c Config) error {
	kept, err := r.file.kept()
	outlived, noted := r.file.outlived()
	r.floor.hold(c.Told)
	for _, k := range []Known{kept, {Incarnation: outlived}, c.Told, c.Known} {
		r.floor.learn(k)
	}
	return errors.Join(err, noted)
}

func (r *Raft) start(c Config, out *logger) error {
	snapshots, err := openSnapshots(c.Dir, r.file, out)
	if err != nil {
		return err
	}
	if err := r.remember(c); err != nil {
		return err
	}
	r.transport = raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: newLayer(c.Layer, c.ID), MaxPool: MaxPooledStreams, Timeout: StreamTimeout, Logger: out,
	})
	if c.Bootstrap {
		err = r.bootstrap(c, out, snapshots)
	}
	r.file.serving.Store(true)
	if err == nil {
		filtered := transport{r.transport, r, make(chan raft.RPC)}
		r.watching.Go(func() { r.filter(filtered) })
		conf := c.raft(out)
		if r.Behind() { // it does not stand before tendDisk has looked
			conf.HeartbeatTimeout, conf.ElectionTimeout = DiskPatience, DiskPatience
		}
		r.raft, err = raft.NewRaft(conf, r.fsm, r.file, r.file, snapshots, filtered)
	}
	if err != nil {
		close(r.closing)
		return errors.Join(fmt.Errorf("consensus: start: %w", err), r.transport.Close())
	}
	leaders := func(o *raft.Observation) bool { _, ok := o.Data.(raft.LeaderObservation); return ok }
	r.observer = raft.NewObserver(r.observed, false, leaders)
	r.raft.RegisterObserver(r.observer)
	close(r.started)
	r.watching.Go(r.watch)
	r.watching.Go(r.tendDisk)
	r.watching.Go(r.givePagesBack)
	return nil
}

func (r *Raft) bootstrap(c Config, out *logger, snapshots *snapshotStore) error {
	if _, err := r.file.unbegin(); err != nil {
		return err
	}
	alone := raft.Configuration{Servers: []raft.Server{{ID: serverID(c.ID), Address: serverAddress(c.ID)}}}
	err := raft.BootstrapCluster(c.raft(out), r.file, r.file, snapshots, r.transport, alone)
	if errors.Is(err, raft.ErrCantBootstrap) {
		return ErrHasState
	}
	return err
}

// raft is the library's configuration. A removed leader shuts its raft down: one
// that stayed would disturb the others' elections.
func (c Config) raft(out *logger) *raft.Config {
	conf := raft.DefaultConfig()
	conf.LocalID = serverID(c.ID)
	conf.HeartbeatTimeout = cmp.Or(c.Heartbeat, HeartbeatTimeout)
	conf.ElectionTimeout = cmp.Or(c.Election, ElectionTimeout)
	conf.LeaderLeaseTimeout = cmp.Or(c.Lease, LeaderLease)
	conf.CommitTimeout = CommitTimeout
	conf.MaxAppendEntries = MaxAppendEntries
	conf.BatchApplyCh = true // what is enqueued while entries are written is written together
	conf.SnapshotInterval = SnapshotInterval
	conf.SnapshotThreshold = SnapshotThreshold
	conf.TrailingLogs = cmp.Or(c.trailingLogs, TrailingLogs)
	conf.NoLegacyTelemetry = true
	conf.Logger = out
	return conf
}

func serverID(id identity.NodeID) raft.ServerID           { return raft.ServerID(id.String()) }
func serverAddress(id identity.NodeID) raft.ServerAddress { return raft.ServerAddress(id.String()) }

// View lends the state for reading.
func (r *Raft) View(read func(*registry.State)) { r.fsm.view(read) }

// Changes is signalled after the state changed.
func (r *Raft) Changes() <-chan struct{} { return r.fsm.changes }

// Failed yields an error when this replica cannot go on.
func (r *Raft) Failed() <-chan error { return r.fsm.failed }

// Close lets what is in flight come to its end, then stops the replica. What is
// in flight ends by itself: it is committed, or the leader's lease runs out.
func (r *Raft) Close() error {
	r.once.Do(func() { r.closeErr = r.close() })
	return r.closeErr
}

func (r *Raft) close() error {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), CloseGrace)
	defer cancel()
	settled := make(chan struct{})
	go func() { r.inflight.Wait(); close(settled) }()
	select {
	case <-settled:
	case <-ctx.Done():
	}
	close(r.file.closing)
	stopped := r.raft.Shutdown()
	err := r.transport.Close() // what is under way to a server that does not answer ends with it
	err = errors.Join(err, stopped.Error())
	close(r.closing)
	r.watching.Wait()
	r.reaching.Wait()
	r.transport.CloseStreams()
	// Last, for raft itself is stopped now and nothing writes the file.
	return errors.Join(err, r.file.Close())
}
