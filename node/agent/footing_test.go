package agent

import (
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/node/probe"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// TestFooting: what was heard decides, and when.
func TestFooting(t *testing.T) {
	const none, answer, word, sure = 0, 1, 2, 3
	for _, c := range []struct {
		name   string
		quorum bool
		ticks  []int // what was heard ahead of each
		want   foothold
	}{
		{"a node answers", true, []int{answer, answer, answer}, firm},
		{"one answer was missed", true, []int{answer, none}, firm},
		{"nothing is heard", true, []int{answer, none, none}, lost},
		{"an arbiter spoke just now", true, []int{answer, none, word}, worded},
		{"an arbiter spoke before the silence", true, []int{word, answer, none, none}, lost},
		{"an arbiter's word arrives later", true, []int{answer, none, none, none, word}, lost},
		{"an arbiter answers", true, []int{answer, none, none, none, sure}, worded},
		{"an arbiter goes on speaking", true, []int{none, word, none, none, none, word, none, none, none, none}, worded},
		{"an arbiter spoke once", true, []int{none, word, 15: none}, worded},
		{"an arbiter spoke long ago", true, []int{none, word, 17: none}, lost},
		{"a node answers again", true, []int{answer, none, none, none, answer}, firm},
		{"less than three vote", false, []int{answer, 20: none}, firm},
	} {
		t.Run(c.name, func(t *testing.T) {
			var f footing
			now := time.Hour
			for _, heard := range c.ticks {
				now += TickEvery
				switch heard {
				case answer:
					f.answer()
				case word:
					f.word(now)
				case sure:
					f.sure(now)
				}
				f.judge(now, c.quorum)
			}
			if f.is != c.want {
				t.Errorf("is %d, want %d", f.is, c.want)
			}
		})
	}
}

// TestFootingAfterAPause: a process that stood still has not heard that nothing came.
func TestFootingAfterAPause(t *testing.T) {
	var f footing
	f.answer()
	f.judge(time.Hour, true)
	for _, at := range []time.Duration{time.Hour + time.Second, time.Hour + time.Second + 1} {
		if f.judge(at, true); f.is == lost {
			t.Error("lost at the first tick after a pause")
		}
	}
}

// voting is a view of count nodes of which the first three vote.
func (f *fixture) voting(count int) *protocol.View {
	v := f.view(count)
	for i := range v.Nodes[:3] {
		v.Nodes[i].Voter = true
	}
	return v
}

// egressOf3 is the egress of a part whose second is node 2, in a mesh of three voters.
func (f *fixture) egressOf3() *fixture {
	f.Helper()
	f.obey(5)
	v := f.voting(3)
	v.Parts = []registry.Part{f.part(3, f.self(), idOf(2))}
	f.hear(&protocol.Node{View: v})
	f.pass(time.Second, 2, 3)
	f.holds("at first", true)
	return f
}

func (f *fixture) holds(when string, want bool) {
	f.Helper()
	if f.host.held[moving()] != want {
		f.Fatalf("%s: holds the inside address: %v", when, !want)
	}
}

// TestLetsGoBeforeTheSecondTakesOver: an egress that hears nobody has let go when its
// second, which last heard it at the same moment, takes over.
func TestLetsGoBeforeTheSecondTakesOver(t *testing.T) {
	egress := newFixture(t).egressOf3()
	second := newFixture(t)
	second.obey(5)
	v := second.voting(3)
	v.Parts = []registry.Part{second.part(3, idOf(2), second.self())}
	second.hear(&protocol.Node{View: v})
	second.pass(time.Second, 2, 3)
	for tick := 1; !second.host.held[moving()]; tick++ {
		if tick > 10 {
			t.Fatal("the second never took over")
		}
		egress.pass(TickEvery)
		second.pass(TickEvery, 3)
		if egress.host.held[moving()] && second.host.held[moving()] {
			t.Errorf("both hold the address %v after the cut", time.Duration(tick)*TickEvery)
		}
	}
	egress.holds("cut off", false)
}

// cutOffEgress has let go.
func cutOffEgress(t *testing.T) *fixture {
	t.Helper()
	f := newFixture(t).egressOf3()
	f.pass((LetGoMisses + 1) * TickEvery)
	f.holds("cut off", false)
	if !f.Agent.probes.lost.Load() {
		t.Error("clients are not told that nothing goes on from here")
	}
	return f
}

// TestResumes: what was let go is taken back when no other node can have it.
func TestResumes(t *testing.T) {
	t.Run("nobody has taken it", func(t *testing.T) {
		f := cutOffEgress(t)
		f.pass(2*TickEvery, 2, 3)
		if f.Agent.probes.lost.Load() {
			t.Error("clients are still told to leave")
		}
		f.holds("before an arbiter had time to answer", false)
		f.pass(ResumeAfter, 2, 3)
		f.holds("heard again", true)
	})
	t.Run("the second is gone", func(t *testing.T) {
		f := cutOffEgress(t)
		f.pass(ResumeAfter+2*TickEvery, 3)
		f.holds("without a second", true)
	})
}

// TestResumesByTheArbiter: a word that may have waited on the way gives nothing back, an
// answer does.
func TestResumesByTheArbiter(t *testing.T) {
	t.Run("the present stream", func(t *testing.T) {
		f := cutOffEgress(t)
		f.hear(&protocol.Node{Alive: &protocol.Alive{}})
		f.pass(LoadTicks * TickEvery)
		f.holds("by a word that may have waited", false)
		asked := saying(f, func(m *protocol.Node) *protocol.Assure { return m.Assure })
		if len(asked) == 0 {
			t.Fatal("the arbiter is not asked")
		}
		f.assures("by an answer from before", asked[0].Number-1, false)
		f.assures("by the arbiter's answer", asked[0].Number, true)
	})
	t.Run("the arbiter on this host", func(t *testing.T) {
		f := cutOffEgress(t)
		f.Agent.view.arbiter = f.self()
		f.assures("before its lease can be over", f.footing.losses, false)
		f.pass(WordLate)
		f.assures("after that", f.footing.losses, true)
		f.do(streamLost{f.Agent.stream})
		f.pass(TickEvery)
		f.holds("without a majority", false)
	})
	t.Run("a new stream", func(t *testing.T) {
		f := cutOffEgress(t)
		f.obey(6)
		f.hear(&protocol.Node{Standby: &protocol.Standby{}})
		f.pass(TickEvery)
		f.holds("before the view", false)
		v := f.voting(3)
		v.Parts = []registry.Part{f.part(3, f.self(), idOf(2))}
		f.hear(&protocol.Node{View: v})
		f.pass(TickEvery)
		f.holds("by the view", true)
	})
}

// assures gives the agent an arbiter's answer.
func (f *fixture) assures(how string, number uint64, held bool) {
	f.Helper()
	f.hear(&protocol.Node{Assure: &protocol.Assure{Number: number}})
	f.pass(TickEvery)
	f.holds(how, held)
}

// TestUnheardEgressLetsGo: an egress that hears all and is heard by none learns from its
// second that this took over, long before the arbiter, whose word still arrives, can know.
func TestUnheardEgressLetsGo(t *testing.T) {
	second := newFixture(t).second()
	second.pass(time.Second, 2, 3)
	there := second.nodeAt(2)
	second.pass((ProbeMisses+2)*TickEvery, 3)
	told := claimsAt(there)
	if len(told) != 1 || told[0].Kind != probe.ClaimHolds {
		t.Fatalf("the second tells %+v when it takes over", told)
	}
	second.pass(ContestEvery, 3)
	if again := claimsAt(there); len(again) != 1 {
		t.Errorf("then %d times in %v", len(again), ContestEvery)
	}
	f := newFixture(t).egressOf3()
	f.claims(2, told[0].Kind, told[0].Right)
	f.pass(TickEvery, 2)
	f.holds("while a node answers", true)
	for range LetGoMisses + 2 {
		f.hear(&protocol.Node{Alive: &protocol.Alive{}})
		f.pass(TickEvery)
	}
	f.holds("by the arbiter's word", true)
	f.claims(2, probe.ClaimHolds, probe.Right{Incarnation: 1, Epoch: 2}) // of an earlier takeover
	f.hear(&protocol.Node{Alive: &protocol.Alive{}})
	f.pass(TickEvery)
	f.holds("by the arbiter's word, which is newer than an old claim", true)
	f.claims(2, told[0].Kind, told[0].Right)
	f.hear(&protocol.Node{Alive: &protocol.Alive{}})
	f.pass(TickEvery)
	f.holds("when its second says that it took over", false)
	f.assures("by an answer from before that", f.footing.losses-1, false)
	f.assures("by the arbiter's answer", f.footing.losses, true)
}

// TestWordOfAnEndedTerm: an arbiter on this host that spoke a moment ago had no majority.
func TestWordOfAnEndedTerm(t *testing.T) {
	f := newFixture(t).egressOf3()
	f.Agent.view.arbiter = f.self()
	f.pass(LetGoMisses * TickEvery)
	f.hear(&protocol.Node{Alive: &protocol.Alive{}})
	f.do(streamLost{f.Agent.stream})
	f.pass(TickEvery)
	f.holds("at the second tick without an answer", false)
}

// TestTakerLetsGo: a second that took over and is cut off then lets go as well.
func TestTakerLetsGo(t *testing.T) {
	f := newFixture(t)
	f.obey(5)
	v := f.voting(3)
	v.Parts = []registry.Part{f.part(3, idOf(2), f.self())}
	f.hear(&protocol.Node{View: v})
	f.pass(time.Second, 2, 3)
	f.pass((ProbeMisses+2)*TickEvery, 3)
	f.holds("the egress is silent", true)
	f.pass((LetGoMisses + 2) * TickEvery)
	f.holds("all are silent", false)
}

// TestTwoHostsKeep: with one voter the survivor cannot tell, and goes on.
func TestTwoHostsKeep(t *testing.T) {
	f := newFixture(t)
	f.obey(5)
	v := f.view(2)
	v.Nodes[1].Voter = true
	v.Parts = []registry.Part{f.part(3, f.self(), idOf(2))}
	f.hear(&protocol.Node{View: v})
	f.pass(time.Second, 2)
	f.do(streamLost{f.Agent.stream})
	f.pass(time.Minute)
	f.holds("alone", true)
}

// TestEgressProbesTheVoters: who probes one node alone takes that one's death for its own.
func TestEgressProbesTheVoters(t *testing.T) {
	f := newFixture(t).egressOf3()
	f.pass(time.Second, 3)
	f.holds("only the second is gone", true)
}

// TestQuorum: of two voters neither can tell whether it is the one that is cut off, so
// each goes on.
func TestQuorum(t *testing.T) {
	f := newFixture(t)
	f.obey(5)
	v := f.voting(3)
	f.hear(&protocol.Node{View: v})
	if !f.quorum() {
		t.Error("three voters are none")
	}
	v = f.voting(3)
	v.Nodes[2].Voter = false
	if f.hear(&protocol.Node{View: v}); f.quorum() {
		t.Error("two voters are one")
	}
}

// TestResumedIsClaimed: who took the part over meanwhile has another announcement of the
// address to wait for otherwise, for more than a second.
func TestResumedIsClaimed(t *testing.T) {
	f := cutOffEgress(t)
	second := f.nodeAt(2)
	f.pass(TickEvery)
	f.hear(&protocol.Node{Assure: &protocol.Assure{Number: f.footing.losses}})
	f.pass(TickEvery)
	f.holds("by the arbiter's answer", true)
	for _, c := range claimsAt(second) {
		if c.Kind == probe.ClaimHolds && c.Right == (probe.Right{Incarnation: 1, Epoch: 3, Given: true}) {
			return
		}
	}
	t.Error("the second is not told")
}
