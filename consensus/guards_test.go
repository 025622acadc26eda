package consensus

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/hashicorp/raft"
)

// guarded is a log of entries 1 to 9 of one leadership, and what this replica applied and was
// told. Nothing runs on it.
func guarded(t *testing.T, applied uint64, told ...Known) (*logStore, *floor, origin) {
	l, by := openTestLog(t, nil), newOrigin()
	for index := uint64(1); index <= 9; index++ {
		if err := l.StoreLogs([]*raft.Log{{Index: index, Term: 4, Extensions: []byte(by.id)}}); err != nil {
			t.Fatal(err)
		}
	}
	f := &floor{own: func() uint64 { return 1 }, terms: told}
	l.floor, l.applied = f, func() Known { return Known{Incarnation: 1, Term: 4, Index: applied, By: by.id} }
	return l, f, by
}

// TestEndOfTheLogIsKept: of it no committed entry is removed, the last one among them; what is
// removed at its beginning stands in a snapshot, and what is not committed goes.
func TestEndOfTheLogIsKept(t *testing.T) {
	for name, c := range map[string]struct {
		first, last uint64
		snapshot    uint64
		keeps       bool
	}{
		"all of it":                  {5, 9, 0, true},
		"the last committed":         {7, 9, 0, true},
		"what is not committed":      {8, 9, 0, false},
		"its beginning":              {1, 8, 0, false},
		"what a snapshot stands for": {1, 9, 9, false},
	} {
		l, f, by := guarded(t, 7)
		l.snapshot, l.snapshotBy = mark{c.snapshot, 4}, by
		l.apart.Store(c.first)
		err := l.DeleteRange(c.first, c.last)
		if got := errors.Is(err, ErrFork); got != c.keeps || got != errors.Is(f.forked(), ErrFork) {
			t.Errorf("%s: %v, %v", name, err, f.forked())
		}
		var entry raft.Log
		if there := l.recentLog.GetLog(c.first, &entry) == nil; there != c.keeps {
			t.Errorf("%s: the entry is there: %v", name, there)
		}
		if kept, err := l.kept(); err != nil || (kept.Index == 7 && kept.Term == 4 && kept.Incarnation == 1) != c.keeps {
			t.Errorf("%s: noted is %+v, %v", name, kept, err)
		}
		if apart := l.apart.Load() != 0; apart != c.keeps {
			t.Errorf("%s: what comes there is another's: %v", name, apart)
		}
	}
	l := openTestLog(t, nil)
	if err := l.recentLog.Set([]byte(keptKey), []byte("rubbish")); err != nil {
		t.Fatal(err)
	}
	if kept, err := l.kept(); err == nil {
		t.Errorf("what cannot be read says %+v", kept)
	}
}

// TestSnapshotIsGuarded: what is behind a snapshot is committed as far as that goes, also where
// nothing is applied or told. A recovered mesh replaces it.
func TestSnapshotIsGuarded(t *testing.T) {
	l, f, by := guarded(t, 0)
	l.snapshot, l.snapshotBy = mark{5, 4}, by
	for first, keeps := range map[uint64]bool{5: true, 6: false} {
		if err := f.guard(l, first, 1); errors.Is(err, ErrFork) != keeps {
			t.Errorf("from %d on: %v", first, err)
		}
	}
	if err := f.guard(l, 5, 2); err != nil {
		t.Errorf("from a recovered mesh: %v", err)
	}
}

// TestHolds: a voter holds what it applied, was told or heard of a term, and nothing of that
// against a recovered mesh.
func TestHolds(t *testing.T) {
	_, _, by := guarded(t, 0)
	for name, c := range map[string]struct {
		applied      uint64
		terms, heard []Known
		holds        bool
	}{
		"applied": {7, nil, nil, true},
		"told":    {0, []Known{{Incarnation: 1, Term: 4, Index: 7}}, nil, true},
		"heard":   {0, nil, []Known{{Incarnation: 1, Term: 4, Index: 7}}, true},
		"nothing": {0, []Known{{Incarnation: 1, Term: 4, Index: 7, By: by.id}}, nil, false}, // another leadership's
	} {
		l, f, _ := guarded(t, c.applied)
		f.terms, f.heard = c.terms, c.heard
		if c.applied == 0 {
			l.applied = func() Known { return Known{Incarnation: 1} }
		}
		if got := f.holds(l, 4, 1); got != c.holds {
			t.Errorf("%s: holds %v", name, got)
		}
		if f.holds(l, 4, 2) || f.holds(l, 5, 1) {
			t.Errorf("%s: of another incarnation or term", name)
		}
	}
}

