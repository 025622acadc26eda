package consensus

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

func shortLogs(c *Config) { c.trailingLogs = 4 }

func TestRestartFromSnapshot(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, shortLogs)
	for range 20 {
		c.must(c.nodes[0], tick(1))
	}
	c.ok(c.nodes[0].Snapshot(c.ctx()))
	if stored := c.nodes[0].Stats().Stored; stored > 5 {
		t.Fatalf("%d entries behind a snapshot", stored)
	}
	for range 3 {
		c.must(c.nodes[0], tick(1))
	}
	c.stop(0)
	c.start(0, false)
	c.must(c.leader(), tick(1))
	c.agree(24)
}

func TestFollowerFarBehind(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, shortLogs)
	leader := c.leader()
	behind := (c.number(leader) + 1) % 3
	c.must(leader, tick(1))
	c.agree(1)
	c.stop(behind)
	for range 40 {
		c.must(leader, tick(1))
	}
	c.snapshots(41)
	leader = c.leader()
	c.start(behind, false)
	c.agree(41)
	c.followsOn(leader, behind, 41)
}

// snapshots has every replica that runs and is not cut off write one of all there is, for
// the lead may move.
func (c *cluster) snapshots(seen registry.Tick) {
	c.Helper()
	for n, r := range c.nodes {
		if r != nil && !c.cut(n) {
			c.until("a snapshot", func() bool { return ticks(r) == seen && r.Snapshot(c.ctx()) == nil })
		}
	}
}

// A leader that was cut off while it took proposals has a log that ran apart,
// beyond the others' snapshot: raft's issue 697. Installing the snapshot must
// not leave it refusing every entry, which sends it the snapshot again for ever.
func TestFollowerThatRanApart(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, func(config *Config) {
		shortLogs(config)
		if config.ID == id(0) { // the founder believes in its lease long enough
			config.Heartbeat, config.Election, config.Lease = time.Second, time.Second, time.Second
		}
	})
	old := c.leader()
	c.must(old, tick(1))
	c.agree(1)
	c.network.isolate(old.id)
	for range 200 { // into its own log only
		old.raft.Apply(encoded(t, c.command(tick(1))), EnqueueTimeout)
	}
	next := c.leader()
	for range 20 {
		c.must(next, tick(1))
	}
	c.snapshots(21)
	next = c.leader()
	if apart, snapshot := old.Stats().Last, next.Stats().Snapshot; apart <= snapshot {
		t.Fatalf("the old leader's log ends at %d, the snapshot at %d: not the case to test", apart, snapshot)
	}
	c.network.heal(old.id)
	c.agree(21)
	c.followsOn(next, c.number(old), 21)
}

// followsOn checks that a follower that installed a snapshot needs no second one,
// keeps a short log, survives a restart and can lead.
func (c *cluster) followsOn(leader *Raft, n int, seen registry.Tick) {
	c.Helper()
	installed := c.nodes[n].Stats().Snapshot
	if installed == 0 {
		c.Fatal("no snapshot was installed")
	}
	for range 30 {
		c.must(leader, tick(1))
	}
	seen += 30
	c.agree(seen)
	s := c.nodes[n].Stats()
	if s.Snapshot != installed {
		c.Fatalf("another snapshot, at %d after %d", s.Snapshot, installed)
	}
	if first, _ := c.nodes[n].file.FirstIndex(); first != installed+1 || s.Stored != s.Last-installed {
		c.Fatalf("log from %d, %d entries, snapshot at %d: %+v", first, s.Stored, installed, s)
	}
	c.stop(n)
	c.start(n, false)
	c.agree(seen)
	for c.leader() != c.nodes[n] {
		_ = c.leader().TransferLeadershipTo(c.ctx(), id(n)) // without success once more
	}
	c.must(c.nodes[n], tick(1))
	c.agree(seen + 1)
}

