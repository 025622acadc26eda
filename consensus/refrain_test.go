package consensus

import (
	"context"
	"runtime"
	"testing"

	"github.com/hashicorp/raft"
)

// TestWhoRefrainsDoesNotStand: it leaves the lead to others as long as there may be some, and
// of voters that all refrain one leads in the end, with the beat of any leader.
func TestWhoRefrainsDoesNotStand(t *testing.T) {
	c := newCluster(t, 3, nil)
	leader := c.leader()
	first := (c.number(leader) + 1) % 3
	r, usual := c.nodes[first], c.config(0).Heartbeat
	r.Refrain(true)
	c.until("it waits", func() bool { return r.raft.ReloadableConfig().HeartbeatTimeout == RefrainTimes*usual })
	c.network.isolate(id(first))
	silent, cancel := context.WithTimeout(context.Background(), RefrainTimes/2*usual)
	defer cancel()
	for silent.Err() == nil {
		if state := r.raft.State(); state != raft.Follower {
			t.Fatalf("it is a %v", state)
		}
		runtime.Gosched()
	}
	c.network.heal(id(first))
	r.Refrain(false)
	c.until("it stands like any other", func() bool { return r.raft.ReloadableConfig().HeartbeatTimeout == usual })
	leader = c.leader()
	for _, r := range c.nodes {
		r.Refrain(true)
	}
	c.until("the followers wait", func() bool {
		for _, r := range c.nodes {
			leads := r.raft.State() == raft.Leader
			if waits := r.raft.ReloadableConfig().HeartbeatTimeout != usual; waits == leads {
				return false
			}
		}
		return true
	})
	c.stop(c.number(leader))
	next := c.leader()
	term := next.raft.CurrentTerm()
	c.until("it beats as a leader does", func() bool { return next.raft.ReloadableConfig().HeartbeatTimeout == usual })
	if next.raft.CurrentTerm() != term {
		t.Errorf("it lost the lead before it beat as a leader does")
	}
}

// TestSoleVoterDoesNotRefrain: nobody else could lead.
func TestSoleVoterDoesNotRefrain(t *testing.T) {
	for voters, leaves := range map[int]bool{1: false, 3: true} {
		c := newCluster(t, voters, nil)
		r := c.leader()
		r.Refrain(true)
		c.stop(c.number(r)) // so that it leads no more
		if r.leavesLead() != leaves {
			t.Errorf("of %d voters: %v", voters, !leaves)
		}
	}
}
