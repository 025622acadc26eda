package consensus

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// disks are those of a cluster's replicas; the ones that are full fail all writes.
type disks []atomic.Bool

// newDisks makes a cluster whose disks the test fills.
func newDisks(t *testing.T, size int) (*cluster, disks) {
	t.Helper()
	full := make(disks, size)
	c := newCluster(t, size, func(config *Config) {
		for n := range full {
			if id(n) == config.ID {
				config.fails = func() error {
					if full[n].Load() {
						return syscall.ENOSPC
					}
					return nil
				}
			}
		}
	})
	return c, full
}

// TestLeaderWithAFullDiskGivesWay: it gives the lead away once, does not stand for it again
// while its disk fails, and has all that it missed soon after. Before, it lost the lead at
// each entry and was chosen again for its long log, 18 terms in 9 s.
func TestLeaderWithAFullDiskGivesWay(t *testing.T) {
	t.Parallel()
	c, full := newDisks(t, 3)
	first := c.leader()
	victim := c.number(first)
	full[victim].Store(true)
	_, _ = first.Propose(c.ctx(), c.command(tick(1))) // its disk is not looked at before something is written
	c.until("another one leads", func() bool {
		for n, r := range c.nodes {
			if n != victim && r.Stats().Leader {
				return true
			}
		}
		return false
	})
	if !errors.Is(first.Disk(), syscall.ENOSPC) {
		t.Errorf("it says %v", first.Disk())
	}
	c.until("it waits", func() bool { return first.raft.ReloadableConfig().HeartbeatTimeout == DiskPatience })
	quiet, cancel := context.WithTimeout(context.Background(), 20*c.config(0).Election)
	defer cancel()
	for quiet.Err() == nil { // the others may elect each other anew on a busy machine
		if state := first.raft.State(); state != raft.Follower {
			t.Fatalf("it is a %v again", state)
		}
		<-time.After(time.Millisecond)
	}
	second := c.leader()
	if c.number(second) == victim {
		t.Error("it leads again")
	}
	full[victim].Store(false)
	c.until("it has what it missed, and says that its disk is well", func() bool {
		return first.Disk() == nil && first.Stats().Applied >= second.Stats().Commit
	})
}

// TestFollowerWithAFullDisk: nothing else notices, and it answers whoever asks for it.
func TestFollowerWithAFullDisk(t *testing.T) {
	t.Parallel()
	c, full := newDisks(t, 3)
	leader := c.leader()
	victim := (c.number(leader) + 1) % 3
	full[victim].Store(true)
	for range 10 {
		c.must(leader, tick(1))
	}
	c.until("it says so", func() bool { return c.nodes[victim].Disk() != nil })
	c.ok(leader.Reach(c.ctx(), id(victim)))
	full[victim].Store(false)
	c.until("it has what it missed", func() bool {
		return c.nodes[victim].Disk() == nil && c.nodes[victim].Stats().Applied >= leader.Stats().Commit
	})
}

// TestTermsNeverGoBack: what many leaders said while a replica could not write, or stood
// still, is heard all at once when it can. Before, each heartbeat wrote its own term, and the
// one that was written last counted.
func TestTermsNeverGoBack(t *testing.T) {
	c, full := newDisks(t, 3)
	leader := c.leader()
	from, n := c.nodes[(c.number(leader)+1)%3], (c.number(leader)+2)%3
	victim := c.nodes[n]
	full[n].Store(true)
	base, leaders := leader.Stats().Term, uint64(20)
	var asked sync.WaitGroup
	for i := range leaders {
		asked.Go(func() {
			ask := raft.AppendEntriesRequest{RPCHeader: from.header(), Term: base + 1000 + i}
			_ = from.transport.AppendEntries(serverID(victim.id), serverAddress(victim.id), &ask, new(raft.AppendEntriesResponse))
		})
	}
	c.until("they wait for the disk", func() bool { return errors.Is(victim.Disk(), syscall.ENOSPC) })
	full[n].Store(false)
	var highest uint64
	done := make(chan struct{})
	go func() { asked.Wait(); close(done) }()
	for over := false; !over; {
		select {
		case <-done:
			over = true
		case <-time.After(time.Millisecond):
		}
		term := victim.raft.CurrentTerm()
		if term < highest {
			t.Fatalf("the term went back from %d to %d", highest, term)
		}
		highest = term
	}
	if most := base + 1000 + leaders - 1; highest < most {
		t.Errorf("it was told of term %d, and is in %d", most, highest)
	}
}

// TestFailingDiskDoesNotStand: a voter that hears no leader stands for the lead, and with a
// disk that fails it does not, for it could not keep it.
func TestFailingDiskDoesNotStand(t *testing.T) {
	t.Parallel()
	c, full := newDisks(t, 3)
	leader := c.leader()
	victim := (c.number(leader) + 1) % 3
	r := c.nodes[victim]
	full[victim].Store(true)
	c.must(leader, tick(1))
	c.until("its disk fails", func() bool {
		return r.Disk() != nil && r.raft.ReloadableConfig().HeartbeatTimeout == DiskPatience
	})
	c.network.isolate(id(victim))
	silent, cancel := context.WithTimeout(context.Background(), 10*c.config(0).Election)
	defer cancel()
	for silent.Err() == nil {
		if state := r.raft.State(); state != raft.Follower {
			t.Fatalf("it is a %v", state)
		}
		<-time.After(time.Millisecond)
	}
	full[victim].Store(false)
	c.until("it stands with a disk that is well", func() bool { return r.raft.State() == raft.Candidate })
	c.network.heal(id(victim))
}

