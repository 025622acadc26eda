package arbiter

import (
	"slices"
	"testing"
)

// TestVoterWithoutItsLog: one that comes back and keeps none has its vote taken, and is
// filled and given one anew. The others are left alone.
func TestVoterWithoutItsLog(t *testing.T) {
	q := newQuorum(t)
	back := stub(t, q.third.node)
	back.hello.Standby = false
	nodeClosed{q.third}.apply(q.a)
	nodeOpened{back}.apply(q.a)
	q.after(2 * ReplicaWithin)
	if did := q.logOf(back.node); !slices.Equal(did, []string{"remove", "standby", "wrap", "voter"}) {
		t.Errorf("done about it: %v", did)
	}
	if did := q.logOf(q.second.node); len(did) != 0 {
		t.Errorf("done about another voter: %v", did)
	}
	if !q.a.voters()[back.node] || !back.keeps {
		t.Error("it has no vote again, or was not asked to keep the log")
	}
}

// TestStandbyWithoutItsLog: it never had a vote to take; it is asked again, once.
func TestStandbyWithoutItsLog(t *testing.T) {
	f := newFixture(t)
	a := f.still()
	f.connect(a, f.trust.Key.ID())
	q := &quorum{fixture: f, a: a, own: f.trust.Key.ID()}
	n := q.member(a, "n2", voterToo)
	q.settle()
	q.store.log = nil
	back := stub(t, n.node)
	back.hello.Standby = false
	nodeClosed{n}.apply(a)
	nodeOpened{back}.apply(a)
	q.settle()
	q.wantLog()
	if !back.keeps {
		t.Error("it was not asked to keep the log")
	}
}
