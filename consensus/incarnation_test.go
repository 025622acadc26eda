package consensus

import (
	"errors"
	"fmt"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
)

// TestRecoveredBesideVotersThatRanOn: the mesh was recovered at one of three voters while the
// others were only cut off. Once all hear each other the old ones decide nothing more, the
// recovered one leads on in its term, and they vote again by its log.
func TestRecoveredBesideVotersThatRanOn(t *testing.T) {
	for name, others := range map[string]func(c *cluster){
		"each alone": func(*cluster) {},
		"two that hear each other": func(c *cluster) {
			c.network.heal(id(0))
			c.network.heal(id(1))
			c.must(c.leader(), tick(50))
			c.until("both have it", func() bool { return ticks(c.nodes[0]) == 51 && ticks(c.nodes[1]) == 51 })
		},
		"each started anew": func(c *cluster) {
			for n := range 2 {
				c.stop(n)
				c.start(n, false)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, 3, nil)
			c.must(c.leader(), tick(1))
			c.agree(1)
			recovered := c.recoverApart(2)
			others(c)
			old := ticks(c.nodes[0])
			if old == 0 {
				old = 1 // it was started anew
			}
			term := recovered.look().Term
			for n := range 3 {
				c.network.heal(id(n))
			}
			c.until("the others heard that the mesh was recovered", func() bool { return c.nodes[0].GivenUp() && c.nodes[1].GivenUp() })
			c.until("nobody leads by the old log", func() bool { return !c.nodes[0].look().Leader && !c.nodes[1].look().Leader })
			c.silence(10)
			if seen := recovered.look(); !seen.Leader || seen.Term != term || c.nodes[0].look().Leader || c.nodes[1].look().Leader {
				t.Errorf("%+v in place of the lead of term %d", seen, term)
			}
			for n := range 2 {
				c.ok(recovered.AddStandby(c.ctx(), id(n)))
			}
			for n := range 2 {
				c.ok(recovered.AddVoter(c.ctx(), id(n)))
			}
			c.must(recovered, tick(1))
			c.agree(102)
			if former := c.nodes[0].Former(); former == nil || former.Cluster.Incarnation != 1 || former.Tick != old {
				t.Errorf("what the old log had is not known any more: %+v", former)
			}
		})
	}
}

// recoverApart cuts all off from each other, and makes one the only voter of a mesh whose
// tick is 100.
func (c *cluster) recoverApart(left int) *Raft {
	c.Helper()
	for n := range c.nodes {
		c.network.isolate(id(n))
	}
	c.stop(left)
	c.ok(Rewrite(c.rewriteConfig(left), func(s *registry.State) (*registry.State, error) {
		s.Cluster.Incarnation++
		s.Tick = 100
		return s, nil
	}))
	c.start(left, false)
	r := c.nodes[left]
	c.until("it leads alone", func() bool { return r.look().Leader && r.Barrier(c.ctx()) == nil })
	c.must(r, tick(1))
	return r
}

// TestRecoveredTwice: the mesh was recovered at one voter, and then, with that one lost, at
// another whose log knows of lower terms. When the first one is back it follows the second,
// also after a start. Its own snapshot was the newer of the two by their terms, so it took the
// other's again and again, and at the next start went on from its own. What it once committed
// is more than the other has, and it applies that all the same.
func TestRecoveredTwice(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, nil)
	c.must(c.leader(), tick(1))
	c.agree(1)
	for n := range c.nodes {
		c.network.isolate(id(n))
		c.stop(n)
	}
	var told uint64
	recovered := func(n int, incarnation uint64) *Raft {
		config := c.rewriteConfig(n)
		config.Term = told
		c.ok(Rewrite(config, func(s *registry.State) (*registry.State, error) {
			s.Cluster.Incarnation, s.Tick = incarnation, registry.Tick(100*incarnation)
			return s, nil
		}))
		c.start(n, false)
		r := c.nodes[n]
		c.until("it leads alone", func() bool { return r.look().Leader && r.Barrier(c.ctx()) == nil })
		c.must(r, tick(1))
		told = r.look().Term
		return r
	}
	c.setTerm(0, 50) // it was led longer than others know
	longer := recovered(0, 2)
	for range 9 {
		c.must(longer, tick(1))
	}
	last := recovered(2, 3)
	for n := range c.nodes {
		c.network.heal(id(n))
	}
	c.byLeader("a standby", func(*Raft) error { return last.AddStandby(c.ctx(), id(0)) })
	c.until("the first one has what the second has", func() bool { return ticks(c.nodes[0]) == 301 })
	c.must(last, tick(1))
	c.until("it follows", func() bool { return ticks(c.nodes[0]) == 302 })
	c.stop(0)
	c.start(0, false)
	c.until("it has that after a start", func() bool { return ticks(c.nodes[0]) == 302 && c.nodes[0].incarnation() == 3 })
	c.must(last, tick(1))
	c.until("it follows on", func() bool { return ticks(c.nodes[0]) == 303 })
}

