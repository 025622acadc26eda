package consensus

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
)

// image is a stopped replica's disk.
func (c *cluster) image(n int) string {
	c.Helper()
	at := c.TempDir()
	c.ok(os.CopyFS(at, os.DirFS(c.dirs[n])))
	return at
}

// setTerm sets the newest term that a stopped replica knows.
func (c *cluster) setTerm(n int, term uint64) {
	c.Helper()
	file, err := openLog(c.dirs[n])
	c.ok(err)
	c.ok(file.BoltStore.SetUint64([]byte(keyTerm), term))
	c.ok(file.Close())
}

// ledTwice has nodes 0 and 1 commit an entry while 2 is down, puts 1 back to before their
// election, and has it and 2 elect a leader of the very term. away takes node 0 away. It
// returns what whoever heard of the lost entry knows.
func ledTwice(t *testing.T, told *heard, tune func(*Config), away func(*cluster)) (*cluster, *Raft, Known) {
	t.Helper()
	c := newCluster(t, 3, func(config *Config) {
		config.Told, config.Known = told.own, told.others
		if config.ID == id(2) { // it votes, and stands late: two that stand at once get another term
			config.Heartbeat, config.Election = 3*config.Heartbeat, 3*config.Election
		}
		tune(config)
	})
	c.must(c.leader(), tick(1))
	c.agree(1)
	for n := range c.nodes {
		c.stop(n)
	}
	images := []string{"", c.image(1), c.image(2)}
	c.start(0, false)
	c.start(1, false)
	leader := c.leader()
	c.must(leader, tick(2))
	c.agree(3)
	known := knows(leader)
	away(c)
	for {
		for n := 1; n < 3; n++ {
			c.stop(n)
			c.putBack(n, images[n])
			c.setTerm(n, known.Term-1)
		}
		c.start(1, false)
		c.start(2, false)
		var again *Raft
		c.until("the two elect one", func() bool {
			for _, r := range c.nodes[1:] {
				if r.look().Leader && r.Barrier(c.ctx()) == nil {
					again = r
				}
			}
			return again != nil
		})
		if again.look().Term == known.Term {
			return c, again, known
		}
	}
}

// TestTermLedTwice: raft takes entries of one index and term for the same. Whoever holds the
// lost one keeps it and says so, whether it ran all along or was told; who knows nothing of
// it takes what the leader has. Before, both went on beside the others with another registry.
// And the leader hears from anybody who was told of the lost one that its log lacks it.
func TestTermLedTwice(t *testing.T) {
	stopped := func(c *cluster) { c.stop(0) }
	for name, kind := range map[string]struct {
		away  func(*cluster)
		told  bool
		keeps bool
		ticks int // of the second leader: its log is shorter or longer than the lost one
		tune  func(*Config)
	}{
		"told":               {stopped, true, true, 3, func(*Config) {}},
		"told, longer":       {stopped, true, true, 0, func(*Config) {}},
		"not told":           {stopped, false, false, 3, func(*Config) {}},
		"not told, longer":   {stopped, false, false, 0, func(*Config) {}},
		"ran":                {func(c *cluster) { c.network.isolate(id(0)) }, false, true, 3, func(*Config) {}},
		"ran, behind a log":  {func(c *cluster) { c.network.isolate(id(0)) }, false, false, 40, shortLogs},
		"told, behind a log": {stopped, true, false, 40, shortLogs},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var told heard
			c, leader, known := ledTwice(t, &told, kind.tune, kind.away)
			for range kind.ticks {
				c.must(leader, tick(5))
			}
			if !leader.Misses(known) || leader.Misses(knows(leader)) {
				t.Errorf("the leader misses what the other committed: %v; what it did: %v", leader.Misses(known), leader.Misses(knows(leader)))
			}
			if kind.ticks > 30 {
				c.ok(leader.Snapshot(c.ctx()))
			}
			if kind.told {
				told.own = known
			}
			if c.nodes[0] == nil {
				c.start(0, false)
			}
			c.network.heal(id(0))
			holder := c.nodes[0]
			if !kind.keeps {
				c.agree(ticks(leader))
				return
			}
			c.until("the holder says so", func() bool { return errors.Is(holder.Disk(), ErrFork) })
			c.silence(5)
			if entry, err := holder.file.at(known.Index); err != nil || entry.term != known.Term || ticks(holder) > 3 {
				t.Errorf("overwritten by %+v, %v; %d ticks", entry, err, ticks(holder))
			}
			c.must(c.leader(), tick(1)) // the others go on
		})
	}
}