// TestLeadershipsRemembered: of a term that was led twice what each committed, by whom.
func TestLeadershipsRemembered(t *testing.T) {
	var f floor
	a, b := Known{Incarnation: 1, Term: 4, Index: 7, By: "a", From: id(0)}, Known{Incarnation: 1, Term: 4, Index: 5, By: "b", From: id(1)}
	f.learn(a)
	f.learn(b)
	if !slices.Equal(f.heard, []Known{a, b}) {
		t.Errorf("%+v", f.heard)
	}
	var fence floor // kept by a node that heard of a term only
	fence.hold(Known{Incarnation: 1, Term: 4, By: "a"})
	if !fence.learn(a) {
		t.Error("what nobody signed contradicts an arbiter")
	}
}

// TestWhereTheLogEnds: behind a snapshot only entries beyond it count.
func TestWhereTheLogEnds(t *testing.T) {
	l, _, by := guarded(t, 7)
	for at, want := range map[mark]mark{{}: {9, 4}, {8, 6}: {9, 4}, {9, 6}: {9, 6}, {20, 6}: {20, 6}} {
		l.snapshot, l.snapshotBy = at, by
		if got := l.end(); got != want {
			t.Errorf("behind %+v it ends at %+v", at, got)
		}
	}
}

// TestAppliedNamesItsLeadership, or what was applied of a term that was led twice is guarded as
// what the other leadership committed.
func TestAppliedNamesItsLeadership(t *testing.T) {
	c := newCluster(t, 1, nil)
	c.must(c.leader(), tick(1))
	if k, s := c.nodes[0].applied(), c.nodes[0].Stats(); k.By != s.By || len(k.By) != originSize || k.Index != s.Applied {
		t.Errorf("%+v of %+v", k, s)
	}
}

// TestWhatAVoteIsRefusedFor: a vote and a pre-vote alike, and the question of Reach for nothing.
func TestWhatAVoteIsRefusedFor(t *testing.T) {
	_, r, end, here := voterAlone(t)
	own := r.incarnation()
	other := led{end.term + 1, newOrigin()}
	for name, k := range map[string]struct {
		by      origin
		last    mark
		past    []reign
		refuses bool
	}{
		"what is here":               {here.by, end, nil, false},
		"of another leadership":      {newOrigin(), mark{end.index + 1, end.term}, nil, true},
		"of a term that is not here": {newOrigin(), mark{end.index + 1, end.term + 1}, nil, false},
		"of another history":         {other.by, mark{end.index + 1, other.term}, []reign{{1, other}}, true},
	} {
		said := append(word{own, k.by}.bytes(), reignsBytes(k.past)...)
		pre := &raft.RequestPreVoteRequest{Term: end.term + 2, LastLogIndex: k.last.index, LastLogTerm: k.last.term}
		pre.Addr = slices.Concat([]byte("n1"), said)
		vote := &raft.RequestVoteRequest{Term: end.term + 2, LastLogIndex: k.last.index, LastLogTerm: k.last.term}
		//lint:ignore SA1019 raft takes the candidate from the header, so this field is free for the word
		vote.Candidate = said
		for _, ask := range []any{pre, vote} {
			if got := r.refusesVote(raft.RPC{RespChan: make(chan raft.RPCResponse, 1), Command: ask}); got != k.refuses {
				t.Errorf("%s: %T is refused: %v", name, ask, got)
			}
		}
		if string(pre.Addr) != "n1" && len(k.past) == 0 {
			t.Errorf("%s: raft reads the address %q", name, pre.Addr)
		}
	}
	r.Learn(upTo(own, end.term+9, end.index))
	if r.refusesVote(raft.RPC{RespChan: make(chan raft.RPCResponse, 1), Command: &raft.RequestPreVoteRequest{}}) {
		t.Error("a replica that is behind is not there")
	}
}

// TestHeardOfARecovery: who heard of it lets nothing of before come to raft, also while it
// has the old registry itself; and a request of the later incarnation is how it hears.
func TestHeardOfARecovery(t *testing.T) {
	c := newCluster(t, 1, nil)
	c.must(c.leader(), tick(1))
	r := c.nodes[0]
	for _, ask := range []any{
		//lint:ignore SA1019 the field is free for the word
		&raft.AppendEntriesRequest{Leader: word{2, origin{}}.bytes()},
		&raft.InstallSnapshotRequest{Leader: word{3, origin{}}.bytes()},
		&raft.RequestPreVoteRequest{RPCHeader: raft.RPCHeader{Addr: append([]byte("n1"), word{4, origin{}}.bytes()...)}},
		//lint:ignore SA1019 the field is free for the word
		&raft.RequestVoteRequest{Candidate: word{5, origin{}}.bytes()},
	} {
		before := r.floor.get().Incarnation
		if err := r.outlived(ask); err != nil || r.floor.get().Incarnation != max(before, 1)+1 {
			t.Errorf("%T: %v, heard of %d", ask, err, r.floor.get().Incarnation)
		}
		//lint:ignore SA1019 the field is free for the word
		if err := r.outlived(&raft.AppendEntriesRequest{Leader: word{1, origin{}}.bytes()}); err == nil {
			t.Errorf("after %T its own incarnation is heard", ask)
		}
	}
}

