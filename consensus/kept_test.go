package consensus

import "testing"

// TestKept: a replica that nobody leads has applied nothing since its start, and its log has
// all that was committed.
func TestKept(t *testing.T) {
	c := newCluster(t, 3, nil)
	c.must(c.leader(), tick(7))
	c.until("all have it", func() bool {
		for _, r := range c.nodes {
			if ticks(r) != 7 {
				return false
			}
		}
		return true
	})
	for n := range c.nodes {
		c.stop(n)
	}
	c.start(0, false)
	r := c.nodes[0]
	state, err := r.Kept()
	if err != nil || ticks(r) != 0 || state.Tick != 7 {
		t.Errorf("applied are %d ticks, the log has %+v (%v)", ticks(r), state, err)
	}
}
