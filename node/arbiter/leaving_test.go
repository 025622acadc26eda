package arbiter

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// removed says whether a member was removed, and whether it was told so.
func (q *quorum) removed(n *nodeStream) (is, told bool) {
	q.store.View(func(s *registry.State) { is = s.Nodes[n.node].Removed })
	for n.Waiting() > 0 {
		m := n.Take()
		told = told || m.Left != nil
	}
	return is, told
}

// TestVoterLeaves: a successor has the key, the log and the vote before the
// leaver's vote goes; its membership goes last, and it is told.
func TestVoterLeaves(t *testing.T) {
	q := newQuorum(t)
	fourth := q.member(q.a, "n4", voterToo)
	q.a.beginLeave(q.second.node)
	q.a.beginLeave(q.second.node) // asking again changes nothing
	q.settle()
	q.wantLog("standby "+fourth.node.Short(), "wrap "+fourth.node.Short(), "voter "+fourth.node.Short(),
		"remove "+q.second.node.Short(), "renew")
	if is, _ := q.removed(q.second); is {
		t.Error("removed while packets are on their way to it")
	}
	q.after(LeaveLinger + time.Second)
	if is, told := q.removed(q.second); !is || !told {
		t.Errorf("removed %v, told %v", is, told)
	}
}

// TestVoterLeavesWithoutSuccessor: it goes all the same, and two voters that
// are left become one, for each of them could stop the mesh.
func TestVoterLeavesWithoutSuccessor(t *testing.T) {
	q := newQuorum(t)
	q.a.beginLeave(q.second.node)
	q.settle()
	q.wantLog("remove "+q.second.node.Short(), "renew", "demote "+q.third.node.Short())
	if voters := q.votes(); len(voters) != 1 || !voters[q.own] {
		t.Errorf("voters %v", voters)
	}
	// The next two that may vote make a pair with it again.
	q.member(q.a, "n4", voterToo)
	q.settle()
	if len(q.votes()) != 3 {
		t.Errorf("voters %v", q.votes())
	}
}

// TestLeaverKeepsItsVoteWhileItCarries: who holds a slice is no leaver yet, but
// the patience with it has an end.
func TestLeaverKeepsItsVoteWhileItCarries(t *testing.T) {
	q := newQuorum(t)
	live := q.session(q.a, 1, q.second.node)
	q.a.beginLeave(q.second.node)
	q.after(10 * time.Second)
	if !q.votes()[q.second.node] {
		t.Fatal("its vote went first")
	}
	live.State = registry.SessionEnded
	q.after(2 * time.Second)
	if q.votes()[q.second.node] {
		t.Error("it carries nothing and votes still")
	}
	live.State = registry.SessionActive // something came back to it: it lingers anew
	q.after(LeaveLinger)
	if is, _ := q.removed(q.second); is {
		t.Error("removed while it carries")
	}
	q.after(LeaveWithin)
	if is, _ := q.removed(q.second); !is {
		t.Error("it carries for ever")
	}
}

// TestLeaverIsWaitedForWhileItGivesAway: thousands of sessions take longer than one that
// cannot be moved is waited for, but not for ever. What comes and goes is no progress.
func TestLeaverIsWaitedForWhileItGivesAway(t *testing.T) {
	l, now := &leaver{least: 1000}, time.Duration(0)
	for left := 999; left > 990; left-- {
		now += LeaveWithin - time.Second
		if l.has(left, now); l.overdue(now) {
			t.Fatalf("removed while it gives away, %d are left", left)
		}
	}
	for range 10 {
		l.has(992, now)
		l.has(991, now)
		now += LeaveWithin / 10
	}
	if !l.overdue(now) {
		t.Error("sessions that nobody takes keep it for ever")
	}
	for now = 0; now < LeaveMost; now += time.Second {
		l.has(l.least-1, now)
	}
	if !l.overdue(now) {
		t.Error("it gives away for ever")
	}
}

// TestLeaverThatStopped is a drained member when it is back, not a leaver.
func TestLeaverThatStopped(t *testing.T) {
	q := newQuorum(t)
	q.a.beginLeave(q.second.node)
	delete(q.a.nodes, q.second.node)
	q.turn()
	if len(q.a.leavers) != 0 {
		t.Error("it is leaving still")
	}
	q.after(LeaveWithin)
	if is, _ := q.removed(q.second); is || !q.votes()[q.second.node] {
		t.Errorf("removed %v, voters %v", is, q.votes())
	}
	stranger := identity.NodeID{9}
	if q.a.beginLeave(stranger); len(q.a.leavers) != 0 {
		t.Error("a stranger is leaving")
	}
}

// TestArbiterLeaves: it finds its successor, never takes its own vote, and is
// removed by the arbiter after it.
func TestArbiterLeaves(t *testing.T) {
	q := newQuorum(t)
	fourth := q.member(q.a, "n4", voterToo)
	if !q.a.heirs(q.own) {
		t.Error("nobody could follow")
	}
	q.a.beginLeave(q.own)
	q.after(LeaveWithin + time.Second)
	q.wantLog("standby "+fourth.node.Short(), "wrap "+fourth.node.Short(), "voter "+fourth.node.Short())
	q.store.log = nil
	leaver := q.a.nodes[q.own]
	q.a = q.stillOn(q.trustOf(q.third.node))
	for _, n := range []*nodeStream{leaver, q.second, q.third, fourth} {
		q.connect(q.a, n.node)
	}
	q.commit(registry.Command{MovePart: &registry.MovePart{
		Prefix: q.store.state.Parts[0].Prefix, Epoch: 1, Egress: fourth.node}}) // as the arbitrator drains it
	q.a.beginLeave(q.own) // it asks the next arbiter
	q.settle()
	q.after(LeaveLinger + time.Second)
	q.wantLog("remove "+q.own.Short(), "renew")
	if is, told := q.removed(q.a.nodes[q.own]); !is || !told {
		t.Errorf("removed %v, told %v", is, told)
	}
}