// TestNoVoteForAnotherHistory: who holds what one leadership of a term committed elects no log
// that ends with the other's, however long; who holds nothing of it does.
func TestNoVoteForAnotherHistory(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, nil)
	c.must(c.leader(), tick(1))
	c.agree(1)
	r := c.nodes[2]
	end := r.file.end()
	own, err := r.file.at(end.index)
	c.ok(err)
	for name, kind := range map[string]struct {
		said    word
		holds   bool
		refuses bool
	}{
		"its own":              {word{1, own.by}, true, false},
		"another's":            {word{1, newOrigin()}, true, true},
		"another's, recovered": {word{2, newOrigin()}, true, false},
		"another's, not held":  {word{1, newOrigin()}, false, false},
		"nobody's":             {word{1, origin{}}, true, false},
	} {
		r.file.applied = r.applied
		if !kind.holds {
			r.file.applied = func() Known { return Known{} }
		}
		answers := make(chan raft.RPCResponse, 1)
		ask := &raft.RequestVoteRequest{LastLogIndex: end.index + 9, LastLogTerm: end.term}
		//lint:ignore SA1019 raft takes the candidate from the header, so this field is free for the word
		ask.Candidate = kind.said.bytes()
		rpc := raft.RPC{RespChan: answers, Command: ask}
		if got := r.refusesVote(rpc); got != kind.refuses || (len(answers) == 1) != got {
			t.Errorf("%s: refuses %v", name, got)
		}
	}
}

// TestNoTermsForAnotherHistory: two that hold what each a leadership of one term committed
// elect nobody, and wait for the third without raising the term over and over.
func TestNoTermsForAnotherHistory(t *testing.T) {
	t.Parallel()
	var told heard
	c, leader, known := ledTwice(t, &told, func(*Config) {}, func(c *cluster) { c.stop(0) })
	for range 3 {
		c.must(leader, tick(5))
	}
	later := knows(leader)
	c.until("the third has it", func() bool { return c.nodes[2].Stats().Applied >= later.Index })
	c.stop(1)
	c.stop(2)
	told = heard{own: known}
	c.start(0, false)
	told = heard{own: later}
	c.start(1, false)
	term := max(c.nodes[0].look().Term, c.nodes[1].look().Term)
	c.silence(20)
	if now := max(c.nodes[0].look().Term, c.nodes[1].look().Term); now > term+1 || c.nodes[0].look().Leader || c.nodes[1].look().Leader {
		t.Errorf("from term %d to %d", term, now)
	}
	c.start(2, false)
	if leader := c.leader(); leader == c.nodes[0] {
		t.Error("one leads that has what nobody else has")
	}
}

// TestOnlyVoterLeadsATermTwice: who keeps its log and has what was lost says so; one that
// was started since and told nothing takes what the voter has.
func TestOnlyVoterLeadsATermTwice(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, nil)
	for n := 1; n < 3; n++ {
		c.dirs, c.nodes = append(c.dirs, t.TempDir()), append(c.nodes, nil)
		c.start(n, false)
		c.byLeader("a standby", func(leader *Raft) error { return leader.AddStandby(c.ctx(), id(n)) })
	}
	c.must(c.leader(), tick(1))
	c.agree(1)
	c.stop(0)
	image := c.image(0)
	c.start(0, false)
	c.must(c.leader(), tick(2))
	c.agree(3)
	known := knows(c.nodes[0])
	c.stop(0)
	c.stop(2)
	c.putBack(0, image)
	c.start(0, false)
	leader := c.leader()
	for range 3 {
		c.must(leader, tick(5))
	}
	if again := knows(leader); again.Term != known.Term {
		t.Fatalf("term %d, not %d: not the case to test", again.Term, known.Term)
	}
	c.start(2, false)
	c.until("the one that told nobody has what the voter has", func() bool { return ticks(c.nodes[2]) == ticks(leader) })
	c.until("the one that ran says so", func() bool { return errors.Is(c.nodes[1].Disk(), ErrFork) })
	if ticks(c.nodes[1]) != 3 {
		t.Errorf("%d ticks", ticks(c.nodes[1]))
	}
}

