package consensus

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
)

// spoils are ways in which a disk spoils the snapshot in a directory.
var spoils = map[string]func(snapshot string) error{
	"an octet is another one": func(snapshot string) error {
		path := filepath.Join(snapshot, "state.bin")
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		b[len(b)/2] ^= 1
		return os.WriteFile(path, b, 0o600)
	},
	"it is gone":            func(snapshot string) error { return os.Remove(filepath.Join(snapshot, "state.bin")) },
	"nothing says of what":  func(snapshot string) error { return os.WriteFile(filepath.Join(snapshot, "meta.json"), nil, 0o600) },
	"what it is of is gone": func(snapshot string) error { return os.Remove(filepath.Join(snapshot, "meta.json")) },
}

// newest is the last snapshot of a stopped replica.
func (c *cluster) newest(n int) (path string) {
	c.Helper()
	var at mark
	names, err := snapshotNames(c.dirs[n])
	c.ok(err)
	for _, name := range names {
		if m := markOf(name); at.before(m) {
			at, path = m, filepath.Join(c.dirs[n], snapshotsDir, name)
		}
	}
	if path == "" {
		c.Fatal("there is none")
	}
	return path
}

// twoSnapshots has a replica write them, and more behind the second: 33 seconds in all.
func (c *cluster) twoSnapshots(r *Raft) {
	c.Helper()
	for _, ticks := range []int{10, 20} {
		for range ticks {
			c.must(c.leader(), tick(1))
		}
		want := uint64(ticks)
		c.until("a snapshot", func() bool { return uint64(r.Stats().Applied) >= want && r.Snapshot(c.ctx()) == nil })
	}
	for range 3 {
		c.must(c.leader(), tick(1))
	}
	c.agree(33)
}

// TestSpoiltSnapshotIsSetAside: where the log reaches back to the one before, nothing is lost.
func TestSpoiltSnapshotIsSetAside(t *testing.T) {
	t.Parallel()
	for how, spoil := range spoils {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, 1, nil)
			c.twoSnapshots(c.nodes[0])
			c.stop(0)
			bad := c.newest(0)
			c.ok(spoil(bad))
			c.start(0, false)
			r := c.nodes[0]
			state, err := r.Kept()
			if err != nil || state.Tick != 33 {
				t.Fatalf("of its log it has less than 33 seconds (%v)", err)
			}
			if c.leader(); ticks(r) != 33 || r.Behind() {
				t.Errorf("it has %d seconds of 33, behind %v", ticks(r), r.Behind())
			}
			if names, err := os.ReadDir(r.Spoilt()); err != nil || len(names) != 1 || names[0].Name() != filepath.Base(bad) {
				t.Errorf("set aside are %v (%v)", names, err)
			}
			c.must(r, tick(1))
		})
	}
}

// TestVoterWithASpoiltSnapshot: where the log does not reach back, as it seldom does, a voter
// goes on from what there was before. It is held to all that it had, so it neither leads nor
// has anybody lead who lacks that, until the others have filled it. Raft panicked.
func TestVoterWithASpoiltSnapshot(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, shortLogs)
	victim := (c.number(c.leader()) + 1) % 3
	c.twoSnapshots(c.nodes[victim])
	had := c.nodes[victim].file.end()
	for n := range c.nodes {
		c.stop(n)
	}
	c.ok(spoils["an octet is another one"](c.newest(victim)))
	for range 2 { // the second time what is owed is known from the log's file alone
		c.start(victim, false)
		r := c.nodes[victim]
		if !r.Behind() || r.Stats().Stored != 0 || r.floor.get().Index < had.index {
			t.Errorf("behind %v, %d entries, held to %+v", r.Behind(), r.Stats().Stored, r.floor.get())
		}
		ask := raft.RPC{RespChan: make(chan raft.RPCResponse, 2), Command: &raft.RequestVoteRequest{LastLogIndex: had.index - 1, LastLogTerm: had.term}}
		if !r.refusesVote(ask) {
			t.Error("it votes for one that lacks what it had")
		}
		c.stop(victim)
	}
	for n := range c.nodes {
		c.start(n, false)
	}
	c.agree(33)
	c.until("it is held up by nothing", func() bool { return !c.nodes[victim].Behind() })
	c.must(c.leader(), tick(1))
	c.agree(34)
}

// TestSpoiltSnapshotIsAllThereWas: of a voter that was filled by a snapshot the log is empty,
// and only the name of what is spoilt says how far it was. In a recovered mesh that is of its
// incarnation: what was known of the one before binds nobody.
func TestSpoiltSnapshotIsAllThereWas(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, nil)
	c.leader()
	c.stop(0)
	c.ok(Rewrite(c.rewriteConfig(0), func(s *registry.State) (*registry.State, error) {
		s.Cluster.Incarnation++
		return s, nil
	}))
	c.start(0, false)
	r := c.nodes[0]
	c.twoSnapshots(r)
	bad := markOf(filepath.Base(c.newest(0)))
	last, err := r.file.recentLog.LastIndex()
	c.ok(err)
	first, err := r.file.recentLog.FirstIndex()
	c.ok(err)
	c.ok(r.file.recentLog.DeleteRange(first, last))
	c.stop(0)
	c.ok(spoils["an octet is another one"](c.newest(0)))
	c.start(0, false)
	r = c.nodes[0]
	if k := r.floor.get(); !r.Behind() || (mark{k.Index, k.Term}) != bad {
		t.Errorf("behind %v, held to %+v, and it had %+v", r.Behind(), k, bad)
	}
}

