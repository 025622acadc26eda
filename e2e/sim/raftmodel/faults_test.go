package raftmodel

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus"
	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// putBack is a world whose server 1 has an older disk than it had: what it and server 0
// committed meanwhile, server 2 never had. Server 0 is down. known is what was committed.
func putBack(seed uint64) (w *world, known consensus.Known, lost uint64) {
	w = grown(seed, 3, 0)
	w.lead(0)
	w.cluster.Crash(2)
	w.run(time.Second)
	image := w.cluster.Image(1)
	w.propose()
	w.run(time.Second)
	lost = w.highest
	known = consensus.Known{Term: w.replicas[0].disk.term, Index: lost}
	w.cluster.Crash(1)
	w.cluster.Crash(0)
	w.cluster.PutBack(1, image)
	w.inOrder[1] = 0
	return w, known, lost
}

// TestOlderDiskMakesNoMajority: a voter that is told what was committed does not help
// another one undo it.
func TestOlderDiskMakesNoMajority(t *testing.T) {
	for _, flaw := range []flaws{{}, {heedless: true}} {
		w, known, lost := putBack(5)
		w.cluster.flaws = flaw
		w.replicas[1], w.replicas[2] = w.cluster.Open(1, known), w.cluster.Open(2)
		w.run(10 * time.Second)
		leads := w.leader() != nobody
		if leads != flaw.heedless {
			t.Errorf("heedless of the floor: %v, and there is a leader: %v", flaw.heedless, leads)
		}
		if flaw.heedless {
			continue
		}
		if !w.replicas[1].Behind() {
			t.Error("the replica does not say that it is behind")
		}
		w.open(0)
		w.run(5 * time.Second)
		w.propose()
		w.run(time.Second)
		if e, ok := w.replicas[1].disk.at(lost); !ok || e.kind != command || len(w.wrong) > 0 {
			t.Errorf("what was committed is not in the log that was filled: %v %v", ok, w.wrong)
		}
	}
}

// TestCommittedEntriesAreKept: if nobody knows they lead, but whoever holds what was
// committed keeps it, and says so.
func TestCommittedEntriesAreKept(t *testing.T) {
	w, known, lost := putBack(6)
	w.open(1)
	w.open(2)
	w.run(5 * time.Second)
	if w.leader() == nobody {
		t.Fatal("nobody leads")
	}
	w.wrong = nil // what was committed is gone, as it has to be here
	w.replicas[0] = w.cluster.Open(0, known)
	w.replicas[0].Hold(known)
	w.run(5 * time.Second)
	if !errors.Is(w.replicas[0].Disk(), consensus.ErrFork) {
		t.Errorf("the holder says %v of its log", w.replicas[0].Disk())
	}
	if e, ok := w.replicas[0].disk.at(lost); !ok || e.term != known.Term {
		t.Error("what was committed was overwritten")
	}
	if !w.replicas[w.leader()].Misses(known) {
		t.Error("the leader does not say that it misses what was committed")
	}
}

// TestTermLedTwice: the leader of the disk that was put back has the very term that the
// lost entries have. Whoever took them sees that these are others, and keeps what it has.
func TestTermLedTwice(t *testing.T) {
	w := grown(11, 3, 0)
	w.lead(1)
	image := w.cluster.Image(1)
	w.cluster.Crash(2) // it hears of no later term
	w.lead(0)
	term := w.replicas[0].disk.term
	w.propose()
	w.run(time.Second)
	lost := w.highest
	for _, other := range []int{1, 2} {
		w.cut[0][other], w.cut[other][0] = true, true
	}
	w.cluster.Crash(1)
	w.cluster.PutBack(1, image)
	w.inOrder[1], w.inOrder[2] = 0, 0
	w.replicas[1], w.replicas[2] = w.cluster.Open(1), w.cluster.Open(2)
	w.run(5 * time.Second)
	for range 3 {
		w.propose()
		w.run(time.Second)
	}
	if w.replicas[1].disk.term != term {
		t.Fatalf("the others lead term %d, the lost entries are of %d", w.replicas[1].disk.term, term)
	}
	w.heal()
	w.run(5 * time.Second)
	if e, ok := w.replicas[0].disk.at(lost); !errors.Is(w.replicas[0].Disk(), consensus.ErrFork) || !ok || e.term != term || w.replicas[0].applied != lost {
		t.Errorf("the holder says %v, and has applied %d of %d", w.replicas[0].Disk(), w.replicas[0].applied, lost)
	}
}

// lead has a server lead.
func (w *world) lead(server int) {
	for w.leader() != server {
		if w.leader() == nobody {
			w.run(time.Second)
			continue
		}
		begun(func(ctx context.Context, id identity.NodeID) error {
			return w.replicas[w.leader()].TransferLeadershipTo(ctx, id)
		}, w.cluster.config.Servers[server])
		w.run(time.Second)
	}
}

// TestLostWrites: what a disk said too early that it had, it may lack after a crash.
func TestLostWrites(t *testing.T) {
	w := grown(7, 3, 0)
	w.propose()
	w.run(time.Second)
	before := w.cluster.Image(2)
	w.cluster.Crash(2)
	w.cluster.Lose(2, 3)
	if after := w.cluster.Image(2); after.end() == before.end() {
		t.Error("nothing was lost")
	}
	w.inOrder[2] = 0
	w.replicas[2] = w.cluster.Open(2)
	w.run(5 * time.Second)
	if w.cluster.disks[2].end().before(before.end()) {
		t.Error("the replica was not filled again")
	}
}