// TestEntriesAreSigned: those of a leadership with one number, on all replicas, and those of
// another with another one; what an older build wrote stays without.
func TestEntriesAreSigned(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, nil)
	c.must(c.leader(), tick(1))
	c.stop(c.number(c.leader()))
	c.must(c.leader(), tick(1))
	var leader *Raft
	c.until("all have all", func() bool {
		leader = c.leader()
		for _, r := range c.nodes {
			if r != nil && r.Stats().Last != leader.Stats().Last {
				return false
			}
		}
		return true
	})
	by := map[uint64]origin{} // term
	for index := uint64(1); index <= leader.Stats().Last; index++ {
		entry, err := leader.file.at(index)
		c.ok(err)
		if was, ok := by[entry.term]; index > 1 && (len(entry.by.id) != originSize || ok && was != entry.by) {
			t.Errorf("entry %d of term %d is by %x, an earlier one by %x", index, entry.term, entry.by.id, was.id)
		}
		if index > 1 {
			by[entry.term] = entry.by
		}
		for n, r := range c.nodes {
			if r != nil && r.file.differs(index, entry) {
				t.Errorf("replica %d has another entry %d", n, index)
			}
		}
	}
	if len(by) < 2 {
		t.Errorf("%d terms", len(by))
	}
}

// TestWord: what is said comes out as it was, and of anything else nothing.
func TestWord(t *testing.T) {
	for _, w := range []word{{}, {7, origin{}}, {7, origin{known: true}}, {7, newOrigin()}} {
		if got, ok := readWord(w.bytes()); !ok || got != w {
			t.Errorf("%+v became %+v, %v", w, got, ok)
		}
	}
	long := word{1, origin{string(make([]byte, originSize+1)), true}}
	for _, raw := range [][]byte{nil, []byte(serverAddress(id(1))), []byte(wordMagic), long.bytes()} {
		if w, ok := readWord(raw); ok {
			t.Errorf("%q says %+v", raw, w)
		}
	}
}

// FuzzWord: a word has one encoding, and nothing else is read as one.
func FuzzWord(f *testing.F) {
	f.Add(word{7, newOrigin()}.bytes())
	f.Add(word{1, origin{}}.bytes())
	f.Fuzz(func(t *testing.T, raw []byte) {
		if w, ok := readWord(raw); ok && !bytes.Equal(w.bytes(), raw) {
			t.Errorf("%q was read as %+v", raw, w)
		}
	})
}

// TestOlderBuildAmongThem: a leader that says nothing beside its entries is followed as
// before, and its entries stay unsigned.
func TestOlderBuildAmongThem(t *testing.T) {
	c := newCluster(t, 1, nil)
	r := c.leader()
	end := r.file.end()
	ask := &raft.AppendEntriesRequest{
		//lint:ignore SA1019 an older build's raft names the leader here
		Term: end.term, Leader: []byte(serverAddress(id(1))), PrevLogEntry: end.index, PrevLogTerm: end.term,
		Entries: []*raft.Log{{Index: end.index + 1, Term: end.term}},
	}
	r.compare(ask)
	if ask.PrevLogTerm != end.term || len(ask.Entries) != 1 || r.file.apart.Load() != 0 {
		t.Errorf("%+v", ask)
	}
	r.file.sign(ask.Entries)
	if len(ask.Entries[0].Extensions) != 0 {
		t.Error("another leader's entry was signed")
	}
}

// TestEndOfAFork: a leader whose log has what was kept is followed again without a word.
func TestEndOfAFork(t *testing.T) {
	f := floor{own: func() uint64 { return 1 }, fork: new(upTo(1, 4, 20))}
	for _, index := range []uint64{19, 20} {
		f.joined(index)
		if err := f.forked(); errors.Is(err, ErrFork) != (index < 20) {
			t.Errorf("joined up to %d: %v", index, err)
		}
	}
}

// TestVoterOfAnEarlierIncarnation: the mesh was recovered by one whose log ends where this
// one's does. It gets the recovered state, and not what comes after it on top of its own.
func TestVoterOfAnEarlierIncarnation(t *testing.T) {
	for _, logs := range []func(*Config){func(*Config) {}, shortLogs} {
		t.Run(fmt.Sprintf("%p", logs), func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, 3, logs)
			c.must(c.leader(), tick(1))
			c.agree(1)
			c.until("all logs end alike", func() bool {
				return c.nodes[0].file.end() == c.nodes[1].file.end() && c.nodes[1].file.end() == c.nodes[2].file.end()
			})
			for _, n := range []int{2, 1} {
				c.ok(c.nodes[n].Snapshot(c.ctx()))
				c.stop(n)
			}
			c.ok(Rewrite(c.rewriteConfig(2), func(s *registry.State) (*registry.State, error) {
				s.Cluster.Incarnation++
				s.Tick = 100
				return s, nil
			}))
			running := c.nodes[0]
			c.start(2, false)
			var leader *Raft
			c.until("it leads alone", func() bool { leader = c.nodes[2]; return leader.look().Leader && leader.Barrier(c.ctx()) == nil })
			c.must(leader, tick(1))
			c.start(1, false)
			for n := range 2 {
				c.byLeader("a standby", func(leader *Raft) error { return leader.AddStandby(c.ctx(), id(n)) })
			}
			for n, r := range []*Raft{running, c.nodes[1]} {
				c.until(fmt.Sprint(n, " has what was recovered"), func() bool {
					return r.incarnation() == leader.incarnation() && ticks(r) == 101 && r.Disk() == nil
				})
			}
			c.must(leader, tick(1))
			c.agree(102)
			c.stop(1) // and has it after a start
			c.start(1, false)
			c.agree(102)
		})
	}
}