// TestOwedIsNotLessened: what a replica was held to already, as by a leader that wanted to
// overwrite it or by a start that power ended, may be more than what is left says.
func TestOwedIsNotLessened(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, nil)
	l := c.nodes[0].file
	for _, step := range []struct{ had, want mark }{
		{mark{9, 2}, mark{9, 2}}, {mark{7, 2}, mark{9, 2}}, {mark{11, 1}, mark{9, 2}}, {mark{10, 2}, mark{10, 2}}, {mark{3, 4}, mark{3, 4}},
	} {
		c.ok(l.owe(nil, remains{had: step.had}))
		if k, err := l.kept(); err != nil || (mark{k.Index, k.Term}) != step.want {
			t.Errorf("after %+v it owes %+v, want %+v (%v)", step.had, k, step.want, err)
		}
	}
}

// TestNothingIsLeftOfSnapshots: a log that begins in the middle is none, and is said to be none;
// nothing is touched. It is one that was begun, too.
func TestNothingIsLeftOfSnapshots(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, shortLogs)
	for range 20 {
		c.must(c.nodes[0], tick(1))
	}
	c.ok(c.nodes[0].Snapshot(c.ctx()))
	c.stop(0)
	only := c.newest(0)
	for _, spoil := range []func(string) error{spoils["an octet is another one"], spoils["nothing says of what"], os.RemoveAll} {
		c.ok(spoil(only))
		if kept, err := HasLog(c.dirs[0]); !kept || err != nil {
			t.Errorf("it has a log: %v, %v", kept, err)
		}
		if _, err := Open(c.listening(0)); !errors.Is(err, ErrDamagedLog) {
			t.Fatalf("opened: %v", err)
		}
		if _, err := os.Stat(filepath.Join(c.dirs[0], spoiltDir)); err == nil {
			t.Error("the only one is set aside")
		}
		err := Rewrite(c.rewriteConfig(0), func(s *registry.State) (*registry.State, error) { return s, nil })
		if !errors.Is(err, ErrDamagedLog) {
			t.Errorf("rewritten: %v", err)
		}
	}
}

// TestHalfRemovedSnapshotIsNotSpoilt: raft removes the third last one, and a process may end
// between two of its files. Nothing is wrong with the disk then, and the newest one is taken.
func TestHalfRemovedSnapshotIsNotSpoilt(t *testing.T) {
	t.Parallel()
	for _, gone := range []string{"it is gone", "what it is of is gone"} {
		c := newCluster(t, 1, nil)
		c.twoSnapshots(c.nodes[0])
		c.stop(0)
		names, err := snapshotNames(c.dirs[0])
		c.ok(err)
		older := slices.DeleteFunc(names, func(name string) bool { return name == filepath.Base(c.newest(0)) })
		c.ok(spoils[gone](filepath.Join(c.dirs[0], snapshotsDir, older[0])))
		c.start(0, false)
		if c.leader(); c.nodes[0].Spoilt() != "" || ticks(c.nodes[0]) != 33 {
			t.Errorf("%s: %q is named, it has %d seconds", gone, c.nodes[0].Spoilt(), ticks(c.nodes[0]))
		}
		if left, err := snapshotNames(c.dirs[0]); err != nil || slices.Contains(left, older[0]) {
			t.Errorf("%s: the rest of it stays: %v (%v)", gone, left, err)
		}
	}
}

// TestSpoiltIsBounded: what is set aside is of the last time.
func TestSpoiltIsBounded(t *testing.T) { // I10
	dir := t.TempDir()
	for _, names := range [][]string{{"1-2-3", "1-3-3"}, nil, {"1-4-3"}} {
		for _, name := range names {
			if err := os.MkdirAll(filepath.Join(dir, snapshotsDir, name), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		if err := setAside(dir, names); err != nil {
			t.Fatal(err)
		}
	}
	left, err := os.ReadDir(filepath.Join(dir, spoiltDir))
	if err != nil || len(left) != 1 || left[0].Name() != "1-4-3" {
		t.Errorf("%v, %v", left, err)
	}
	if names, err := snapshotNames(dir); len(names) > 0 || err != nil {
		t.Errorf("in place are %v, %v", names, err)
	}
}

// TestWhatCannotBeReadNowIsNotSpoilt: what may be had another time, here for a loop of links,
// is left where it is.
func TestWhatCannotBeReadNowIsNotSpoilt(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, nil)
	c.twoSnapshots(c.nodes[0])
	c.stop(0)
	state := filepath.Join(c.newest(0), "state.bin")
	c.ok(os.Rename(state, state+"~"))
	c.ok(os.Symlink("state.bin", state))
	if _, err := Open(c.listening(0)); err == nil || errors.Is(err, ErrDamagedLog) {
		t.Errorf("opened: %v", err)
	}
	for err, spoilt := range map[error]bool{
		&fs.PathError{Err: syscall.EIO}: true, &fs.PathError{Err: syscall.ENOENT}: true, errors.New("CRC mismatch"): true,
		&fs.PathError{Err: syscall.EMFILE}: false, &fs.PathError{Err: syscall.EACCES}: false,
	} {
		if isSpoilt(err) != spoilt {
			t.Errorf("%v (%T) is taken for spoilt: %t", err, err, !spoilt)
		}
	}
	c.ok(os.Rename(state+"~", state))
	c.start(0, false)
	if c.leader(); c.nodes[0].Spoilt() != "" || ticks(c.nodes[0]) != 33 {
		t.Errorf("%q, %d", c.nodes[0].Spoilt(), ticks(c.nodes[0]))
	}
}