// TestRecoveredByAShorterLog: the mesh goes on from a saved snapshot on a disk that had no log,
// and voters with a long one follow it: what they had is gone, and what is decided from then on
// they have at once, as after they were started anew.
func TestRecoveredByAShorterLog(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, nil)
	for range 50 {
		c.must(c.leader(), tick(1))
	}
	c.agree(50)
	var saved *registry.State
	c.nodes[0].View(func(s *registry.State) { saved = s.Clone() })
	for n := range c.nodes {
		c.network.isolate(id(n))
	}
	c.stop(2)
	c.dirs[2] = t.TempDir()
	config := c.rewriteConfig(2)
	config.Empty = true
	c.ok(Rewrite(config, func(*registry.State) (*registry.State, error) {
		saved.Cluster.Incarnation++
		saved.Tick = 100
		return saved, nil
	}))
	c.start(2, false)
	r := c.nodes[2]
	c.until("it leads alone", func() bool { return r.look().Leader && r.Barrier(c.ctx()) == nil })
	c.must(r, tick(1))
	if state, err := r.Kept(); err != nil || state.Tick != 101 {
		t.Errorf("it has %+v (%v)", state, err)
	}
	for n := range c.nodes {
		c.network.heal(id(n))
	}
	c.until("the others heard of it", func() bool { return c.nodes[0].GivenUp() && c.nodes[1].GivenUp() })
	for n := range 2 {
		c.ok(r.AddStandby(c.ctx(), id(n)))
	}
	c.must(r, tick(1))
	c.agree(102)
	c.stop(2)
	c.start(2, false)
	if state, err := c.nodes[2].Kept(); err != nil || state.Tick != 102 {
		t.Errorf("started anew it has %+v (%v)", state, err)
	}
}

// TestOutlivedIsKept: a voter that heard over Raft alone that the mesh was recovered decides
// nothing in its next process either, though it hears nobody of the recovered mesh then; until
// its own log is what an operator goes on from.
func TestOutlivedIsKept(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2, nil)
	c.must(c.leader(), tick(1))
	c.agree(1)
	for _, incarnation := range []uint64{2, 3, 2} {
		c.nodes[0].hear(incarnation, serverID(id(2)))
	}
	for n := range 2 {
		c.stop(n)
		c.start(n, false)
	}
	c.silence(10)
	if r := c.nodes[0]; !r.GivenUp() || r.floor.get().Incarnation != 3 || r.look().Leader || c.nodes[1].look().Leader {
		t.Errorf("it goes on by a log that was given up: %+v, %+v", r.look(), c.nodes[1].look())
	}
	c.stop(1)
	c.stop(0)
	c.ok(Rewrite(c.rewriteConfig(0), func(s *registry.State) (*registry.State, error) {
		if s.Cluster.Incarnation != 3 {
			t.Errorf("who recovers it is told of incarnation %d, which those that heard of 3 do not heed", s.Cluster.Incarnation)
		}
		s.Cluster.Incarnation++
		return s, nil
	}))
	c.start(0, false)
	c.must(c.leader(), tick(1))
}

// TestOnlyVoterStopsDeciding: it needs nobody's vote, so nothing but its own log keeps it.
func TestOnlyVoterStopsDeciding(t *testing.T) {
	c := newCluster(t, 1, nil)
	r := c.leader()
	c.must(r, tick(1))
	r.hear(2, serverID(id(1)))
	if result, err := r.Propose(c.ctx(), c.command(tick(1))); !errors.Is(err, ErrOutcomeUnknown) {
		t.Errorf("decided %+v, %v", result, err)
	}
	c.until("it leads no more", func() bool { return !r.look().Leader })
}

// TestRequestsOfAnEarlierIncarnation: none of them comes to raft, which would enter its
// term; who has no state yet is of an earlier one, too. None of this or a later one is kept.
func TestRequestsOfAnEarlierIncarnation(t *testing.T) {
	c := newCluster(t, 1, nil)
	c.must(c.leader(), tick(1))
	r := c.recoverApart(0)
	own, term := r.incarnation(), r.look().Term
	for incarnation := range own + 1 {
		said := word{incarnation, newOrigin()}.bytes()
		for _, ask := range []any{
			//lint:ignore SA1019 the field is free for the word
			&raft.AppendEntriesRequest{Leader: said, Term: term + 1},
			//lint:ignore SA1019 the field is free for the word
			&raft.AppendEntriesRequest{Leader: said, Term: term + 1, PrevLogEntry: 100, PrevLogTerm: term + 1},
			&raft.InstallSnapshotRequest{Leader: said, Term: term + 1, LastLogIndex: 100, LastLogTerm: term + 1},
			//lint:ignore SA1019 the field is free for the word
			&raft.RequestVoteRequest{Candidate: said, Term: term + 1, LastLogIndex: 100, LastLogTerm: term + 1},
			&raft.RequestPreVoteRequest{RPCHeader: raft.RPCHeader{Addr: append([]byte("n1"), said...)}, Term: term + 1, LastLogIndex: 100, LastLogTerm: term + 1},
		} {
			err := r.outlived(ask)
			if refused := err != nil; refused != (incarnation < own) {
				t.Errorf("%T of incarnation %d, where this one has %d: %v", ask, incarnation, own, err)
			}
		}
	}
	if r.GivenUp() {
		t.Error("it gave itself up")
	}
	_ = r.heed(serverID(id(1)), fmt.Errorf("%w", outlivedBy(own+1)))
	if !r.GivenUp() || !r.Behind() {
		t.Error("an answer of a later incarnation is not heard")
	}
}