// TestSnapshotThatLacksSomething: a snapshot replaces everything, so one that lacks what is
// committed here, or that comes while something is kept from being overwritten, is refused.
func TestSnapshotThatLacksSomething(t *testing.T) {
	c := newCluster(t, 1, nil)
	c.must(c.leader(), tick(1))
	r := c.leader()
	end, own := r.file.end(), r.incarnation()
	here, err := r.file.at(end.index)
	c.ok(err)
	kept := new(upTo(own, end.term, end.index))
	for name, kind := range map[string]struct {
		said    word
		at      mark
		fork    *Known
		refuses bool
	}{
		"what is here":             {word{own, here.by}, end, nil, false},
		"more":                     {word{own, newOrigin()}, mark{end.index + 9, end.term}, nil, false},
		"less":                     {word{own, newOrigin()}, mark{end.index - 1, end.term}, nil, true},
		"another one's":            {word{own, newOrigin()}, end, nil, true},
		"another term's":           {word{own, here.by}, mark{end.index, end.term + 1}, nil, true},
		"less, recovered":          {word{own + 1, newOrigin()}, mark{end.index - 1, end.term}, nil, false},
		"more, something is kept":  {word{own, newOrigin()}, mark{end.index + 9, end.term}, kept, true},
		"recovered, something was": {word{own + 1, newOrigin()}, mark{end.index + 9, end.term}, kept, false},
	} {
		r.floor.mu.Lock()
		r.floor.fork = kind.fork
		r.floor.mu.Unlock()
		ask := &raft.InstallSnapshotRequest{Leader: kind.said.bytes(), Term: end.term + 1, LastLogIndex: kind.at.index, LastLogTerm: kind.at.term}
		if got := r.refusesSnapshot(ask); got != kind.refuses {
			t.Errorf("%s: refused %v", name, got)
		}
	}
}

// TestLateSnapshotIsNoFork: one that its leader sent before a longer one, and that came after
// it, is not taken, and does not say that the leader lacks what it led to here.
func TestLateSnapshotIsNoFork(t *testing.T) {
	c := newCluster(t, 1, nil)
	c.must(c.leader(), tick(1))
	r := c.leader()
	end, own := r.file.end(), r.incarnation()
	ask := func(from string, term, index uint64) *raft.InstallSnapshotRequest {
		said := word{own, newOrigin()}
		return &raft.InstallSnapshotRequest{RPCHeader: raft.RPCHeader{ID: []byte(from)}, Leader: said.bytes(), Term: term, LastLogIndex: index, LastLogTerm: end.term}
	}
	term := end.term + 1
	if r.refusesSnapshot(ask("leader", term, end.index+9)) {
		t.Fatal("the first is refused")
	}
	if !r.refusesSnapshot(ask("leader", term, end.index-1)) || r.floor.kept() != nil {
		t.Error("a late one is taken, or for one of a leader that lacks something")
	}
	for name, other := range map[string]*raft.InstallSnapshotRequest{
		"another server's": ask("other", term, end.index-1), "another term's": ask("leader", term+1, end.index-1),
	} {
		if !r.refusesSnapshot(other) || r.floor.kept() == nil {
			t.Errorf("%s: nothing is kept from it", name)
		}
		r.floor.mu.Lock()
		r.floor.fork = nil
		r.floor.mu.Unlock()
	}
}

// TestToldOfAnotherLeadership: what one leadership of a term committed makes nothing of that
// term committed that is of another one.
func TestToldOfAnotherLeadership(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, nil)
	r := c.leader()
	c.must(r, tick(1))
	k := knows(r)
	r.file.applied = func() Known { return Known{} }
	for by, keeps := range map[string]bool{k.By: true, "": true, newOrigin().id: false} {
		k.By = by
		r.floor.terms = []Known{k}
		if err := r.floor.guard(r.file, k.Index, r.floor.own()); errors.Is(err, ErrFork) != keeps {
			t.Errorf("by %x: %v", by, err)
		}
	}
}
