package consensus

import "testing"

// TestBehindVotesForWhoIsNot: a replica that lacks what it was told of heard a leader until
// it died. It votes for the one that has it all: before, it took the dead one for its
// leader as long as it had patience, for an hour, and nobody was elected.
func TestBehindVotesForWhoIsNot(t *testing.T) {
	c, full := newDisks(t, 3)
	leader := c.leader()
	first := c.number(leader)
	behind := c.nodes[(first+1)%3]
	full[(first+1)%3].Store(true)
	c.must(leader, tick(1))
	c.until("another one has it", func() bool { return ticks(c.nodes[(first+2)%3]) == 1 })
	behind.Learn(knows(leader))
	c.stop(first)
	full[(first+1)%3].Store(false)
	if next := c.leader(); next == behind {
		t.Error("the one that lacks it leads")
	}
	c.agree(1)
}
