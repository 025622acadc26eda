package node

import (
	"bytes"
	"errors"
	"math"
	"os"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus"
	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/node/control"
	"github.com/meshcrypt/meshcrypt/node/datadir"
	"github.com/meshcrypt/meshcrypt/node/port"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// restart starts every stopped member again from its data directory.
func (w *world) restart() {
	w.Helper()
	stopped := w.members
	w.members = nil
	for _, m := range stopped {
		dir, err := datadir.Open(m.dir.Path(""))
		w.ok(err)
		p, err := port.Listen(m.self.Listen, nil, w.log())
		w.ok(err)
		w.start(dir, p)
	}
	w.until("the founder serves again", func() bool { return w.members[0].arbiter.Load() != nil })
}

// TestAllNodesRestart: every node is stopped as by kill -9 and started again.
// The registry is intact, and the client comes back to its session and lease
// by resumption: its login is gone with the first connection.
func TestAllNodesRestart(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 4) // three agents beside the arbiter
	v := w.connect("dave", wide, w.members[0], w.members[1], w.members[2])
	w.until("three slices are up", func() bool { return v.settled() && len(v.session().Slices) >= 3 })
	v.exchange(12)
	before := v.session()
	for _, m := range w.members {
		m.stop()
	}
	w.restart()
	w.until("the session is resumed", func() bool { return v.journal.count("session resumed") > 0 })
	w.until("slices are up again", func() bool { return v.settled() })
	v.exchange(12)
	after := v.session()
	if after.ID != before.ID || after.Leases[0] != before.Leases[0] {
		t.Fatalf("session %v lease %v, was %v %v", after.ID, after.Leases, before.ID, before.Leases)
	}
	if n := v.journal.count("session opened"); n != 1 {
		t.Errorf("%d logins, want the first alone", n)
	}
	for i, sl := range after.Slices {
		if sl.Epoch <= before.Slices[i].Epoch {
			t.Errorf("slice %d has epoch %d again (I2)", i, sl.Epoch)
		}
	}
}

// recoverable is a mesh of one whose daemon is stopped, and a snapshot of it.
func recoverable(t *testing.T) (w *world, config RecoverConfig, snapshot []byte) {
	t.Helper()
	w = newWorld(t, 1)
	w.propose(registry.Command{PutClient: &registry.PutClient{Client: registry.Client{Name: "erin"}}})
	w.registry(func(s *registry.State) {
		var err error
		snapshot, err = registry.EncodeSnapshot(s)
		w.ok(err)
	})
	return w, RecoverConfig{DataDir: w.members[0].dir.Path(""), Log: w.log()}, snapshot
}

func TestRecover(t *testing.T) {
	t.Parallel()
	w, config, _ := recoverable(t)
	if _, err := Recover(config); !errors.Is(err, datadir.ErrLocked) {
		t.Fatalf("beside a running daemon: %v", err)
	}
	w.members[0].stop()
	dir, err := datadir.Open(config.DataDir)
	w.ok(err)
	told := protocol.Fence{Incarnation: 1, Term: 5 * consensus.TermsGivenUp}
	w.ok(errors.Join(dir.SaveKnown(protocol.Known{Fence: told}), dir.Close()))
	done, err := Recover(config)
	w.ok(err)
	if done.Incarnation <= told.Incarnation || done.Clients != 1 || done.Nodes != 1 {
		t.Errorf("recovered %+v", done)
	}
	w.restart()
	if term := w.members[0].store.Load().Stats().Term; term <= told.Term+consensus.TermsGivenUp {
		t.Errorf("it leads in term %d, and was told of %d", term, told.Term)
	}
	w.registry(func(s *registry.State) {
		for id, token := range s.Tokens {
			if !token.Revoked {
				t.Errorf("token %s still admits nodes", id)
			}
		}
		if s.Cluster.Incarnation != done.Incarnation {
			t.Errorf("incarnation %d, said was %d", s.Cluster.Incarnation, done.Incarnation)
		}
	})
}

