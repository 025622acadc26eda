package consensus

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
)

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

// TestStarvedVoterFillsNoLog: that nobody leads is said as often as it may be, with how often it
// was not, and that the same one leads again only after that. Another leader always is.
func TestStarvedVoterFillsNoLog(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	c := newCluster(t, 1, nil)
	may := true
	r := &Raft{id: id(0), raft: c.nodes[0].raft, log: slog.New(slog.NewTextHandler(&log, nil)), repeats: func() ([]any, bool) {
		return []any{"times_not_said", 3}, may
	}}
	lines := func(what string) int { return strings.Count(log.String(), what) }
	var said Leadership
	term := uint64(1)
	see := func(who Leadership) {
		term++
		who.Term = term
		said = r.sayLeader(who, said)
	}
	led, own := Leadership{ID: id(1)}, Leadership{ID: id(0), Leader: true}
	see(led)
	see(Leadership{})
	see(led)
	if lines("no leader\" term=3 times_not_said=3") != 1 || lines("the registry's leader") != 2 || lines("\n") != 3 {
		t.Errorf("while it may be said: %s", log.String())
	}
	log.Reset()
	may = false
	for range 20 {
		see(Leadership{})
		see(Leadership{}) // it stood, and was not elected
		see(led)
	}
	if log.Len() > 0 {
		t.Errorf("while it may not: %s", log.String())
	}
	see(led) // of a new term, and nobody was missed
	see(Leadership{})
	see(own)
	if lines("the registry's leader") != 1 || lines("this node leads") != 1 || lines("\n") != 2 {
		t.Errorf("of another leader: %s", log.String())
	}
	log.Reset()
	see(Leadership{})
	may = true
	see(Leadership{})
	if see(own); lines("no leader") != 1 || lines("this node leads") != 1 {
		t.Errorf("when it may be said again: %s", log.String())
	}
}

// TestLeaseIsAsLongAsPatience: a leader gives up when its followers may, and not before: one whose
// voters are slow to answer would end terms that nobody else wants.
func TestLeaseIsAsLongAsPatience(t *testing.T) {
	conf := Config{}.raft(nil)
	if conf.LeaderLeaseTimeout != conf.HeartbeatTimeout || conf.LeaderLeaseTimeout != LeaderLease {
		t.Errorf("a lease of %v, and followers wait for %v", conf.LeaderLeaseTimeout, conf.HeartbeatTimeout)
	}
}
