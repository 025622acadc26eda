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
	k.Term, k.Index = s.Term, s.Commit
	return k
}

// putBack is a stopped voter's disk as it was.
func (c *cluster) putBack(n int, image string) {
	c.Helper()
	c.ok(os.RemoveAll(c.dirs[n]))
	c.ok(os.CopyFS(c.dirs[n], os.DirFS(image)))
}

// lost has an entry committed by nodes 0 and 1 while 2 is down, and then node 1 put back to
// a disk from before. Node 0 is down. It returns what whoever heard of the entry knows.
func lost(t *testing.T, told *Known) (*cluster, Known) {
	t.Helper()
	c := newCluster(t, 3, func(config *Config) { config.Known = *told })
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
	return c, known
}

// TestNobodyLeadsWithoutWhatIsKnown: two voters that lack a committed entry elect nobody
// once they were told of it, and the one that has it leads when it is back. Without a word
// from anybody they would, and the entry would be gone on all three.
func TestNobodyLeadsWithoutWhatIsKnown(t *testing.T) {
	var told Known
	c, known := lost(t, &told)
	told = known
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
	var told Known
	c, known := lost(t, &told)
	c.start(1, false)
	told = known
	c.start(2, false)
	c.silence(20)
	if c.nodes[1].look().Leader || c.nodes[2].look().Leader {
		t.Error("one of them leads")
	}
}

// TestCommittedEntriesStay: nobody who was alive knew, so the two elected a leader. The one
// that holds the lost entry keeps it, says so, and the leader knows that it misses it.
func TestCommittedEntriesStay(t *testing.T) {
	var told Known
	c, known := lost(t, &told)
	c.start(1, false)
	c.start(2, false)
	leader := c.leader()
	for range 5 {
		c.must(leader, tick(1))
	}
	if !leader.Misses(known) || leader.Misses(Known{known.Incarnation, 1, 1}) {
		t.Errorf("the leader misses %+v: %v", known, leader.Misses(known))
	}
	told = known
	c.start(0, false)
	holder := c.nodes[0]
	c.until("the holder says so", func() bool { return errors.Is(holder.Disk(), ErrFork) })
	c.silence(5)
	var entry raft.Log
	if err := holder.file.GetLog(known.Index, &entry); err != nil || entry.Term != known.Term {
		t.Errorf("overwritten by an entry of term %d, %v", entry.Term, err)
	}
	c.must(c.leader(), tick(1)) // the others go on
}

// TestRecoveryIsNotBoundByTheFloor: what was known of an older incarnation binds nobody.
func TestRecoveryIsNotBoundByTheFloor(t *testing.T) {
	var f floor
	if !f.learn(Known{2, 5, 10}) || f.learn(Known{1, 9, 99}) || f.learn(Known{2, 5, 10}) || f.learn(Known{2, 4, 99}) ||
		!f.learn(Known{2, 6, 1}) || !f.learn(Known{3, 1, 1}) {
		t.Errorf("%+v", f.known)
	}
	c := newCluster(t, 1, nil)
	r := c.leader()
	r.floor.known = Known{knows(r).Incarnation, 99, 99}
	if !r.Behind() {
		t.Error("the floor of its own incarnation does not count")
	}
	r.floor.known.Incarnation--
	if r.Behind() {
		t.Error("the floor of an older incarnation counts")
	}
}
