package arbiter

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// shut closes a node's Raft port, or opens it.
func (f *fixture) shut(n *nodeStream, closed bool) {
	f.store.mu.Lock()
	defer f.store.mu.Unlock()
	if f.store.closed == nil {
		f.store.closed = make(map[identity.NodeID]bool)
	}
	f.store.closed[n.node] = closed
}

// reports lets a node say that it has the log so far, and whom it cannot reach.
func (q *quorum) reports(n *nodeStream, lacks uint64, unreached ...identity.NodeID) {
	nodeSaid{n, &protocol.Node{Replica: &protocol.Replica{Term: q.a.term, Applied: q.store.Stats().Commit - lacks, Unreached: unreached}}}.apply(q.a)
}

// alone is a mesh whose only voter is the arbiter.
func alone(t *testing.T) *quorum {
	t.Helper()
	q := &quorum{fixture: newFixture(t)}
	q.a, q.own = q.still(), q.trust.Key.ID()
	q.connect(q.a, q.own)
	return q
}

func (q *quorum) votesOf() (names []string) {
	for id, voter := range q.a.voters() {
		if voter {
			names = append(names, q.a.nodeName(id))
		}
	}
	slices.Sort(names)
	return names
}

func (q *quorum) wantVoters(want ...string) {
	q.Helper()
	if got := q.votesOf(); !slices.Equal(got, want) {
		q.Errorf("voters %v, want %v; done: %v", got, want, q.store.log)
	}
}

// TestClosedRaftPortGetsNoVote: raft would take the votes of two joiners whose
// TCP port nobody reaches, and never decide anything again. They get no data key either.
func TestClosedRaftPortGetsNoVote(t *testing.T) {
	q := alone(t)
	n2, n3 := q.member(q.a, "n2", voterToo), q.member(q.a, "n3", voterToo)
	q.shut(n2, true)
	q.shut(n3, true)
	q.after(2 * VoterSilence)
	q.wantVoters("n1")
	q.wantGeneration(1, []identity.NodeID{q.own}, []identity.NodeID{n2.node, n3.node})
	why := q.a.replicas[n2.node].unfit
	if !strings.Contains(why, "let TCP port 6484 in on n2") {
		t.Errorf("the operator is told %q", why)
	}
	q.shut(n2, false)
	q.settle()
	q.wantVoters("n1") // of two, one alone votes
	q.shut(n3, false)
	q.settle()
	q.wantVoters("n1", "n2", "n3")
	q.wantGeneration(1, []identity.NodeID{q.own, n2.node, n3.node}, nil)
}

// shutStandby is a node that was asked to keep the log, and whose port is shut.
func (q *quorum) shutStandby() *nodeStream {
	n := q.member(q.a, "n2", voterToo)
	q.shut(n, true)
	q.settle()
	return n
}

// TestClosedStandbyIsPassedOver: it must not stand in the way of a good one, is
// asked again later, and soon when it comes back, but not for a stream of seconds.
func TestClosedStandbyIsPassedOver(t *testing.T) {
	q := alone(t)
	n2 := q.shutStandby()
	q.member(q.a, "n3", voterToo)
	q.member(q.a, "n4", voterToo)
	q.after(StandbyPatience + 5*time.Second)
	q.wantVoters("n1", "n3", "n4")
	if q.a.inRaft(n2.node) || !q.a.passedOver(n2.node) {
		t.Error("the closed one still keeps the log")
	}
	q.now.Add(int64(PassOver))
	if q.a.passedOver(n2.node) {
		t.Error("never asked again")
	}
	q.a.passOver(n2.node)
	nodeOpened{q.connect(q.a, n2.node)}.apply(q.a)
	q.now.Add(int64(Recovered) - 1)
	if !q.a.passedOver(n2.node) {
		t.Error("a stream of seconds is a new beginning")
	}
	if q.now.Add(1); q.a.passedOver(n2.node) {
		t.Error("its new stream is no new beginning")
	}
}