// TestRestoreNeedsAKey: the node's wrap of the data key is not in the snapshot;
// the recovery key opens what it has sealed.
func TestRestoreNeedsAKey(t *testing.T) {
	t.Parallel()
	w, config, snapshot := recoverable(t)
	w.members[0].stop()
	state, err := registry.DecodeSnapshot(snapshot)
	w.ok(err)
	delete(state.Wraps, w.members[0].trust.Key.ID().String())
	config.Snapshot, err = registry.EncodeSnapshot(state)
	w.ok(err)
	if _, err := Recover(config); !errors.Is(err, ErrRecoveryKey) {
		t.Fatalf("without a key: %v", err)
	}
	config.Recovery = "wrong"
	if _, err := Recover(config); !errors.Is(err, ErrRecoveryKey) {
		t.Fatalf("with a wrong key: %v", err)
	}
	config.Recovery = w.founded.Recovery
	_, err = Recover(config)
	w.ok(err)
	w.restart() // an arbiter that cannot open its secrets would not serve
}

func TestRestoreRefuses(t *testing.T) {
	t.Parallel()
	w, config, snapshot := recoverable(t)
	other, _, foreign := recoverable(t)
	other.members[0].stop()
	w.members[0].stop()
	state, err := registry.DecodeSnapshot(snapshot)
	w.ok(err)
	state.EpochFloor = math.MaxUint32 // nothing could be granted after it
	worn, err := registry.EncodeSnapshot(state)
	w.ok(err)
	for _, test := range []struct {
		snapshot []byte
		want     error
	}{{foreign, ErrForeign}, {snapshot[:len(snapshot)-1], ErrSnapshot}, {[]byte{}, ErrSnapshot}, {worn, ErrSnapshot}} {
		config.Snapshot = test.snapshot
		if _, err := Recover(config); !errors.Is(err, test.want) {
			t.Errorf("%d bytes: %v, want %v", len(test.snapshot), err, test.want)
		}
	}
	w.restart() // nothing was changed
}

// TestLastVoterStays: without anybody to be arbiter after it, a node refuses to
// leave and stays as it is.
func TestLastVoterStays(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2) // the second may not vote
	var refused *control.Error
	if _, err := w.members[0].abdicate(w.Context()); !errors.As(err, &refused) || refused.Code != control.CodeDenied {
		t.Fatalf("the last voter would leave: %v", err)
	}
	w.registry(func(s *registry.State) {
		if n := s.Nodes[w.members[0].trust.Key.ID()]; n.Drained || n.Removed {
			t.Errorf("it is %+v", n)
		}
	})
}

// TestRecoverTeachesTheRecoveryKey: a mesh whose registry does not have its
// public half, as of before it was kept, learns it from the key itself.
func TestRecoverTeachesTheRecoveryKey(t *testing.T) {
	t.Parallel()
	w, config, snapshot := recoverable(t)
	w.members[0].stop()
	state, err := registry.DecodeSnapshot(snapshot)
	w.ok(err)
	want := state.Cluster.Recovery
	state.Cluster.Recovery = nil
	config.Snapshot, err = registry.EncodeSnapshot(state)
	w.ok(err)
	last := state.Cluster.Incarnation
	restore := func() (got []byte) {
		t.Helper()
		w.ok(os.RemoveAll(w.members[0].dir.Path(datadir.RaftDir))) // else this replica's own word counts
		done, err := Recover(config)
		w.ok(err)
		if done.Incarnation <= last {
			t.Errorf("incarnation %d after %d: the same snapshot twice makes one mesh of two", done.Incarnation, last)
		}
		last = done.Incarnation
		w.restart()
		w.registry(func(s *registry.State) { got = s.Cluster.Recovery })
		w.until("its term is on disk", func() bool {
			known, err := w.members[0].dir.Known()
			return err == nil && known.Fence.Incarnation == last
		})
		w.members[0].stop()
		return got
	}
	if got := restore(); len(got) != 0 {
		t.Fatalf("known from nowhere: %x", got)
	}
	config.Recovery = w.founded.Recovery
	if got := restore(); !bytes.Equal(got, want) || len(want) == 0 {
		t.Errorf("recovery key %x, want %x", got, want)
	}
	config.Recovery = "wrong"
	w.ok(os.RemoveAll(w.members[0].dir.Path(datadir.RaftDir)))
	if _, err := Recover(config); !errors.Is(err, ErrRecoveryKey) {
		t.Errorf("with a wrong key: %v", err)
	}
}

