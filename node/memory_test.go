package node

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus"
	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/node/agent"
	"github.com/meshcrypt/meshcrypt/node/datadir"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// TestDiskWords: each says where, what and what to do.
func TestDiskWords(t *testing.T) {
	for want, err := range map[string]error{
		"":                       nil,
		"/d is full: free space": fmt.Errorf("write: %w", syscall.ENOSPC),
		"/d is full: free":       syscall.EDQUOT,
		"/d fails (input/output error): look at dmesg":          fmt.Errorf("sync: %w", syscall.EIO),
		"/d is slow (2s for one write)":                         fmt.Errorf("store: %w", consensus.SlowDisk{Took: 2 * time.Second}),
		"/d is mounted read-only":                               fmt.Errorf("open: %w", syscall.EROFS),
		"/d does not let this daemon write (permission denied)": fmt.Errorf("open: %w", syscall.EACCES),
		"/d has lost the log's file, which only the running daemon still has; a copy from elsewhere is no help": consensus.ErrFileGone,
		"/d fails (EOF): mend": io.EOF,
	} {
		if says := diskWords("/d", err); !strings.HasPrefix(says, want) || (says == "") != (err == nil) {
			t.Errorf("%v: %q, want %q", err, says, want)
		}
	}
}

// TestFailingDiskIsNamed: this host's whatever is heard, another one's while an arbiter is;
// and a voter that cannot serve for its own disk blames nobody else.
func TestFailingDiskIsNamed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	founder, other := w.members[0], w.members[1]
	full := diskWords("/var/lib/meshcrypt", syscall.ENOSPC)
	founder.memory.ails.Store(&full)
	if all := founder.problems(agent.Report{}, nil, 1); len(all) < 2 || !strings.Contains(all[0], "while its disk fails this node neither leads nor obeys") ||
		strings.Contains(strings.Join(all, ""), "operator recover") {
		t.Errorf("%q", all)
	}
	founder.full.Store(true)
	w.says(founder, "the disk below", "is full: free space there")
	w.says(other, "on n1 the disk below", "is full: free space there")
	founder.full.Store(false)
	key, err := os.ReadFile(other.dir.Path("node.key"))
	w.ok(err)
	w.ok(os.Remove(other.dir.Path("node.key")))
	w.says(founder, "on n2 the disk below", "has lost node.key, without which this daemon cannot start again")
	w.ok(os.WriteFile(other.dir.Path("node.key"), key, 0o600))
	w.until("nobody says so any more", func() bool {
		return other.diskSays() == ""
	})
	w.until("nobody says so any more", func() bool {
		return founder.diskSays() == "" && other.Node.members.find(founder.trust.Key.ID()).Disk == ""
	})
}

// TestSpoiltSnapshotIsNamed as long as it lies there.
func TestSpoiltSnapshotIsNamed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	m := w.members[0]
	path := m.dir.Path(filepath.Join(datadir.RaftDir, "spoilt"))
	says := func() bool { return strings.Contains(strings.Join(m.failingDisks(false), ""), path) }
	if says() {
		t.Error("one is named, and none is there")
	}
	w.ok(os.Mkdir(path, 0o700))
	if !says() {
		t.Errorf("it says %q", m.failingDisks(false))
	}
}

// TestRevocationIsKeptAtOnce: what an arbiter tells of one is on disk before any time has
// passed; the rest of the history waits for its turn.
func TestRevocationIsKeptAtOnce(t *testing.T) {
	dir, err := datadir.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	arbiter, err := identity.NewKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		n := &Node{dir: dir, room: func(string) error { return nil }}
		n.memory.due = make(chan struct{}, 1)
		n.members.rows = []protocol.NodeRow{{ID: arbiter.Public().ID(), Index: 1, May: registry.RoleVoter}}
		ctx, cancel := context.WithCancel(t.Context())
		go n.keepDisk(ctx)
		synctest.Wait()
		for index := range uint64(4) {
			k := protocol.SignKnown(arbiter, n.self.Cluster, protocol.Fence{Incarnation: 1, Term: 1}, index+1, "")
			k.Keep = index%2 == 1
			n.told(k)
			synctest.Wait()
			if kept, err := dir.Known(); err != nil || kept.Index != (index+1)/2*2 {
				t.Errorf("told of %d, on disk is %d, %v", k.Index, kept.Index, err)
			}
		}
		cancel()
		synctest.Wait()
	})
}

// TestFenceStaysOnDisk: what is kept of the log, beside the loop, never writes over a
// fence that was saved meanwhile: a node that restarted would obey a deposed arbiter (I6).
func TestFenceStaysOnDisk(t *testing.T) {
	dir, err := datadir.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	n := &Node{dir: dir}
	for term := uint64(1); term < 300 && !t.Failed(); term++ {
		fence := protocol.Fence{Incarnation: 1, Term: term}
		n.memory.known = protocol.Known{Fence: fence, Index: term}
		var both sync.WaitGroup
		both.Go(n.saveKnown)
		fence.Term++
		both.Go(func() {
			if err := n.saveFence(fence); err != nil {
				t.Error(err)
			}
		})
		both.Wait()
		if k, err := dir.Known(); err != nil || k.Term != fence.Term {
			t.Errorf("term %d is on disk, %v; %d was saved", k.Term, err, fence.Term)
		}
	}
}

// TestStartsHaveSPIsOfTheirOwn: clients go on for minutes under the SPIs of a process that is no
// more; by what the data directory counts, those of four starts in a row have ranges of their own.
func TestStartsHaveSPIsOfTheirOwn(t *testing.T) {
	t.Parallel()
	const starts, localBits = 4, 18
	w := newWorld(t, 1)
	at := make(map[uint32]int)
	for start := range starts {
		if start > 0 {
			w.again(w.members[0], asItIs)
		}
		for _, sl := range w.connect(fmt.Sprint("c", start), 0, w.members[0]).session().Slices {
			at[sl.SPI>>localBits]++
		}
	}
	if len(at) != starts {
		t.Errorf("%d starts gave out SPIs of %d ranges", starts, len(at))
	}
}