// TestSoleVoterLeaves: one heir is enough to take the vote over.
func TestSoleVoterLeaves(t *testing.T) {
	f := newFixture(t)
	q := &quorum{fixture: f, a: f.still(), own: f.trust.Key.ID()}
	q.connect(q.a, q.own)
	if q.a.heirs(q.own) {
		t.Error("an heir where nobody else is")
	}
	q.member(q.a, "n2", dataRoles)
	if q.a.heirs(q.own) {
		t.Error("an heir that may not vote")
	}
	third := q.member(q.a, "n3", voterToo)
	if !q.a.heirs(q.own) {
		t.Error("no heir")
	}
	q.a.beginLeave(q.own)
	q.settle()
	q.wantLog("standby "+third.node.Short(), "wrap "+third.node.Short(), "voter "+third.node.Short())
	q.a.beginLeave(third.node)
	if q.a.heirs(q.own) {
		t.Error("an heir that is leaving too")
	}
}

// TestSilentVoterIsReplaced after 60 s that another node confirms: first its
// successor votes, then its own vote goes.
func TestSilentVoterIsReplaced(t *testing.T) {
	q := newQuorum(t)
	fourth := q.member(q.a, "n4", voterToo)
	q.silence(q.second, false)
	q.after(2 * VoterSilence)
	if len(q.store.log) != 0 {
		t.Fatalf("others hear it, and still: %v", q.store.log)
	}
	q.connect(q.a, q.second.node)
	q.turn()
	q.silence(q.second, true)
	q.after(VoterSilence - time.Second)
	if len(q.store.log) != 0 {
		t.Fatalf("after less than %v: %v", VoterSilence, q.store.log)
	}
	q.after(6 * time.Second)
	q.wantLog("standby "+fourth.node.Short(), "wrap "+fourth.node.Short(), "voter "+fourth.node.Short(),
		"remove "+q.second.node.Short(), "renew")
}

// TestSilentVoterStaysWithoutSuccessor: it may come back, and then the mesh can
// lose another one.
func TestSilentVoterStaysWithoutSuccessor(t *testing.T) {
	q := newQuorum(t)
	q.silence(q.second, true)
	q.after(10 * VoterSilence)
	q.wantLog()
}

// TestOneVoterAtATime: with one that leaves and one that is silent, each gets a
// successor before it goes, one after the other; turn watches the votes.
func TestOneVoterAtATime(t *testing.T) {
	q := newQuorum(t)
	fourth, fifth := q.member(q.a, "n4", voterToo), q.member(q.a, "n5", voterToo)
	q.silence(q.second, true)
	q.after(VoterSilence - 2*time.Second)
	q.a.beginLeave(q.third.node)
	q.after(10 * time.Second)
	q.settle()
	votes := q.votes()
	if len(votes) != 3 || !votes[q.own] || !votes[fourth.node] || !votes[fifth.node] {
		t.Errorf("voters %v", votes)
	}
	// Who leaves goes before who is merely silent.
	third := slices.Index(q.store.log, "remove "+q.third.node.Short())
	second := slices.Index(q.store.log, "remove "+q.second.node.Short())
	if third < 0 || second < third {
		t.Errorf("done: %v", q.store.log)
	}
}

// TestOneChangeAtATime: the next step waits for the outcome of the last.
func TestOneChangeAtATime(t *testing.T) {
	q := newQuorum(t)
	q.a.beginLeave(q.second.node)
	q.a.tendLeavers()
	q.a.tendElectorate()
	done := <-q.a.events
	if q.wantLog("remove " + q.second.node.Short()); !q.a.electing {
		t.Error("another change may begin")
	}
	q.a.tendElectorate()
	if len(q.a.events) != 0 {
		t.Error("another change began")
	}
	if done.apply(q.a); q.a.electing {
		t.Error("no other change may begin")
	}
}

// TestVotersAreCounted for the registry, whose headless time depends on it.
func TestVotersAreCounted(t *testing.T) {
	q := newQuorum(t)
	headless := func() (s uint64) {
		q.store.View(func(state *registry.State) { s = state.Headless() })
		return s
	}
	if q.turn(); q.store.state.Voters != 3 || headless() != registry.DefaultHeadless {
		t.Errorf("%d voters, headless %d s", q.store.state.Voters, headless())
	}
	q.a.pushViews()
	q.a.beginLeave(q.second.node)
	q.settle()
	if q.turn(); q.store.state.Voters != 1 || headless() != registry.HeadlessAlone {
		t.Errorf("%d voters, headless %d s", q.store.state.Voters, headless())
	}
	views(q.third)
	q.a.pushViews()
	if v := views(q.third); len(v) != 1 || v[0].Policy == nil || v[0].Policy.Headless != registry.HeadlessAlone {
		t.Errorf("nodes are told %+v", v)
	}
	// One count at a time is on its way.
	q.store.servers = q.store.servers[:1]
	q.store.state.Voters = 2
	q.a.countVoters()
	if q.a.countVoters(); len(q.a.proposals) != 1 {
		t.Errorf("%d counts are proposed", len(q.a.proposals))
	}
}

// heirs is Heir without the loop.
func (a *Arbiter) heirs(id identity.NodeID) bool {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	answer := make(chan bool, 1)
	go func() {
		found, err := a.Heir(ctx, id)
		answer <- found && err == nil
	}()
	(<-a.events).apply(a)
	return <-answer
}