// TestRecoverRenewsTheDataKey: the voters that were lost may be in other hands.
func TestRecoverRenewsTheDataKey(t *testing.T) {
	t.Parallel()
	w := threeVoters(t)
	for _, m := range w.members {
		m.stop()
	}
	_, err := Recover(RecoverConfig{DataDir: w.members[0].dir.Path(""), Log: w.log()})
	w.ok(err)
	lost := w.members[1:]
	w.members = w.members[:1]
	w.restart()
	var state *registry.State
	w.until("the data key is renewed", func() bool {
		w.registry(func(s *registry.State) { state = s.Clone() })
		return state.DataKey == 2 && state.Voters == 1
	})
	if !canOpen(state, w.members[0].trust.Wrap) {
		t.Error("the voter that is left cannot open the secrets")
	}
	for _, m := range lost {
		if canOpen(state, m.trust.Wrap) {
			t.Errorf("%s can still open the secrets", m.self.Name)
		}
	}
}

// TestNextIncarnation: above the last one, whatever the clock shows; no two are the same, and
// of two the later one is the higher. JSON keeps it whole.
func TestNextIncarnation(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for name, wall := range map[string]time.Time{"now": now, "long ago": time.Unix(-1, 0), "far ahead": now.AddDate(200, 0, 0)} {
		seen := make(map[uint64]bool)
		for last := uint64(1); len(seen) < 20; {
			next, other := nextIncarnation(last, wall), nextIncarnation(last, wall)
			if next <= last || other <= last || seen[next] || seen[other] || next == other || next >= 1<<53 {
				t.Fatalf("%s: %d and %d after %d", name, next, other, last)
			}
			seen[next], seen[other], last = true, true, next
		}
	}
	if earlier, later := nextIncarnation(1, now), nextIncarnation(1, now.Add(2*time.Second)); later <= earlier {
		t.Errorf("the later one is %d, the one before %d", later, earlier)
	}
}

// TestEpochsGivenUp: above those that are known, and those of a recovery that is not: the later
// one's are the higher, as far as clocks agree. Where a clock was ahead they are far above
// what is known of that.
func TestEpochsGivenUp(t *testing.T) {
	now := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	at := func(wall time.Time) (incarnation uint64, epochs uint32) {
		return nextIncarnation(1, wall), epochsGivenUp(3, 1, wall)
	}
	incarnation, first := at(now)
	if _, later := at(now.Add(time.Minute)); later != first+60 {
		t.Errorf("above %d, a minute later at another host above %d", first, later)
	}
	for name, c := range map[string]struct {
		newest uint32
		last   uint64
		wall   time.Time
	}{
		"within the same second":                   {first + 2, incarnation, now},
		"the same, of which nothing is known":      {first, incarnation, now},
		"a clock that is an hour behind":           {first + 2, incarnation, now.Add(-time.Hour)},
		"its log has nothing of the last recovery": {3, incarnation, now.Add(-time.Hour)},
		"no clock at all":                          {first, incarnation, time.Unix(-1, 0)},
		"the one before was centuries ahead":       {3<<30 + 2, nextIncarnation(1, now.AddDate(200, 0, 0)), now},
	} {
		known := max(c.newest, first)
		if got := epochsGivenUp(c.newest, c.last, c.wall); got < known+lostEpochs/2 || got > known+2*lostEpochs {
			t.Errorf("%s: above %d, and %d are known", name, got, known)
		}
	}
	for newest := uint32(math.MaxUint32 - 2*lostEpochs); newest < math.MaxUint32-2; newest = epochsGivenUp(newest, 1, now) {
		if got := epochsGivenUp(newest, 1, now); got <= newest || got == math.MaxUint32 {
			t.Fatalf("above %d, and %d are known: none is left", got, newest)
		}
	}
	if got := epochsGivenUp(5, 2, now); got != first {
		t.Errorf("after incarnations that were counted by ones above %d, not %d", got, first)
	}
}