// TestNotesOfSnapshots: each retained snapshot keeps its note, and one that never came to be
// stands for no other.
func TestNotesOfSnapshots(t *testing.T) {
	l, by := openTestLog(t, nil), []origin{newOrigin(), newOrigin(), newOrigin()}
	var there []mark
	for n, o := range by {
		for failed := range uint64(5) { // snapshots that never got there
			if err := l.noteOrigin(mark{failed, 9}, newOrigin(), there); err != nil {
				t.Fatal(err)
			}
		}
		at := mark{10, uint64(n + 1)}
		if err := l.noteOrigin(at, o, there); err != nil {
			t.Fatal(err)
		}
		there = append(there, at)
	}
	if noted, err := l.origins(); err != nil || len(noted) != len(there) {
		t.Errorf("%d are noted of %d (%v)", len(noted), len(there), err)
	}
	for n, o := range by {
		if got, err := l.snapshotOrigin(mark{10, uint64(n + 1)}); err != nil || got != o {
			t.Errorf("of term %d: %+v, %v", n+1, got, err)
		}
	}
	if err := l.StoreLogs([]*raft.Log{{Index: 20, Term: 3, Extensions: []byte(by[0].id)}}); err != nil {
		t.Fatal(err)
	}
	for term, want := range map[uint64]origin{3: by[0], 4: {}} {
		if got, err := l.snapshotOrigin(mark{20, term}); err != nil || got != want {
			t.Errorf("without a note, of term %d: %+v, %v", term, got, err)
		}
	}
}

// TestFailedSnapshotsKeepTheNote: as on a full disk, of the snapshot that a leader sent it is
// still known whose entry it ends with.
func TestFailedSnapshotsKeepTheNote(t *testing.T) {
	c := newCluster(t, 1, nil)
	c.stop(0)
	_, transport := raft.NewInmemTransport("")
	c.write(func(l *logStore, s *snapshotStore) error {
		begin := func(index uint64) (*snapshotSink, origin) {
			said := &coming{mark{index, 9}, newOrigin()}
			l.coming.Store(said)
			sink, err := s.Create(1, index, 9, raft.Configuration{}, 1, transport)
			c.ok(err)
			return sink.(*snapshotSink), said.by
		}
		installed, by := begin(100)
		c.ok(installed.Close())
		for n := range uint64(5) {
			own, _ := begin(101 + n)
			c.ok(os.RemoveAll(filepath.Join(c.dirs[0], snapshotsDir, own.ID()+temporary)))
			if own.Close() == nil {
				t.Error("it did not fail")
			}
		}
		if got, err := l.snapshotOrigin(installed.at); err != nil || got != by {
			t.Errorf("%+v, %v", got, err)
		}
		return nil
	})
}

// TestKeptIsACopy: what the log keeps is not given to the registry that the replica has.
func TestKeptIsACopy(t *testing.T) {
	c := newCluster(t, 1, nil)
	c.must(c.leader(), tick(1))
	r := c.nodes[0]
	c.ok(r.file.recentLog.StoreLog(&raft.Log{Index: r.Stats().Last + 1, Term: 1, Data: encoded(t, c.command(tick(5)))}))
	if state, err := r.Kept(); err != nil || state.Tick != 6 || ticks(r) != 1 {
		t.Errorf("%+v, %v; the registry has %d ticks", state, err, ticks(r))
	}
}

// TestNothingIsMissedBehindASnapshot: what was committed there is not known any more, so who was
// told of it is told of no loss.
func TestNothingIsMissedBehindASnapshot(t *testing.T) {
	c := newCluster(t, 1, shortLogs)
	c.must(c.leader(), tick(1))
	r := c.nodes[0]
	early := knows(r)
	for range 10 {
		c.must(r, tick(1))
	}
	c.ok(r.Snapshot(c.ctx()))
	late := knows(r)
	c.must(r, tick(1))
	if first, err := r.file.FirstIndex(); err != nil || first <= early.Index {
		t.Fatalf("the log begins at %d, %v: not the case to test", first, err)
	}
	if r.Misses(early) || r.Misses(late) {
		t.Error("it misses what its snapshot has")
	}
	late.Index += 10
	if !r.Misses(late) {
		t.Error("it does not miss what no log has")
	}
}
