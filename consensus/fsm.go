package consensus

import (
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/hashicorp/raft"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
)

// fsm is where committed entries meet the registry.
type fsm struct {
	mu     sync.RWMutex
	state  *registry.State
	frozen error  // why nothing is applied any more; set once
	denied uint64 // the newest entry that refused somebody something from then on

	changes chan struct{} // one slot: signals coalesce
	failed  chan error    // one slot
}

func newFSM() *fsm {
	state := registry.New()
	state.Feed = &registry.Feed{}
	return &fsm{state: state, changes: make(chan struct{}, 1), failed: make(chan error, 1)}
}

// Apply applies one committed entry. What no version would take for a command
// changes nothing, on any replica. What only a newer version knows stops this
// replica: going on without it would make its state another one.
func (f *fsm) Apply(entry *raft.Log) any {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.frozen != nil {
		return unknown(entry, f.frozen)
	}
	command, err := registry.DecodeCommand(entry.Data)
	if errors.Is(err, registry.ErrNewer) {
		f.freeze(fmt.Errorf("%w: entry %d: %w", ErrFailed, entry.Index, err))
	}
	if err != nil {
		return unknown(entry, err)
	}
	result := registry.Apply(f.state, entry.Index, entry.Term, command)
	if command.Denies() && result.Code == "" {
		f.denied = entry.Index
	}
	f.changed()
	return result
}

func unknown(entry *raft.Log, err error) registry.Result {
	return registry.Result{
		Code: registry.ErrUnknown.Code, Detail: err.Error(), Index: entry.Index, Term: entry.Term,
	}
}

// freeze stops applying; the caller holds mu. A frozen replica writes no
// snapshot either, so a newer build finds the entries it missed in the log.
func (f *fsm) freeze(err error) {
	f.frozen = err
	select {
	case f.failed <- err:
	default:
	}
}

func (f *fsm) changed() {
	select {
	case f.changes <- struct{}{}:
	default:
	}
}

func (f *fsm) view(read func(*registry.State)) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	read(f.state)
}

func (f *fsm) deniedAt() uint64 {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.denied
}

func (f *fsm) failure() error {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.frozen
}

// Snapshot copies the state; writing it happens beside later entries.
func (f *fsm) Snapshot() (raft.FSMSnapshot, error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.frozen != nil {
		return nil, f.frozen
	}
	return image{f.state.Clone()}, nil
}

// Restore replaces the whole state, or leaves it as it is.
func (f *fsm) Restore(source io.ReadCloser) error {
	state, err := registry.ReadSnapshot(source)
	f.mu.Lock()
	defer f.mu.Unlock()
	if errors.Is(err, registry.ErrSnapshotNewer) {
		f.freeze(fmt.Errorf("%w: %w", ErrFailed, err))
	}
	if err != nil {
		return err
	}
	if f.state.Founded() && state.Cluster.ID != f.state.Cluster.ID {
		return fmt.Errorf("%w: it is of cluster %s, this is %s",
			registry.ErrSnapshot, state.Cluster.ID, f.state.Cluster.ID)
	}
	state.Feed = f.state.Feed
	state.Feed.Replaced()
	f.state = state
	f.changed()
	return nil
}

// image is a copy of the state on its way to disk.
type image struct{ state *registry.State }

// Persist writes the copy.
func (i image) Persist(sink raft.SnapshotSink) error {
	if err := registry.WriteSnapshot(sink, i.state); err != nil {
		return errors.Join(err, sink.Cancel())
	}
	return sink.Close()
}

// Release has nothing to let go of.
func (image) Release() {}
