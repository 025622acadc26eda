package consensus

import "testing"

// TestStandbyMissesNoLeader: raft forgets the first leader of a new replica for a moment, and
// who has no vote elects none. It was a line in the log of nearly every node that joined.
func TestStandbyMissesNoLeader(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2, nil)
	c.byLeader("a vote is taken", func(leader *Raft) error { return leader.Demote(c.ctx(), id(1)) })
	c.until("it knows", func() bool { return !c.nodes[1].votes() })
	led, none := Leadership{ID: id(0), Term: 2}, Leadership{Term: 2}
	if said := c.nodes[1].sayLeader(none, led); said != led {
		t.Errorf("one without a vote says %+v", said)
	}
	if said := c.nodes[0].sayLeader(none, led); said != none {
		t.Errorf("a voter says %+v", said)
	}
}