// TestRecoveredByALogThatLacksGrants: the log that a mesh is recovered by is of before its slices
// were granted anew, perhaps more than once. None gets an epoch that it had.
func TestRecoveredByALogThatLacksGrants(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 4)
	founder := w.members[0]
	v := w.connect("dave", wide, w.members[0], w.members[1], w.members[2])
	w.until("three slices are up", func() bool { return v.settled() && len(v.session().Slices) >= 3 })
	image, raft := t.TempDir(), founder.dir.Path(datadir.RaftDir)
	for _, m := range w.members {
		m.stop()
	}
	w.ok(os.CopyFS(image, os.DirFS(raft)))
	w.restart()
	w.until("the session is resumed", func() bool { return v.journal.count("session resumed") > 0 && v.settled() })
	had := v.session()
	for _, m := range w.members {
		m.stop()
	}
	w.ok(errors.Join(os.RemoveAll(raft), os.CopyFS(raft, os.DirFS(image))))
	_, err := Recover(RecoverConfig{DataDir: founder.dir.Path(""), Log: w.log()})
	w.ok(err)
	w.restart()
	w.until("the session is resumed again", func() bool { return v.journal.count("session resumed") > 1 && v.settled() })
	v.exchange(12)
	now := v.session()
	if now.ID != had.ID || len(now.Slices) != len(had.Slices) {
		t.Fatalf("session %v with %d slices, was %v with %d", now.ID, len(now.Slices), had.ID, len(had.Slices))
	}
	for i, sl := range now.Slices {
		if sl.Epoch <= had.Slices[i].Epoch {
			t.Errorf("slice %d has epoch %d, and had %d", sl.Number, sl.Epoch, had.Slices[i].Epoch)
		}
	}
}

// TestRecoveredAfterAHostWhoseClockWasAhead: voters told this one of the incarnation of a host
// that was recovered before, by a clock that was hours ahead, and is lost. A recovery here is
// heeded by those who heard of that one, whatever the clock of this host shows.
func TestRecoveredAfterAHostWhoseClockWasAhead(t *testing.T) {
	t.Parallel()
	ahead := nextIncarnation(1, time.Now().Add(5*time.Hour))
	for name, again := range map[string]func(*RecoverConfig, []byte){
		"by its log":    func(*RecoverConfig, []byte) {},
		"by a snapshot": func(c *RecoverConfig, snapshot []byte) { c.Snapshot = snapshot },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, config, snapshot := recoverable(t)
			store := w.members[0].store.Load()
			if store.Learn(consensus.Known{Incarnation: ahead}); !store.GivenUp() {
				t.Fatal("its log was not given up")
			}
			w.members[0].stop()
			again(&config, snapshot)
			done, err := Recover(config)
			w.ok(err)
			if done.Incarnation <= ahead {
				t.Errorf("incarnation %d, and the mesh was of %d", done.Incarnation, ahead)
			}
			w.restart()
		})
	}
}

// TestRecoveredAtTwoHosts: two operators, each at a host that hears no other, recover the mesh.
// When the hosts hear each other again it is one mesh: that of the later recovery, also where the
// nodes that are left were with the earlier one before. Whom that one refused meanwhile is refused.
func TestRecoveredAtTwoHosts(t *testing.T) {
	t.Parallel()
	for name, earlierFirst := range map[string]bool{"the later one is there first": false, "the earlier one is": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			recoverAtTwoHosts(t, earlierFirst)
		})
	}
}