// TestFarBehind: whoever lacks what the leader trimmed gets a snapshot.
func TestFarBehind(t *testing.T) {
	w := grown(8, 3, 1)
	w.cluster.Crash(3)
	for range 60 {
		w.propose()
		w.run(100 * time.Millisecond)
	}
	w.cluster.Empty(3)
	w.open(3)
	w.inOrder[3] = 0
	w.run(5 * time.Second)
	if w.cluster.disks[3].snapshot.index == 0 {
		t.Error("no snapshot was installed")
	}
	w.sameStates(t)
}

// TestServersChange: votes are given and taken, and a leader that is removed ends.
func TestServersChange(t *testing.T) {
	w := grown(9, 3, 2)
	leads := w.leader()
	ids := w.cluster.config.Servers
	begun(w.replicas[leads].AddVoter, ids[3])
	begun(w.replicas[leads].Demote, ids[(leads+1)%3])
	begun(w.replicas[leads].RemoveServer, ids[leads])
	w.run(5 * time.Second)
	if w.replicas[leads].role != over {
		t.Error("a removed leader goes on")
	}
	next := w.leader()
	if next == nobody {
		t.Fatal("nobody leads without it")
	}
	want := []consensus.Server{{ID: ids[(leads+1)%3]}, {ID: ids[(leads+2)%3], Voter: true}, {ID: ids[3], Voter: true}, {ID: ids[4]}}
	got := w.replicas[next].Servers()
	for _, s := range want {
		if !slices.Contains(got, s) {
			t.Errorf("the servers are %v, without %v", got, s)
		}
	}
}

// TestStoodStill: a leader that stood still does not know that another leads, but commits
// nothing any more.
func TestStoodStill(t *testing.T) {
	for seed := range uint64(20) {
		w := grown(seed, 3, 0)
		old := w.leader()
		w.cluster.Stop(old)
		w.run(5 * time.Second)
		before := len(w.done)
		w.cluster.Continue(old)
		w.propose()
		w.run(3 * time.Second)
		if w.leader() == nobody || len(w.done) != before+1 || len(w.wrong) > 0 {
			t.Errorf("seed %d: %d commands were committed, %v", seed, len(w.done)-before, w.wrong)
		}
	}
}

// bubble is time and a network in a bubble of virtual time.
type bubble struct{ began time.Time }

func (b bubble) Now() time.Duration               { return time.Since(b.began) }
func (bubble) After(d time.Duration, do func())   { time.AfterFunc(d, do) }
func (b bubble) Send(_, _, _ int, deliver func()) { b.After(time.Millisecond, deliver) }
func command1(i int) registry.Command {
	return registry.Command{ID: registry.CommandID{byte(i)}, AdvanceTick: &registry.AdvanceTick{Elapsed: 1}}
}

// TestCallersWait: what an arbiter calls blocks until the log answered, or until its
// context ends.
func TestCallersWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := bubble{time.Now()}
		ids := []identity.NodeID{{1}, {2}}
		c := New(Config{Servers: ids, Network: b, Clock: b})
		c.Bootstrap(0)
		first, second := c.Open(0), c.Open(1)
		for now := range first.Leadership() {
			if now.Leader {
				break
			}
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		for i := range 3 {
			result, err := first.Propose(ctx, command1(i+1))
			if err != nil || result.Term != first.Stats().Term {
				t.Errorf("proposal %d: %v, %v", i, result, err)
			}
		}
		if err := errors.Join(first.Barrier(ctx), first.AddStandby(ctx, ids[1]), first.Reach(ctx, ids[1])); err != nil {
			t.Error(err)
		}
		if _, err := second.Propose(ctx, command1(9)); !errors.Is(err, consensus.ErrNotLeader) {
			t.Errorf("a follower answers %v", err)
		}
		c.Stop(0)
		short, end := context.WithTimeout(ctx, time.Second)
		defer end()
		if _, err := first.Propose(short, command1(10)); !errors.Is(err, consensus.ErrOutcomeUnknown) {
			t.Errorf("one that stands still answers %v", err)
		}
		c.Continue(0)
		first.Close()
		second.Close()
		if err := first.Barrier(ctx); !errors.Is(err, consensus.ErrClosed) {
			t.Errorf("one that is closed answers %v", err)
		}
	})
}

// TestBehindVotes: a replica that hears, while its leader dies, of entries that it lacks
// votes for the one that has them, and is not elected itself.
func TestBehindVotes(t *testing.T) {
	for seed := range uint64(20) {
		w := grown(seed, 3, 0)
		dies := w.leader()
		has, lacks := (dies+1)%3, (dies+2)%3
		w.cut[dies][lacks] = true
		w.propose()
		w.run(30 * time.Millisecond)
		known := consensus.Known{Term: w.replicas[dies].disk.term, Index: w.highest}
		w.cluster.Crash(dies)
		w.run(50 * time.Millisecond)
		w.replicas[lacks].Learn(known)
		w.run(5 * time.Second)
		if w.leader() != has {
			t.Errorf("seed %d: server %d leads, and %d should", seed, w.leader(), has)
		}
	}
}
