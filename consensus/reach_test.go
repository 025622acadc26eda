package consensus

import (
	"testing"
	"time"
)

// TestReach: a replica answers whoever may talk to it, whether it leads, follows
// or was never added, and one that is cut off answers nobody. Nobody's term, vote
// or leader changes by it.
func TestReach(t *testing.T) {
	c := newCluster(t, 3, nil)
	leader := c.leader()
	c.dirs, c.nodes = append(c.dirs, t.TempDir()), append(c.nodes, nil)
	c.start(3, false)
	before := leader.Stats()
	for from, r := range c.nodes {
		for to := range c.nodes {
			if from == to {
				continue
			}
			if err := r.Reach(c.ctx(), id(to)); err != nil {
				t.Errorf("%d asks %d: %v", from, to, err)
			}
		}
	}
	if after := leader.Stats(); !after.Leader || after.Term != before.Term {
		t.Errorf("asking changed the leadership: %+v, was %+v", after, before)
	}
	c.network.isolate(id(3))
	if leader.Reach(c.ctx(), id(3)) == nil || c.nodes[3].Reach(c.ctx(), id(0)) == nil {
		t.Error("a replica that is cut off was reached")
	}
	c.network.heal(id(3))
	if err := leader.Reach(c.ctx(), id(3)); err != nil {
		t.Errorf("back again: %v", err)
	}
}

// TestCloseWaitsForNoSilentServer: of a host without power neither an answer to a question
// comes, nor one to what the log has for it, and a leader ends all the same.
func TestCloseWaitsForNoSilentServer(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, nil)
	leader := c.leader()
	var at int
	for n, r := range c.nodes {
		if r == leader {
			at = n
		}
	}
	silent := (at + 1) % len(c.nodes)
	c.network.isolate(id(silent)) // ends its streams
	c.network.heal(id(silent))
	c.network.layer(id(silent)) // where nobody accepts
	go leader.Reach(c.ctx(), id(silent))
	c.until("the question and the log wait for it", func() bool { return c.network.waits(id(silent)) >= 2 })
	began := time.Now()
	c.stop(at)
	if took := time.Since(began); took > CloseGrace/2 {
		t.Errorf("it ended after %v", took)
	}
}
