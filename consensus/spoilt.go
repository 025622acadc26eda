package consensus

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/hashicorp/raft"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
)

// A disk may spoil a snapshot that was well when it was written. Raft would take an older one,
// and panic where the log does not go on from that, as it seldom does. So before raft starts
// what is spoilt is set aside, and with an older one the replica is where one is whose disk
// was put back: others fill it. What it had then it knows, and is held to (floor).

const (
	spoiltDir = "spoilt" // where they are set aside, beside raft's own
	temporary = ".tmp"   // raft's name for a snapshot that is not complete
)

// snapshotNames are those on disk, whole or not.
func snapshotNames(dir string) (names []string, err error) {
	entries, err := os.ReadDir(filepath.Join(dir, snapshotsDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("consensus: snapshots: %w", err)
	}
	for _, e := range entries {
		if e.IsDir() && !strings.HasSuffix(e.Name(), temporary) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// spoilt are those of them that cannot be read as they were written.
func spoilt(dir string, files *raft.FileSnapshotStore) (bad []string, err error) {
	names, err := snapshotNames(dir)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		_, source, err := files.Open(name)
		if err == nil {
			err = source.Close()
		}
		switch {
		case err == nil:
		case isSpoilt(err):
			bad = append(bad, name)
		default:
			return nil, fmt.Errorf("consensus: snapshot %s: %w", name, err)
		}
	}
	return bad, nil
}

// isSpoilt tells from an error that what is on disk will be no better another time, unlike where
// no more files can be opened.
func isSpoilt(err error) bool {
	other := (*fs.PathError)(nil)
	return !errors.As(err, &other) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.EIO)
}

// markOf is where the snapshot of that name stands in the log.
func markOf(name string) (m mark) {
	_, _ = fmt.Sscanf(name, "%d-%d-", &m.term, &m.index) // another name has none
	return m
}

// remains is what a replica has left on its disk.
type remains struct {
	bad    []string           // snapshots
	halves []string           // snapshots that were being removed when the process ended
	newest *raft.SnapshotMeta // that is whole; nil: none is
	first  uint64             // entry of the log; zero: none is
	had    mark               // where it ended before
	left   mark               // where it ends now
}

// look sees what is left.
func look(dir string, files *raft.FileSnapshotStore, log *logStore) (r remains, err error) {
	if r.bad, err = spoilt(dir, files); err != nil {
		return r, err
	}
	known, err := files.List()
	if err != nil {
		return r, fmt.Errorf("consensus: snapshots: %w", err)
	}
	known = slices.DeleteFunc(known, func(m *raft.SnapshotMeta) bool { return slices.Contains(r.bad, m.ID) })
	if len(known) > 0 { // the newest comes first
		r.newest = known[0]
		r.left = mark{r.newest.Index, r.newest.Term}
	}
	for _, name := range r.bad {
		if r.newest != nil && markOf(name).before(r.left) && halved(filepath.Join(dir, snapshotsDir, name)) {
			r.halves = append(r.halves, name)
		}
	}
	r.bad = slices.DeleteFunc(r.bad, func(name string) bool { return slices.Contains(r.halves, name) })
	if r.first, err = log.FirstIndex(); err != nil {
		return r, fmt.Errorf("consensus: %w", err)
	}
	end := log.end()
	for _, m := range []mark{r.left, end} {
		r.had = later(r.had, m)
	}
	for _, name := range r.bad {
		r.had = later(r.had, markOf(name))
	}
	if !r.apart() {
		r.left = later(r.left, end)
	}
	return r, nil
}

// halved says that a file of a snapshot is gone.
func halved(path string) bool {
	return slices.ContainsFunc([]string{"meta.json", "state.bin"}, func(name string) bool {
		_, err := os.Lstat(filepath.Join(path, name))
		return errors.Is(err, fs.ErrNotExist)
	})
}

// apart says that the log does not go on from the snapshot.
func (r remains) apart() bool {
	return r.newest == nil && r.first > 1 || r.newest != nil && r.first > r.newest.Index+1
}

func later(m, o mark) mark {
	if m.before(o) {
		return o
	}
	return m
}

// mend sets aside what is spoilt, and gives up entries that do not go on from what is left.
// Each step may be the last before power is lost: what is owed is noted first, and gone
// entries last.
func mend(dir string, files *raft.FileSnapshotStore, log *logStore, out *logger) error {
	r, err := look(dir, files, log)
	if err != nil {
		return err
	}
	for _, name := range r.halves { // no disk's fault, and raft would not remove the rest
		if err := os.RemoveAll(filepath.Join(dir, snapshotsDir, name)); err != nil {
			return fmt.Errorf("consensus: %w", err)
		}
	}
	if len(r.bad) == 0 && !r.apart() {
		return nil
	}
	if r.newest == nil && r.first != 1 {
		return fmt.Errorf("%w: no snapshot is left that it goes on from (spoilt: %s)", ErrDamagedLog, strings.Join(r.bad, ", "))
	}
	if r.left.before(r.had) {
		if err := log.owe(files, r); err != nil {
			return err
		}
	}
	if err := setAside(dir, r.bad); err != nil {
		return err
	}
	if r.apart() {
		if err := log.recentLog.DeleteRange(r.first, math.MaxUint64); err != nil {
			return fmt.Errorf("consensus: %w", err)
		}
	}
	out.out.Error("the disk has spoilt a snapshot of the registry: it is set aside, and the one before is taken; look at the disk (dmesg)",
		"spoilt", strings.Join(r.bad, ", "), "to", filepath.Join(dir, spoiltDir), "lacks", r.left.before(r.had))
	return nil
}

// owe notes what this replica once had: it is held to that, whatever it has now, and to no
// less than it was before.
func (l *logStore) owe(files *raft.FileSnapshotStore, r remains) error {
	owed, err := l.kept()
	if err != nil {
		return err
	}
	k := Known{Incarnation: 1, Term: r.had.term, Index: r.had.index}
	if r.newest != nil {
		_, source, err := files.Open(r.newest.ID)
		if err != nil {
			return fmt.Errorf("consensus: snapshot %s: %w", r.newest.ID, err)
		}
		state, err := registry.ReadSnapshot(source)
		if err := errors.Join(err, source.Close()); err != nil {
			return fmt.Errorf("consensus: snapshot %s: %w", r.newest.ID, err)
		}
		k.Incarnation = state.Cluster.Incarnation
	}
	if owed.Incarnation >= k.Incarnation && !(mark{owed.Index, owed.Term}).before(r.had) {
		return nil
	}
	return l.keep(k)
}

// setAside keeps those for whoever looks at the disk, and nothing of before.
func setAside(dir string, bad []string) error {
	to := filepath.Join(dir, spoiltDir)
	for i, name := range bad {
		if i == 0 {
			if err := os.RemoveAll(to); err != nil {
				return fmt.Errorf("consensus: %w", err)
			}
		}
		if err := os.MkdirAll(to, 0o700); err != nil {
			return misplaced(to, err)
		}
		if err := os.Rename(filepath.Join(dir, snapshotsDir, name), filepath.Join(to, name)); err != nil {
			return fmt.Errorf("consensus: %w", err)
		}
	}
	return nil
}

// Spoilt is where a snapshot lies that the disk has spoilt, until somebody removes it; empty:
// there is none.
func (r *Raft) Spoilt() string {
	path := filepath.Join(r.file.dir, spoiltDir)
	if _, err := os.Stat(path); err != nil {
		return ""
	}
	return path
}