// TestStandbyWithoutTheLogWaits: it gets its vote once it has what was committed,
// in this term, and reaches the other voters itself.
func TestStandbyWithoutTheLogWaits(t *testing.T) {
	for name, unfit := range map[string]func(q *quorum, n *nodeStream){
		"one entry too few": func(q *quorum, n *nodeStream) { q.reports(n, MaxBehind+1) },
		"an older term": func(q *quorum, n *nodeStream) {
			nodeSaid{n, &protocol.Node{Replica: &protocol.Replica{Term: q.a.term - 1, Applied: q.store.index}}}.apply(q.a)
		},
		"does not reach the voter": func(q *quorum, n *nodeStream) { q.reports(n, 0, q.own) },
		"has said nothing yet":     func(q *quorum, n *nodeStream) { n.openedAt = q.a.config.Now() },
	} {
		t.Run(name, func(t *testing.T) {
			q := alone(t)
			q.store.index += 2 * MaxBehind
			n2, n3 := q.member(q.a, "n2", voterToo), q.member(q.a, "n3", voterToo)
			q.reports(n2, 0)
			unfit(q, n3)
			q.settle()
			q.wantVoters("n1")
			q.reports(n2, 0)
			q.reports(n3, MaxBehind)
			q.settle()
			q.wantVoters("n1", "n2", "n3")
		})
	}
}

// TestOlderBuildMayVote: it says nothing of its log; its answers must do.
func TestOlderBuildMayVote(t *testing.T) {
	q := alone(t)
	for _, name := range []string{"n2", "n3"} {
		q.member(q.a, name, voterToo).openedAt = q.a.config.Now()
	}
	q.settle()
	q.wantVoters("n1")
	q.after(ReplicaWithin + time.Second)
	q.wantVoters("n1", "n2", "n3")
}

// TestAskedOnceMoreBeforeTheVote: what answered a moment ago may not now.
func TestAskedOnceMoreBeforeTheVote(t *testing.T) {
	q := alone(t)
	n2, n3 := q.member(q.a, "n2", voterToo), q.member(q.a, "n3", voterToo)
	q.a.config.Answers = func(identity.NodeID) bool { return true }
	q.shut(n3, true)
	q.after(10 * time.Second)
	q.wantVoters("n1")
	if q.a.inRaft(n2.node) != true {
		t.Error("the good one keeps no log")
	}
}

// TestClosedVoterIsReplaced: a stream alone keeps no vote, and one silent voter
// is replaced, never two at a time.
func TestClosedVoterIsReplaced(t *testing.T) {
	q := newQuorum(t)
	q.member(q.a, "n4", voterToo)
	q.shut(q.second, true)
	q.after(VoterSilence - time.Second)
	q.wantVoters("n1", "n2", "n3")
	q.after(5 * time.Second)
	q.wantVoters("n1", "n3", "n4")
	if q.a.replicas[q.third.node].unfit != "" {
		t.Errorf("of a good one: %q", q.a.replicas[q.third.node].unfit)
	}
}

// TestClosedVoterIsNoMajority: who cannot be reached decides nothing, so the last
// one that can must stay.
func TestClosedVoterIsNoMajority(t *testing.T) {
	q := newQuorum(t)
	q.shut(q.second, true)
	q.shut(q.third, true)
	if err := q.a.mayExpel(q.third.node); err == nil {
		t.Error("left with one that cannot be reached")
	}
}

// TestVoterApartIsShown: two voters that do not reach each other work as long as
// the arbiter lives; the operator hears of it, and nobody loses a vote.
func TestVoterApartIsShown(t *testing.T) {
	q := newQuorum(t)
	q.reports(q.third, 0, q.second.node)
	q.after(2 * VoterSilence)
	q.reports(q.third, 0, q.second.node)
	q.a.lookAtReplicas()
	q.wantVoters("n1", "n2", "n3")
	if why := q.a.replicas[q.third.node].unfit; !strings.Contains(why, "n3 does not reach n2") {
		t.Errorf("told %q", why)
	}
	q.shut(q.second, true) // then it is that one's fault
	q.a.lookAtReplicas()
	if why := q.a.replicas[q.third.node].unfit; why != "" {
		t.Errorf("blamed for another's closed port: %q", why)
	}
}

