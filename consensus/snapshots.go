package consensus

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/hashicorp/raft"
)

const snapshotsDir = "snapshots" // raft's name for it

// snapshotStore tells the log of every snapshot that is safely on disk, before
// raft goes on to use it.
type snapshotStore struct {
	*raft.FileSnapshotStore
	log     *logStore
	rewrite func() (term uint64, by origin, err error) // of the history that begins here; nil: none does
	least   uint64                                     // the index that a rewritten state has, perhaps of a longer log
}

func openSnapshots(dir string, log *logStore, out *logger) (*snapshotStore, error) {
	files, err := snapshotFiles(dir, out)
	if err != nil {
		return nil, err
	}
	if err := mend(dir, files, log, out); err != nil {
		return nil, err
	}
	known, err := files.List()
	if err != nil {
		return nil, fmt.Errorf("consensus: snapshots: %w", err)
	}
	for _, meta := range known[:min(1, len(known))] {
		if err := log.snapshotted(mark{meta.Index, meta.Term}); err != nil {
			return nil, fmt.Errorf("consensus: log behind snapshot %d: %w", meta.Index, err)
		}
	}
	return &snapshotStore{FileSnapshotStore: files, log: log}, nil
}

func snapshotFiles(dir string, out *logger) (*raft.FileSnapshotStore, error) {
	path := filepath.Join(dir, snapshotsDir)
	if err := os.MkdirAll(path, 0o700); err != nil { // raft's error would not say which
		return nil, misplaced(path, err)
	}
	files, err := raft.NewFileSnapshotStoreWithLogger(dir, RetainedSnapshots, out)
	if err != nil {
		return nil, fmt.Errorf("consensus: snapshots: %w", err)
	}
	return files, nil
}

// Create begins a snapshot, our own or one that the leader sends.
func (s *snapshotStore) Create(version raft.SnapshotVersion, index, term uint64, servers raft.Configuration,
	serversIndex uint64, trans raft.Transport) (raft.SnapshotSink, error) {
	at := mark{index, term}
	var by origin
	own, err := s.log.at(index)
	if err == nil && own.term == term {
		by = own.by
	}
	if said := s.log.coming.Load(); said != nil && said.mark == at {
		by = said.by
	}
	if s.rewrite != nil {
		at.term, by, err = s.rewrite()
		at.index = max(index, s.least) + EntriesGivenUp // nothing of those that were given up is behind it
	}
	if err != nil && !errors.Is(err, raft.ErrLogNotFound) {
		return nil, fmt.Errorf("consensus: snapshot %d: %w", index, err)
	}
	sink, err := s.FileSnapshotStore.Create(version, at.index, at.term, servers, serversIndex, trans)
	if err != nil {
		return nil, err
	}
	return &snapshotSink{SnapshotSink: sink, store: s, at: at, by: by}, nil
}

// there are the snapshots on disk, RetainedSnapshots at most.
func (s *snapshotStore) there() (all []mark, err error) {
	known, err := s.List()
	for _, meta := range known {
		all = append(all, mark{meta.Index, meta.Term})
	}
	return all, err
}

type snapshotSink struct {
	raft.SnapshotSink
	store *snapshotStore
	at    mark
	by    origin
}

// Close makes the snapshot durable, then the log consistent with it. A crash
// between the two is made good at the next start.
func (s *snapshotSink) Close() error {
	if s.by.known {
		there, err := s.store.there()
		if err == nil {
			err = s.store.log.noteOrigin(s.at, s.by, there)
		}
		if err != nil {
			return errors.Join(err, s.Cancel())
		}
	}
	if err := s.SnapshotSink.Close(); err != nil {
		return err
	}
	return s.store.log.snapshotted(s.at)
}