func recoverAtTwoHosts(t *testing.T, earlierFirst bool) {
	w := threeVoters(t)
	alice := registry.Client{Name: "alice", PasswordKey: w.members[0].trust.Key.Public()}
	w.propose(registry.Command{PutClient: &registry.PutClient{Client: alice}})
	one, other, third := w.members[0], w.members[1], w.members[2]
	w.until("all know alice", func() bool { return w.knows(one, "alice") && w.knows(other, "alice") })
	for _, m := range []*member{one, other, third} {
		m.stop()
	}
	var incarnations []uint64
	recovered := func(path string) {
		done, err := Recover(RecoverConfig{DataDir: path, Log: w.log()})
		w.ok(err)
		incarnations = append(incarnations, done.Incarnation)
	}
	one = w.again(one, recovered)
	w.leads(one)
	w.propose(registry.Command{RevokeClient: &registry.RevokeClient{Name: "alice"}})
	one.stop()
	second := time.Now().Unix()
	w.until("which one is later is certain", func() bool { return time.Now().Unix() > second })
	other = w.again(other, recovered)
	if incarnations[1] <= incarnations[0] {
		t.Fatalf("incarnation %d, then %d", incarnations[0], incarnations[1])
	}
	w.leads(other)
	if earlierFirst {
		other.stop()
		one, third = w.again(one, asItIs), w.again(third, asItIs)
		w.until("the third one is with the earlier one", func() bool { return len(w.heard(one)) == 2 })
		other = w.again(other, asItIs)
		w.leads(other)
	} else {
		one, third = w.again(one, asItIs), w.again(third, asItIs)
	}
	w.serveOperators(other)
	one.loops.Go(func() { one.keepRefusals(one.ctx) })
	w.until("all follow the later one", func() bool {
		return one.arbiter.Load() == nil && third.arbiter.Load() == nil && len(w.heard(other)) == 3
	})
	w.until("it refuses whom the earlier one refused", func() bool { return w.revoked(other, "alice") })
}

// lost stops all three voters.
func (w *world) lost() (one, other, third *member) {
	one, other, third = w.members[0], w.members[1], w.members[2]
	for _, m := range []*member{one, other, third} {
		m.stop()
	}
	return one, other, third
}

// recovered is what an operator does at the host of a data directory.
func (w *world) recovered(path string) {
	w.Helper()
	_, err := Recover(RecoverConfig{DataDir: path, Log: w.log()})
	w.ok(err)
}

// TestRecoveredAtTwoHostsAndRemoved: who recovered the mesh at the later host took the other one
// for lost, and removed it. It is one mesh all the same once they hear each other: the removed
// host leads nobody any more.
func TestRecoveredAtTwoHostsAndRemoved(t *testing.T) {
	t.Parallel()
	w := threeVoters(t)
	one, other, third := w.lost()
	one = w.again(one, w.recovered)
	w.leads(one)
	one.stop()
	second := time.Now().Unix()
	w.until("which one is later is certain", func() bool { return time.Now().Unix() > second })
	other = w.again(other, w.recovered)
	w.leads(other)
	w.propose(registry.Command{RemoveNode: &registry.RemoveNode{ID: one.trust.Key.ID()}})
	other.stop()
	one, third = w.again(one, asItIs), w.again(third, asItIs)
	w.until("the third one is with the earlier one", func() bool { return len(w.heard(one)) == 2 })
	other = w.again(other, asItIs)
	w.leads(other)
	w.until("the removed one leads nobody", func() bool {
		return one.arbiter.Load() == nil && third.arbiter.Load() == nil && len(w.heard(other)) == 2
	})
}

// TestRecoveredAtTwoHostsInOneWay: the arbiter of the earlier recovery does not reach the later
// one's, and hears of it from that one.
func TestRecoveredAtTwoHostsInOneWay(t *testing.T) {
	t.Parallel()
	w := threeVoters(t)
	one, other, third := w.lost()
	one = w.again(one, w.recovered)
	w.until("its question waits for an answer for good", func() bool { return one.clocks.begin(other.trust.Key.ID()) })
	w.leads(one)
	third = w.again(third, asItIs)
	w.until("the third one is with the earlier one", func() bool { return len(w.heard(one)) == 2 })
	second := time.Now().Unix()
	w.until("which one is later is certain", func() bool { return time.Now().Unix() > second })
	other = w.again(other, w.recovered)
	w.leads(other)
	w.until("all follow the later one", func() bool {
		return one.arbiter.Load() == nil && third.arbiter.Load() == nil && len(w.heard(other)) == 3
	})
}
