package consensus

import "testing"

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
