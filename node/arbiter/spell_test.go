package arbiter

import (
	"strings"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// TestSpell: what lasts is counted while it is so, not while it is not, and ends only
// after it was not for Recovered on end.
func TestSpell(t *testing.T) {
	var s spell
	now := time.Hour
	step := func(d time.Duration, is bool) { now += d; s = s.look(now, is) }
	step(0, true)
	step(time.Second-1, true)
	if s.lasts(time.Second) || !s.lasts(time.Second-1) {
		t.Errorf("after a second less one: %+v", s)
	}
	step(1, true)
	step(time.Second, false)
	if s.lasts(0) {
		t.Error("it is not so now")
	}
	step(Recovered-time.Second-1, false)
	step(0, true)
	if !s.lasts(time.Second) || s.lasts(time.Second+1) || s.flaps() {
		t.Errorf("a good moment ends it, or counts: %+v", s)
	}
	step(1, false)
	if step(1, true); !s.flaps() {
		t.Error("thrice, and it does not come and go")
	}
	step(1, false)
	if step(Recovered-1, false); s != (spell{}) {
		t.Errorf("not forgotten: %+v", s)
	}
}

// flap is a daemon that dies at each start: a stream for a second of each eleven, its
// Raft port shut.
func (q *quorum) flap(id identity.NodeID, rounds int) {
	q.Helper()
	for i := range rounds {
		n := stub(q.TB, id)
		n.hello.Boot = identity.BootID{1, byte(i), byte(i >> 8)}
		nodeOpened{n}.apply(q.a)
		q.commitProposed()
		q.after(time.Second)
		nodeClosed{n}.apply(q.a)
		for _, other := range q.a.nodes {
			other.silent[id] = true
		}
		q.after(10 * time.Second)
	}
}

// TestFlappingVoterIsReplaced, as a silent one is, and shown until then.
func TestFlappingVoterIsReplaced(t *testing.T) {
	q := newQuorum(t)
	q.shut(q.second, true)
	q.flap(q.second.node, 4)
	if r := q.a.replicas[q.second.node]; !r.shown() || !strings.Contains(r.unfit, "n2 comes and goes") {
		t.Errorf("the operator is told %q", r.unfit)
	}
	q.member(q.a, "n4", voterToo)
	q.flap(q.second.node, 10)
	q.wantVoters("n1", "n3", "n4")
}

// TestFlappingStandbyMakesRoom: one that comes and goes keeps nobody from a vote.
func TestFlappingStandbyMakesRoom(t *testing.T) {
	q := alone(t)
	n2 := q.shutStandby()
	q.member(q.a, "n3", voterToo)
	q.member(q.a, "n4", voterToo)
	delete(q.a.nodes, n2.node)
	q.flap(n2.node, 10)
	q.wantVoters("n1", "n3", "n4")
}

// TestFlappingStandbyGetsNoVote in a good moment, and one once it stays.
func TestFlappingStandbyGetsNoVote(t *testing.T) {
	q := alone(t)
	n2 := q.shutStandby()
	delete(q.a.nodes, n2.node)
	q.flap(n2.node, Flaps+1)
	q.shut(n2, false)
	q.member(q.a, "n3", voterToo)
	q.connect(q.a, n2.node)
	q.after(10 * time.Second)
	q.wantVoters("n1")
	q.after(Recovered)
	q.wantVoters("n1", "n2", "n3")
}

// TestRestartedVotersKeepTheirVotes: each of them away for less than VoterSilence, one
// after the other, and one of them for a short while again and again.
func TestRestartedVotersKeepTheirVotes(t *testing.T) {
	q := newQuorum(t)
	q.member(q.a, "n4", voterToo)
	away := func(n *nodeStream, d time.Duration) {
		q.silence(n, true)
		q.shut(n, true)
		q.after(d)
		q.shut(n, false)
		n.openedAt = q.a.config.Now()
		q.a.nodes[n.node] = n
	}
	away(q.second, VoterSilence-time.Second)
	away(q.third, VoterSilence-time.Second)
	q.after(Recovered)
	for range 10 {
		away(q.second, 3*time.Second)
		q.after(20 * time.Second)
	}
	q.after(Recovered + time.Second)
	q.wantVoters("n1", "n2", "n3")
	if r := q.a.replicas[q.second.node]; r.unfit != "" {
		t.Errorf("long good again, and the operator is told %q", r.unfit)
	}
}