func openTestLog(t *testing.T, terms map[uint64]uint64) *logStore {
	t.Helper()
	l, err := openLog(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	for index, term := range terms {
		if err := l.StoreLog(&raft.Log{Index: index, Term: term}); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

func TestLogBehindSnapshot(t *testing.T) {
	for name, tc := range map[string]struct {
		terms  map[uint64]uint64
		at     mark
		stored uint64 // entries left
		last   uint64
	}{
		"entry matches: all stays":       {map[uint64]uint64{3: 1, 4: 2, 5: 2}, mark{4, 2}, 3, 5},
		"entry conflicts: prefix goes":   {map[uint64]uint64{3: 1, 4: 1, 5: 1}, mark{4, 2}, 1, 5},
		"log is shorter: all goes":       {map[uint64]uint64{3: 1, 4: 1}, mark{9, 2}, 0, 9},
		"log begins behind: all stays":   {map[uint64]uint64{5: 2, 6: 2}, mark{4, 2}, 2, 6},
		"empty log: the snapshot stands": {nil, mark{4, 2}, 0, 4},
	} {
		t.Run(name, func(t *testing.T) {
			l := openTestLog(t, tc.terms)
			if err := l.snapshotted(tc.at); err != nil {
				t.Fatal(err)
			}
			if got := l.entries(); got != tc.stored {
				t.Fatalf("%d entries", got)
			}
			if last, err := l.LastIndex(); err != nil || last != tc.last {
				t.Fatalf("last index %d, %v", last, err)
			}
			var entry raft.Log
			if err := l.GetLog(tc.at.index, &entry); err != nil || entry.Term != tc.at.term {
				t.Fatalf("entry %+v, %v", entry, err)
			}
			if err := l.GetLog(tc.at.index-1, &entry); tc.stored < 3 && !errors.Is(err, raft.ErrLogNotFound) {
				t.Fatalf("got %v", err)
			}
		})
	}
}

// The first entry founds the configuration: nothing may stand in for it. An older
// snapshot, finished late, does not move the mark back.
func TestMark(t *testing.T) {
	l := openTestLog(t, nil)
	if err := l.snapshotted(mark{1, 1}); err != nil {
		t.Fatal(err)
	}
	if err := l.GetLog(1, new(raft.Log)); !errors.Is(err, raft.ErrLogNotFound) {
		t.Fatalf("got %v", err)
	}
	for _, at := range []mark{{9, 3}, {5, 2}} {
		if err := l.snapshotted(at); err != nil {
			t.Fatal(err)
		}
	}
	if got := l.marked(); got != (mark{9, 3}) {
		t.Fatalf("mark %+v", got)
	}
	if _, monotonic := any(l).(raft.MonotonicLogStore); monotonic {
		t.Fatal("raft would empty a log whose end it still believes in")
	}
}

func TestDamagedSnapshotFile(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, shortLogs)
	c.must(c.nodes[0], tick(1))
	c.ok(c.nodes[0].Snapshot(c.ctx()))
	c.stop(0)
	files, err := filepath.Glob(filepath.Join(c.dirs[0], "snapshots", "*", "state.bin"))
	if err != nil || len(files) != 1 {
		t.Fatalf("%v, %v", files, err)
	}
	c.ok(os.Truncate(files[0], 30))
	if _, err := Open(c.listening(0)); err == nil || !strings.Contains(err.Error(), "snapshot") {
		t.Fatalf("got %v", err)
	}
}

func TestRestoreIsWholeOrNothing(t *testing.T) {
	f := newFSM()
	registry.Apply(f.state, 1, 1, registry.Command{ID: registry.CommandID{1}, Found: founding()})
	before := f.state
	good, err := registry.EncodeSnapshot(before)
	if err != nil {
		t.Fatal(err)
	}
	foreign := before.Clone()
	foreign.Cluster.ID = identity.ClusterID{9}
	other, err := registry.EncodeSnapshot(foreign)
	if err != nil {
		t.Fatal(err)
	}
	newer := append([]byte(nil), good...)
	newer[4] = registry.SnapshotVersion + 1
	for name, raw := range map[string][]byte{"cut": good[:50], "foreign": other, "newer": newer} {
		if err := f.Restore(io.NopCloser(strings.NewReader(string(raw)))); err == nil || f.state != before {
			t.Fatalf("%s: %v", name, err)
		}
	}
	if err := <-f.failed; !errors.Is(err, ErrFailed) {
		t.Fatalf("got %v", err)
	}
	_, mark := before.Touched(registry.Mark{})
	if err := f.Restore(io.NopCloser(strings.NewReader(string(good)))); err != nil || f.state == before {
		t.Fatalf("got %v", err)
	}
	if touched, _ := f.state.Touched(mark); !touched.All {
		t.Error("readers of the feed are not told that the state is another one")
	}
}

// blockedSink takes a snapshot once it is let.
type blockedSink struct {
	raft.SnapshotSink
	bytes.Buffer
	begun chan struct{}
	let   chan struct{}
	once  sync.Once
}

func (b *blockedSink) Write(p []byte) (int, error) {
	b.once.Do(func() { close(b.begun); <-b.let })
	return b.Buffer.Write(p)
}

func (b *blockedSink) Close() error { return nil }

// TestApplyDuringSnapshot: while a snapshot is written, for however long, entries are
// applied, and the snapshot does not see them.
func TestApplyDuringSnapshot(t *testing.T) {
	f := newFSM()
	index := uint64(0)
	apply := func(c registry.Command) {
		index++
		c.ID = registry.CommandID{byte(index), byte(index >> 8)}
		if r := f.Apply(&raft.Log{Index: index, Term: 1, Data: encoded(t, c)}).(registry.Result); r.Err() != nil {
			t.Fatal(r.Err())
		}
	}
	apply(registry.Command{Found: founding()})
	apply(registry.Command{Enlarge: &registry.Enlarge{}})
	for i := range 1_000 { // more than is gathered before the first of it is written
		apply(registry.Command{PutClient: &registry.PutClient{Client: registry.Client{Name: fmt.Sprint("c", i)}}})
	}
	snapshot, err := f.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	was, err := json.Marshal(f.state)
	if err != nil {
		t.Fatal(err)
	}
	sink := &blockedSink{begun: make(chan struct{}), let: make(chan struct{})}
	written := make(chan error, 1)
	go func() { written <- snapshot.Persist(sink) }()
	<-sink.begun
	for range 50 {
		apply(registry.Command{AdvanceTick: &registry.AdvanceTick{Elapsed: 1}})
	}
	close(sink.let)
	if err := <-written; err != nil {
		t.Fatal(err)
	}
	state, err := registry.ReadSnapshot(&sink.Buffer)
	if err != nil || f.state.Tick != 50 {
		t.Fatalf("second %d, %v", f.state.Tick, err)
	}
	if read, err := json.Marshal(state); err != nil || !bytes.Equal(read, was) {
		t.Fatalf("the snapshot is of another state than that of its beginning, %v", err)
	}
}

// TestTrimmedBehindAStream: the log ends behind a snapshot of a mesh that was enlarged
// as behind any other, and a follower far behind gets it.
func TestTrimmedBehindAStream(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, shortLogs)
	leader := c.leader()
	behind := (c.number(leader) + 1) % 3
	c.must(leader, tick(1))
	c.agree(1)
	c.stop(behind)
	c.must(leader, registry.Command{Enlarge: &registry.Enlarge{}})
	for range 40 {
		c.must(leader, tick(1))
	}
	c.snapshots(41)
	leader = c.leader()
	if stored := leader.Stats().Stored; stored > 5 {
		t.Fatalf("%d entries behind a snapshot", stored)
	}
	c.start(behind, false)
	c.agree(41)
	c.followsOn(leader, behind, 41)
	c.nodes[behind].View(func(s *registry.State) {
		if !s.Enlarged {
			t.Error("the follower has no room")
		}
	})
}

// unfinished is a snapshot whose sender loses its power in the midst of it.
type unfinished struct {
	left   int
	silent chan struct{} // closed when all is sent that ever will be
	over   chan struct{}
}

func (u *unfinished) Read(b []byte) (int, error) {
	if u.left == 0 {
		close(u.silent)
		<-u.over
		return 0, io.EOF
	}
	n := min(len(b), u.left)
	u.left -= n
	return n, nil
}

// TestSenderOfSnapshotDies in the midst of it, without a goodbye: the follower leaves it
// and follows whoever leads.
func TestSenderOfSnapshotDies(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, nil)
	c.must(c.leader(), tick(1))
	c.agree(1)
	leader := c.leader()
	from, to := c.nodes[(c.number(leader)+1)%3], c.nodes[(c.number(leader)+2)%3]
	last, err := from.file.LastIndex()
	c.ok(err)
	entry, err := from.file.at(last)
	c.ok(err)
	const sent = 1 << 20 // more than all buffers between: raft has taken some of it
	half := &unfinished{left: sent, silent: make(chan struct{}), over: make(chan struct{})}
	ended := make(chan struct{})
	ask := raft.InstallSnapshotRequest{
		RPCHeader: from.header(), SnapshotVersion: 1, Term: to.look().Term, LastLogIndex: last, LastLogTerm: entry.term, Size: 2 * sent,
		Configuration: raft.EncodeConfiguration(raft.Configuration{}), ConfigurationIndex: 1,
	}
	go func() {
		defer close(ended)
		_ = from.transport.InstallSnapshot(serverID(to.id), serverAddress(to.id), &ask, new(raft.InstallSnapshotResponse), half)
	}()
	defer func() {
		close(half.over)
		<-ended
	}()
	<-half.silent
	c.must(c.leader(), tick(1))
	c.agree(2)
}