// TestSlowDisk: whoever waits for a commit waits for the leader's disk, so it passes the
// lead on, once in a while. It stands all the same: perhaps all of them are slow.
func TestSlowDisk(t *testing.T) {
	var slow atomic.Pointer[Raft]
	c := newCluster(t, 3, func(config *Config) {
		config.fails = func() error {
			if r := slow.Load(); r != nil && r.id == config.ID {
				<-time.After(SlowWrite)
			}
			return nil
		}
	})
	first := c.leader()
	slow.Store(first)
	c.must(first, tick(1))
	if err := first.Disk(); err != nil {
		t.Errorf("after one slow write: %v", err)
	}
	_, _ = first.Propose(c.ctx(), c.command(tick(1)))
	c.until("another one leads", func() bool {
		return slices.ContainsFunc(c.nodes, func(r *Raft) bool { return r != first && r.look().Leader })
	})
	err := first.Disk()
	if _, says := errors.AsType[SlowDisk](err); !says || first.raft.ReloadableConfig().HeartbeatTimeout == DiskPatience {
		t.Errorf("it says %v", err)
	}
	slow.Store(nil)
	d := &first.file.disk
	c.until("later nothing is said between two writes", func() bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		return d.since.IsZero() && d.ails(d.at.Add(SlowFor)) == nil
	})
}

// TestLongWrite is seen before it ends, and needs no second one.
func TestLongWrite(t *testing.T) {
	goes := make(chan struct{})
	var slow atomic.Bool
	c := newCluster(t, 1, func(config *Config) {
		config.fails = func() error {
			if slow.Load() {
				<-goes
			}
			return nil
		}
	})
	r := c.leader()
	d := &r.file.disk
	slow.Store(true)
	wait, err := r.Enqueue(c.ctx(), c.command(tick(1)))
	c.ok(err)
	says := func(after time.Duration) error {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.since.IsZero() {
			return nil
		}
		return d.ails(d.since.Add(after))
	}
	c.until("a write that lasts is slow", func() bool { return errors.Is(says(SlowOnce), SlowDisk{SlowOnce}) })
	if err := says(SlowOnce - 1); err != nil {
		t.Errorf("before that it says %v", err)
	}
	slow.Store(false)
	close(goes)
	_, err = wait()
	c.ok(err)
	if err := says(SlowOnce); err != nil {
		t.Errorf("without a write it says %v", err)
	}
	d.note(nil, SlowOnce)
	if err := r.Disk(); !errors.Is(err, SlowDisk{SlowOnce}) {
		t.Errorf("afterwards it says %v", err)
	}
}

// TestOnlyVoterWithAFullDisk: it leads on in the same term and answers when it can write;
// a command that came meanwhile is done once or not at all.
func TestOnlyVoterWithAFullDisk(t *testing.T) {
	c, full := newDisks(t, 1)
	r := c.leader()
	term := r.Stats().Term
	full[0].Store(true)
	waits, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	if _, err := r.Propose(waits, c.command(tick(5))); err == nil {
		t.Fatal("a command was committed without being written")
	}
	c.until("it says so", func() bool { return r.Disk() != nil })
	full[0].Store(false)
	c.must(r, tick(1))
	if now := r.Stats(); now.Term != term || !now.Leader || r.Disk() != nil {
		t.Errorf("term %d, now %+v, %v", term, now, r.Disk())
	}
}

// TestLogRemovedUnderTheReplica: what it writes on goes with it, so it says so and gives the
// lead away; the file put back, all is well.
func TestLogRemovedUnderTheReplica(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, nil)
	first := c.leader()
	path := filepath.Join(first.file.dir, logFile)
	c.ok(os.Rename(path, path+".away"))
	if err := first.Disk(); !errors.Is(err, ErrFileGone) {
		t.Errorf("it says %v", err)
	}
	c.until("another one leads", func() bool {
		return slices.ContainsFunc(c.nodes, func(r *Raft) bool { return r != first && r.look().Leader })
	})
	c.ok(os.Rename(path+".away", path))
	c.until("it says nothing any more", func() bool { return first.Disk() == nil })
}

// TestDamagedLog: it is told apart from what a second try may open, and what is in whose
// place is named.
func TestDamagedLog(t *testing.T) {
	file := func(path string) error { return os.WriteFile(path, make([]byte, 1<<16), 0o600) }
	directory := func(path string) error { return os.MkdirAll(filepath.Join(path, "x"), 0o700) }
	for _, c := range []struct {
		at   string
		make func(string) error
		says string
	}{
		{"raft/raft.db", file, "raft.db"},
		{"raft/raft.db", directory, "a directory is where the file"},
		{"raft", file, "a file is where the directory"},
		{"raft/snapshots", file, "a file is where the directory"},
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, c.at)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), c.make(path)); err != nil {
			t.Fatal(err)
		}
		_, err := HasLog(filepath.Join(dir, "raft"))
		if err == nil {
			_, err = open(Config{Dir: filepath.Join(dir, "raft"), Log: slog.New(slog.DiscardHandler)})
		}
		if !errors.Is(err, ErrDamagedLog) || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: it says %v", c.at, err)
		}
	}
}

// TestCloseWithAFullDisk: nothing waits for the disk then, nor does raft panic for the term
// that it cannot write.
func TestCloseWithAFullDisk(t *testing.T) {
	c, full := newDisks(t, 3)
	leader := c.leader()
	for n := range full {
		full[n].Store(true)
	}
	_, _ = leader.Propose(c.ctx(), c.command(tick(1)))
	for n := range c.nodes {
		c.stop(n)
	}
}
