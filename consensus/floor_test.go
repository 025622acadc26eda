package consensus

import (
	"errors"
	"os"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
)

// knows is what a node that is told by its arbiter keeps of the mesh's history.
func knows(leader *Raft) (k Known) {
	s := leader.Stats()
	leader.View(func(state *registry.State) { k.Incarnation = state.Cluster.Incarnation })
	k.Term, k.Index, k.By = s.Term, s.Commit, s.By
	return k
}

// upTo is what an older build's leader says: it has no number.
func upTo(incarnation, term, index uint64) Known {
	return Known{Incarnation: incarnation, Term: term, Index: index}
}

// putBack is a stopped voter's disk as it was.
func (c *cluster) putBack(n int, image string) {
	c.Helper()
	c.ok(os.RemoveAll(c.dirs[n]))
	c.ok(os.CopyFS(c.dirs[n], os.DirFS(image)))
}

// heard is what a node was told when it had an arbiter, and is told by others as it starts.
type heard struct{ own, others Known }

// lost has an entry committed by nodes 0 and 1 while 2 is down, and then node 1 put back to
// a disk from before. Node 0 is down. It returns what whoever heard of the entry knows. The
// next term is another one; ledTwice is for those that are led twice.
func lost(t *testing.T, told *heard) (*cluster, Known) {
	t.Helper()
	c := newCluster(t, 3, func(config *Config) { config.Told, config.Known = told.own, told.others })
	c.must(c.leader(), tick(1))
	c.agree(1)
	c.stop(2)
	c.stop(1)
	image := t.TempDir()
	c.ok(os.CopyFS(image, os.DirFS(c.dirs[1])))
	c.start(1, false)
	leader := c.leader()
	c.must(leader, tick(2))
	c.until("both have it", func() bool { return ticks(c.nodes[0]) == 3 && ticks(c.nodes[1]) == 3 })
	known := knows(leader)
	c.stop(0)
	c.stop(1)
	c.putBack(1, image)
	c.setTerm(1, known.Term)
	return c, known
}

// TestNobodyLeadsWithoutWhatIsKnown: two voters that lack a committed entry elect nobody
// once they were told of it, and the one that has it leads when it is back. Without a word
// from anybody they would, and the entry would be gone on all three.
func TestNobodyLeadsWithoutWhatIsKnown(t *testing.T) {
	t.Parallel()
	var told heard
	c, known := lost(t, &told)
	told.others = known
	c.start(1, false)
	c.start(2, false)
	c.silence(20)
	for _, n := range []int{1, 2} {
		if r := c.nodes[n]; !r.Behind() || r.look().Leader || r.Reach(c.ctx(), id(3-n)) != nil {
			t.Errorf("replica %d: behind %v, %+v", n, r.Behind(), r.look())
		}
	}
	c.start(0, false)
	if leader := c.leader(); leader != c.nodes[0] {
		t.Errorf("replica %d leads", c.number(leader))
	}
	c.agree(3)
	c.until("nobody is behind", func() bool { return !c.nodes[1].Behind() && !c.nodes[2].Behind() })
}

// TestNobodyVotesForWhoLacksIt: one voter that was told is enough, also when the other
// stands.
func TestNobodyVotesForWhoLacksIt(t *testing.T) {
	t.Parallel()
	var told heard
	c, known := lost(t, &told)
	c.start(1, false)
	told.others = known
	c.start(2, false)
	c.silence(20)
	if c.nodes[1].look().Leader || c.nodes[2].look().Leader {
		t.Error("one of them leads")
	}
}

// TestVotesAreHeldToTheFloor, that before an election and the one in it alike: who is handed
// the lead asks for no vote before.
func TestVotesAreHeldToTheFloor(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, nil)
	r := c.leader()
	end := r.file.end()
	r.Learn(Known{Incarnation: r.incarnation(), Term: end.term, Index: end.index + 5})
	for beyond, refuses := range map[uint64]bool{0: true, 4: true, 5: false, 6: false} {
		for _, ask := range []any{
			&raft.RequestVoteRequest{LastLogIndex: end.index + beyond, LastLogTerm: end.term},
			&raft.RequestPreVoteRequest{Term: end.term + 1, LastLogIndex: end.index + beyond, LastLogTerm: end.term},
		} {
			answers := make(chan raft.RPCResponse, 1)
			if got := r.refusesVote(raft.RPC{RespChan: answers, Command: ask}); got != refuses || (len(answers) == 1) != got {
				t.Errorf("%T, %d entries beyond this log: refuses %v", ask, beyond, got)
			}
		}
	}
}

// TestCommittedEntriesStay: nobody who was alive knew, so the two elected a leader. The one
// that holds the lost entry keeps it, says so, and the leader knows that it misses it: also
// when the holder hears first of the leader's term, and in another process that was told of
// nothing else.
func TestCommittedEntriesStay(t *testing.T) {
	t.Parallel()
	var told heard
	c, known := lost(t, &told)
	c.start(1, false)
	c.start(2, false)
	leader := c.leader()
	for range 5 {
		c.must(leader, tick(1))
	}
	if !leader.Misses(known) || leader.Misses(upTo(known.Incarnation, 1, 1)) {
		t.Errorf("the leader misses %+v: %v", known, leader.Misses(known))
	}
	later := knows(leader)
	for _, told = range []heard{{known, later}, {later, later}} {
		for n := range c.nodes {
			c.stop(n) // a leader leaves who was silent alone, longer each time
		}
		for n := range c.nodes {
			c.start(n, false)
		}
		holder := c.nodes[0]
		c.until("the holder says so", func() bool { return errors.Is(holder.Disk(), ErrFork) })
		c.silence(5)
		var entry raft.Log
		if err := holder.file.GetLog(known.Index, &entry); err != nil || entry.Term != known.Term {
			t.Errorf("overwritten by an entry of term %d, %v", entry.Term, err)
		}
	}
	c.must(c.leader(), tick(1)) // the others go on
}