// TestOneCandidateTakesOnePlace: of two closed standbys one makes room for the one
// node that there is; the other may be mended, and would be missed.
func TestOneCandidateTakesOnePlace(t *testing.T) {
	q := alone(t)
	n2, n3 := q.member(q.a, "n2", voterToo), q.member(q.a, "n3", voterToo)
	q.shut(n2, true)
	q.shut(n3, true)
	q.after(2 * StandbyPatience)
	q.member(q.a, "n4", voterToo)
	q.after(StandbyPatience)
	if q.a.inRaft(n2.node) == q.a.inRaft(n3.node) {
		t.Fatalf("both stay, or both went: %v", q.store.log)
	}
	q.shut(n2, false)
	q.shut(n3, false)
	q.after(5 * time.Second)
	if votes := q.votes(); len(votes) != 3 {
		t.Errorf("voters %v: %v", q.votesOf(), q.store.log)
	}
}

// TestPairThatMissesEachOther: two that reach the arbiter and not each other would be
// no quorum without it.
func TestPairThatMissesEachOther(t *testing.T) {
	q := alone(t)
	n2, n3 := q.member(q.a, "n2", voterToo), q.member(q.a, "n3", voterToo)
	for range 20 {
		q.turn()
		q.reports(n2, 0, n3.node)
		q.reports(n3, 0)
	}
	q.wantVoters("n1")
	q.reports(n2, 0)
	q.settle()
	q.wantVoters("n1", "n2", "n3")
}

// TestUnfitStandbyMakesRoom: one that answers and is never fit keeps nobody from the
// third vote, and two voters from being one again.
func TestUnfitStandbyMakesRoom(t *testing.T) {
	for name, another := range map[string]bool{"another node is there": true, "nobody else is there": false} {
		t.Run(name, func(t *testing.T) {
			q := newQuorum(t)
			q.silence(q.third, true)
			q.after(VoterSilence + time.Second) // its vote is to be had
			n4 := q.member(q.a, "n4", voterToo)
			q.reports(n4, 0, q.second.node) // n4 does not reach n2, and never will
			q.after(time.Second)
			var n5 *nodeStream
			if another {
				n5 = q.member(q.a, "n5", voterToo)
			}
			for end := q.now.Load() + int64(VoterSilence+20*time.Second); q.now.Load() < end; {
				q.reports(n4, 0, q.second.node)
				q.turn()
			}
			votes := q.votes()
			if votes[n4.node] || another && (!votes[n5.node] || votes[q.third.node]) {
				t.Errorf("voters %v: %v", q.votesOf(), q.store.log)
			}
		})
	}
}

// TestNotLookedAtIsNotFit: of a server that nobody looked at yet nothing good is known.
func TestNotLookedAtIsNotFit(t *testing.T) {
	q := alone(t)
	n2 := q.member(q.a, "n2", voterToo)
	q.ok(q.store.AddStandby(t.Context(), n2.node))
	if e := q.a.judgeElectorate(); len(e.standbys) != 0 {
		t.Error("a standby that was not looked at could be given a vote")
	}
	q.a.lookAtReplicas()
	if e := q.a.judgeElectorate(); len(e.standbys) != 1 {
		t.Error("a fit one could not")
	}
}

var _ Electorate = (*consensus.Raft)(nil)

// TestVoterThatCameBackIsNoWarning: what it lacks it gets within a second. It was one at each
// start of a daemon that had been away for longer than StandbyPatience.
func TestVoterThatCameBackIsNoWarning(t *testing.T) {
	q := newQuorum(t)
	q.silence(q.second, true)
	q.after(2 * StandbyPatience)
	n := stub(q.TB, q.second.node)
	n.hello.Boot = identity.BootID{1, 1}
	nodeOpened{n}.apply(q.a)
	q.reports(n, MaxBehind+1)
	q.after(time.Second)
	if r := q.a.replicas[n.node]; r.standing != behind || r.shown() {
		t.Errorf("standing %v, told %q", r.standing, r.unfit)
	}
	q.after(StandbyPatience)
	if r := q.a.replicas[n.node]; !r.shown() || !strings.Contains(r.unfit, "n2 has not the whole log yet") {
		t.Errorf("after long the operator is told %q", r.unfit)
	}
}
