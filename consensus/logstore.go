package consensus

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	bolterrors "go.etcd.io/bbolt/errors"
)

const logFile = "raft.db"

// logStore is the log file, seen together with the newest snapshot: the entry at
// a snapshot's index is known by the snapshot even when the file has no such
// entry, or had another one. Without that, a follower whose log had run apart
// from the leader's snapshot would refuse every entry after installing it, and
// be sent the snapshot again for ever. DESIGN.md tells why raft's own
// MonotonicLogStore does not help.
type logStore struct {
	*recentLog

	dir     string
	opened  os.FileInfo // the log's file
	disk    disk
	ailing  chan struct{} // one slot: the disk's health changed
	closing chan struct{} // closed when nothing is tried again
	serving atomic.Bool   // raft runs on it
	alone   func() bool   // nobody else votes
	applied func() Known  // how far the registry has it
	floor   *floor        // nil: what is committed is not known
	fails   func() error  // in tests: why nothing can be written

	leads  atomic.Pointer[led]    // the newest leadership of this process; raft's goroutine writes
	apart  atomic.Uint64          // from there on the leader's entries are others, whatever their term; zero: none are
	coming atomic.Pointer[coming] // the snapshot that a leader sends

	mu         sync.Mutex
	snapshot   mark   // newest snapshot on disk
	snapshotBy origin // of the entry at its index
}

// mark is a place in the log.
type mark struct{ index, term uint64 }

// HasLog says whether a directory holds a log that was begun. A voter whose log is gone
// must not vote by an empty one: it has forgotten what it voted for and what it took. One
// that was begun has something in it: power may be lost while it is founded, and then it is
// founded once more.
func HasLog(dir string) (bool, error) {
	info, err := os.Stat(filepath.Join(dir, logFile))
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() == 0 {
		return false, nil
	}
	if err != nil {
		return false, misplaced(dir, err)
	}
	file, err := openLog(dir)
	if err != nil {
		return false, err
	}
	snapshots, err := snapshotNames(dir)
	empty, emptyErr := file.empty() // but for them
	return !empty || len(snapshots) > 0, errors.Join(err, emptyErr, file.Close())
}

// empty says that nothing is in the log, nor in a snapshot.
func (l *logStore) empty() (bool, error) {
	last, err := l.recentLog.LastIndex()
	return last == 0 && l.marked().index == 0, err
}

// unbegin takes back the term of a log that has nothing in it, and returns it: raft founds
// none where there is one, and writes it first.
func (l *logStore) unbegin() (term uint64, err error) {
	empty, err := l.empty()
	if err != nil || !empty {
		return 0, err
	}
	term, err = l.recentLog.GetUint64([]byte(keyTerm))
	if errors.Is(err, raftboltdb.ErrKeyNotFound) {
		return 0, nil
	}
	return term, errors.Join(err, l.recentLog.SetUint64([]byte(keyTerm), 0))
}

// misplaced says so where a file is in a directory's place, or the other way round.
func misplaced(path string, err error) error {
	switch {
	case errors.Is(err, syscall.ENOTDIR):
		return fmt.Errorf("%w: a file is where the directory %s should be", ErrDamagedLog, path)
	case errors.Is(err, syscall.EISDIR):
		return fmt.Errorf("%w: a directory is where the file %s should be", ErrDamagedLog, path)
	}
	return fmt.Errorf("consensus: %w", err)
}

// coming is a snapshot that is on its way, and whose entry it ends with.
type coming struct {
	mark
	by origin
}

func openLog(dir string) (*logStore, error) {
	path := filepath.Join(dir, logFile)
	file, err := openMapped(path)
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, fmt.Errorf("consensus: %s is in use by another process: %w", path, err)
	}
	if errors.Is(err, bolterrors.ErrInvalid) || errors.Is(err, bolterrors.ErrChecksum) || errors.Is(err, bolterrors.ErrVersionMismatch) {
		return nil, fmt.Errorf("%w: %s: %w", ErrDamagedLog, path, err)
	}
	if err != nil {
		return nil, misplaced(path, err)
	}
	opened, err := os.Stat(path)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("consensus: %w", err), file.Close())
	}
	return &logStore{
		recentLog: &recentLog{mappedLog: file}, opened: opened, dir: dir, ailing: make(chan struct{}, 1), closing: make(chan struct{}),
		alone: func() bool { return false }, applied: func() Known { return Known{} },
	}, nil
}

// gone says that the file that is written is not the one that the next start opens.
func (l *logStore) gone() error {
	now, err := os.Stat(filepath.Join(l.dir, logFile))
	if errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(now, l.opened) {
		return ErrFileGone
	}
	return nil
}

// GetLog reads an entry; at the snapshot's index it has at least the term. Where the
// leader's is another one of the same term, ours shows none, for raft compares no more.
func (l *logStore) GetLog(index uint64, entry *raft.Log) error {
	err := l.recentLog.GetLog(index, entry)
	if apart := l.apart.Load(); err == nil && apart != 0 && index >= apart {
		entry.Term = 0
	}
	if !errors.Is(err, raft.ErrLogNotFound) {
		return err
	}
	if at := l.marked(); at.stands(index) {
		*entry = raft.Log{Index: at.index, Term: at.term, Type: raft.LogNoop}
		return nil
	}
	return err
}

// LastIndex is the snapshot's when the file is empty behind it.
func (l *logStore) LastIndex() (uint64, error) {
	last, err := l.recentLog.LastIndex()
	if at := l.marked(); err == nil && last == 0 && at.stands(at.index) {
		return at.index, nil
	}
	return last, err
}

// stands reports whether the mark answers for an index. Entry 1 founds the
// configuration; a leader must send it or a snapshot, never a stand-in.
func (m mark) stands(index uint64) bool { return index == m.index && index > 1 }

func (l *logStore) marked() mark {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.snapshot
}

// entries counts what is in the file.
func (l *logStore) entries() uint64 {
	first, err1 := l.FirstIndex()
	last, err2 := l.recentLog.LastIndex()
	if err1 != nil || err2 != nil || first == 0 {
		return 0
	}
	return last - first + 1
}

// snapshotted takes note of a snapshot on disk. If the entry at its index is not
// the snapshot's own, nothing up to there is known to be the leader's: it goes.
// Entries behind stay until the leader overwrites them, for raft counts on them
// being there.
func (l *logStore) snapshotted(at mark) error {
	by, err := l.snapshotOrigin(at)
	if err != nil {
		return err
	}
	var entry raft.Log
	err = l.recentLog.GetLog(at.index, &entry)
	if err != nil && !errors.Is(err, raft.ErrLogNotFound) {
		return err
	}
	if err != nil || entry.Term != at.term || originOf(&entry).differs(by) {
		if err := l.discard(at.index); err != nil {
			return err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !at.before(l.snapshot) { // as the snapshots are ordered on disk
		l.snapshot, l.snapshotBy = at, by
	}
	return nil
}

func (l *logStore) discard(upTo uint64) error {
	first, err := l.FirstIndex()
	if err != nil || first == 0 || first > upTo {
		return err
	}
	return l.recentLog.DeleteRange(first, upTo)
}