// TestRunningHolderKeepsWhatItWasTold: it was cut off, so nobody told it anything since.
func TestRunningHolderKeepsWhatItWasTold(t *testing.T) {
	t.Parallel()
	var told heard
	c, known := lost(t, &told)
	c.start(1, false)
	c.start(2, false)
	c.must(c.leader(), tick(1))
	c.stop(1)
	c.stop(2)
	c.start(0, false)
	c.nodes[0].Hold(known)
	c.start(1, false)
	c.start(2, false)
	c.until("the holder says so", func() bool { return errors.Is(c.nodes[0].Disk(), ErrFork) })
}

// TestTermsRemembered: the furthest of each of the last terms, and none of an incarnation
// that was given up.
func TestTermsRemembered(t *testing.T) {
	var f floor
	for term := uint64(1); term <= MaxTerms+2; term++ {
		f.learn(upTo(1, term, 10*term))
	}
	f.learn(upTo(1, 5, 51))
	f.learn(upTo(1, 5, 50))
	if len(f.heard) != MaxTerms || f.heard[0].Term != 3 || f.heard[2] != upTo(1, 5, 51) {
		t.Errorf("%+v", f.heard)
	}
	f.learn(upTo(2, 1, 1))
	f.learn(upTo(1, 99, 99))
	if len(f.heard) != 1 || f.heard[0] != upTo(2, 1, 1) {
		t.Errorf("%+v", f.heard)
	}
}

// TestRecoveryIsNotBoundByTheFloor: what was known of an older incarnation binds nobody.
func TestRecoveryIsNotBoundByTheFloor(t *testing.T) {
	var f floor
	if !f.learn(upTo(2, 5, 10)) || f.learn(upTo(1, 9, 99)) || f.learn(upTo(2, 5, 10)) || f.learn(upTo(2, 4, 99)) ||
		!f.learn(upTo(2, 6, 1)) || !f.learn(upTo(3, 1, 1)) {
		t.Errorf("%+v", f.known)
	}
	c := newCluster(t, 1, nil)
	r := c.leader()
	r.floor.known = upTo(knows(r).Incarnation, 99, 99)
	if !r.Behind() {
		t.Error("the floor of its own incarnation does not count")
	}
	r.floor.known.Incarnation--
	if r.Behind() {
		t.Error("the floor of an older incarnation counts")
	}
	end := r.file.end()
	r.file.applied = func() Known { return Known{} }
	for _, k := range []Known{upTo(r.floor.known.Incarnation, end.term, end.index), upTo(knows(r).Incarnation, end.term, end.index)} {
		r.floor.terms = []Known{k}
		if err := r.floor.guard(r.file, end.index, r.floor.own()); errors.Is(err, ErrFork) != (k.Incarnation > r.floor.known.Incarnation) {
			t.Errorf("%+v: %v", k, err)
		}
	}
}

// TestOnlyVoterOfAGivenUpLog does not lead by it beside whoever recovered the mesh.
func TestOnlyVoterOfAGivenUpLog(t *testing.T) {
	t.Parallel()
	var told heard
	c := newCluster(t, 1, func(config *Config) { config.Told, config.Known = told.own, told.others })
	c.must(c.leader(), tick(1))
	known := knows(c.nodes[0])
	c.nodes[0].floor.known = upTo(known.Incarnation+1, 1, 1)
	if !c.nodes[0].Behind() {
		t.Error("a log of an older incarnation is not below the floor")
	}
	c.stop(0)
	told.others = upTo(known.Incarnation+1, known.Term+1, 1)
	c.start(0, false)
	c.silence(20)
	if r := c.nodes[0]; !r.Behind() || r.look().Leader {
		t.Errorf("behind %v, %+v", r.Behind(), r.look())
	}
}

// TestRecoveryOverwritesWhatItLacks: a voter that comes back to a mesh that was recovered
// without it has changes that the recovery gave up. That was said with it, and binds it
// no more than it binds its vote.
func TestRecoveryOverwritesWhatItLacks(t *testing.T) {
	t.Parallel()
	var told Known
	c := newCluster(t, 3, func(config *Config) { config.Known = told })
	c.must(c.leader(), tick(1))
	c.agree(1)
	c.stop(2)
	c.must(c.leader(), tick(2))
	known := knows(c.leader())
	c.stop(0)
	c.stop(1)
	c.ok(Rewrite(c.rewriteConfig(2), func(s *registry.State) (*registry.State, error) {
		s.Cluster.Incarnation++
		return s, nil
	}))
	c.start(2, false)
	leader := c.leader()
	for range 5 {
		c.must(leader, tick(1))
	}
	told = known
	c.start(0, false)
	c.byLeader("a standby", func(leader *Raft) error { return leader.AddStandby(c.ctx(), id(0)) })
	back := c.nodes[0]
	c.until("it has what the others have, and no complaint", func() bool {
		return back.incarnation() == leader.incarnation() && ticks(back) == ticks(leader) && back.Disk() == nil
	})
}
