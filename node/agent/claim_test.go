package agent

import (
	"math"
	"net/netip"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/mesh/link"
	"github.com/meshcrypt/meshcrypt/mesh/link/linktest"
	"github.com/meshcrypt/meshcrypt/node/dataplane"
	"github.com/meshcrypt/meshcrypt/node/probe"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// claims gives the agent another node's claim of the moving address.
func (f *fixture) claims(from identity.Index, kind probe.ClaimKind, right probe.Right) {
	f.claimsBy(from, from, kind, right)
}

// claimsBy gives it one that a third node passed on.
func (f *fixture) claimsBy(by, from identity.Index, kind probe.ClaimKind, right probe.Right) {
	b := probe.Claim{From: from, Address: moving(), Kind: kind, Right: right}.Marshal(probeKey())
	f.ReceiveMarked(nil, link.Path{Remote: netip.AddrPortFrom(inside(by), inPort)}, dataplane.Marker{Type: dataplane.MarkerClaim}, b)
	f.pump()
}

// nodeAt is what a node's inside port gets.
func (f *fixture) nodeAt(index identity.Index) *linktest.Socket {
	f.Helper()
	s, err := f.sim.Listen(netip.AddrPortFrom(inside(index), inPort))
	f.ok(err)
	return s
}

// claimsAt are the claims that have arrived there.
func claimsAt(s *linktest.Socket) (all []probe.Claim) {
	buffer := make([]byte, link.MaxTrain)
	for {
		train, ok := s.TryReceive(buffer)
		if !ok {
			return all
		}
		if c, ok := probe.ParseClaim(buffer[:train.Len], probeKey()); ok {
			all = append(all, c)
		}
	}
}

// egressOf2 is the egress of a part at epoch 3 in a mesh with one voter.
func (f *fixture) egressOf2() *fixture {
	f.Helper()
	f.obey(5)
	v := f.view(3)
	v.Parts = []registry.Part{f.part(3, f.self(), idOf(2))}
	f.hear(&protocol.Node{View: v})
	f.pass(time.Second, 2, 3)
	f.holds("at first", true)
	return f
}

// takenOver is its second, which has taken over.
func takenOver(t *testing.T) *fixture {
	t.Helper()
	f := newFixture(t).second()
	f.pass(time.Second, 2, 3)
	f.pass((ProbeMisses+2)*TickEvery, 3)
	f.holds("after the takeover", true)
	return f
}

// TestLowerRightLetsGo: of two holders one, whoever hears of the other first.
func TestLowerRightLetsGo(t *testing.T) {
	for _, c := range []struct {
		name  string
		taken bool // this node took over; else it was given the part
		kind  probe.ClaimKind
		other probe.Right
		keeps bool
	}{
		{"a second that took over", false, probe.ClaimHolds, probe.Right{Incarnation: 1, Epoch: 3}, true},
		{"who had it before", false, probe.ClaimHolds, probe.Right{Incarnation: 1, Epoch: 2, Given: true}, true},
		{"who has it since", false, probe.ClaimHolds, probe.Right{Incarnation: 1, Epoch: 4, Given: true}, false},
		{"who took it over since", false, probe.ClaimHolds, probe.Right{Incarnation: 1, Epoch: 4}, false},
		{"a mesh that was recovered", false, probe.ClaimHolds, probe.Right{Incarnation: 2, Epoch: 1, Given: true}, false},
		{"who asks, of before", false, probe.ClaimAsks, probe.Right{Incarnation: 1, Epoch: 2, Given: true}, true},
		{"who asks, of a later word", false, probe.ClaimAsks, probe.Right{Incarnation: 1, Epoch: 4, Given: true}, false},
		{"the egress itself", true, probe.ClaimHolds, probe.Right{Incarnation: 1, Epoch: 3, Given: true}, false},
		{"the egress, which let go and asks", true, probe.ClaimAsks, probe.Right{Incarnation: 1, Epoch: 3, Given: true}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			var f *fixture
			if c.taken {
				f = takenOver(t)
			} else {
				f = newFixture(t).egressOf2()
			}
			f.pass(ClaimWord-TickEvery, 3) // no arbiter says more
			there := f.nodeAt(2)
			f.claims(2, c.kind, c.other)
			f.holds("after the claim", c.keeps)
			answers := claimsAt(there)
			if told := len(answers) == 1 && answers[0].Kind == probe.ClaimHolds && answers[0].Address == moving(); told != c.keeps {
				t.Errorf("answers %+v", answers)
			}
		})
	}
}

// TestOneOfEqualRightsLetsGo: whichever it is, both know.
func TestOneOfEqualRightsLetsGo(t *testing.T) {
	f := newFixture(t).egressOf2()
	equal := probe.Right{Incarnation: 1, Epoch: 3, Given: true}
	f.claims(2, probe.ClaimHolds, equal)
	f.holds("beside a higher index", true)
	f.Agent.config.Index = 3
	f.claims(2, probe.ClaimHolds, equal)
	f.holds("beside a lower index", false)
}

// TestRivalIsTold: who sees that another host answers for its address says at once by
// what right it has it, to every member, and not more often than that helps.
func TestRivalIsTold(t *testing.T) {
	f := newFixture(t).egressOf2()
	two, three := f.nodeAt(2), f.nodeAt(3)
	for range 20 {
		f.do(rivalSeen{moving()})
	}
	for _, there := range []*linktest.Socket{two, three} {
		all := claimsAt(there)
		if len(all) != 1 || all[0].Kind != probe.ClaimHolds || all[0].Right != (probe.Right{Incarnation: 1, Epoch: 3, Given: true}) {
			t.Errorf("told %+v", all)
		}
	}
	f.pass(ContestEvery, 2, 3)
	f.do(rivalSeen{moving()})
	if all := claimsAt(two); len(all) != 1 {
		t.Errorf("then %d times", len(all))
	}
	f.do(rivalSeen{inside(9)})
	f.holds("whatever strangers send", true)
}

// TestFloodOfRivals: anybody on the inside network can send an announcement with each
// packet; the loop hears of an address once a tick, and has room for all else.
func TestFloodOfRivals(t *testing.T) {
	f := newFixture(t).egressOf2()
	for range 2 * MaxEvents {
		f.Rival(moving())
		f.Rival(inside(9))
	}
	if n := len(f.events); n != 2 {
		t.Errorf("%d events for two addresses", n)
	}
	f.clock.Add(int64(TickEvery))
	if f.Rival(moving()); len(f.events) != 3 {
		t.Errorf("%d events a tick later", len(f.events))
	}
}

// TestRivalIsNamed: one that is no member does not answer, and goes on.
func TestRivalIsNamed(t *testing.T) {
	f := newFixture(t).egressOf2()
	named := func() bool { return len(f.rivals(f.Agent.config.Now())) > 0 }
	f.do(rivalSeen{moving()})
	if f.pass(time.Second, 2, 3); named() {
		t.Error("named at once: it may be a member that is about to let go")
	}
	f.pass(RivalAfter, 2, 3)
	if f.do(rivalSeen{moving()}); !named() {
		t.Error("not named")
	}
	if f.pass(RivalGap+TickEvery, 2, 3); named() {
		t.Error("named when it is gone")
	}
}

// TestEgressHeardAgainIsContested: a second that took over and hears the egress again
// tells it, without waiting for either's announcement.
func TestEgressHeardAgainIsContested(t *testing.T) {
	f := takenOver(t)
	there := f.nodeAt(2)
	f.pass(2*TickEvery, 2, 3)
	if all := claimsAt(there); len(all) != 1 || all[0].Right != (probe.Right{Incarnation: 1, Epoch: 3}) {
		t.Errorf("told %+v", all)
	}
}

// TestFormerEgressIsTold: an arbiter gave its part to this node, which does not hear it, and
// it hears no arbiter. It goes on to be told until it has one.
func TestFormerEgressIsTold(t *testing.T) {
	f := takenOver(t)
	v := f.view(3)
	v.Nodes[1].Up = false
	v.Parts = []registry.Part{f.part(4, f.self(), idOf(3))}
	f.hear(&protocol.Node{View: v})
	there := f.nodeAt(2)
	f.pass(3*ContestEvery, 3)
	if all := claimsAt(there); len(all) != 3 || all[0].Right != (probe.Right{Incarnation: 1, Epoch: 4, Given: true}) || all[0].Kind != probe.ClaimHolds {
		t.Errorf("told %+v", all)
	}
	v.Nodes[1].Up = true
	f.hear(&protocol.Node{View: v})
	f.pass(3*ContestEvery, 3)
	if all := claimsAt(there); len(all) != 0 {
		t.Errorf("told by its arbiter, it was told %+v", all)
	}
}

// TestCededIsNotTakenAgain, before its holder had time to be heard by probes too.
func TestCededIsNotTakenAgain(t *testing.T) {
	f := takenOver(t)
	f.do(streamLost{f.Agent.stream})
	f.claims(2, probe.ClaimHolds, probe.Right{Incarnation: 1, Epoch: 3, Given: true})
	f.pass(TakeoverHold-2*TickEvery, 3)
	f.holds("shortly after", false)
	f.sound = newSoundness(f.Agent.config.Now()) // no path test came out of this fixture
	f.pass(4*TickEvery, 3)
	f.holds("of an egress that is silent still", true)
}

// TestLapsedAsks: who let go asks whose the part is, and takes it back only when nobody
// says so; a claim of somebody else's counts as long as it is repeated.
func TestLapsedAsks(t *testing.T) {
	f := cutOffEgress(t)
	there := f.nodeAt(3)
	for begin := f.clock.Load(); f.clock.Load()-begin < int64(2*ResumeAfter); {
		f.pass(LoadTicks*TickEvery, 2, 3)
		f.claims(3, probe.ClaimHolds, probe.Right{Incarnation: 1, Epoch: 4, Given: true})
	}
	f.holds("while another holds it", false)
	if all := claimsAt(there); len(all) < 3 || all[0].Kind != probe.ClaimAsks {
		t.Errorf("asked %+v", all)
	}
	f.pass(ResumeAfter+TickEvery, 2, 3)
	f.holds("when nobody says so any more", true)
}

// TestOldClaimsHoldUpNobody: a claim of before the arbiter's last word is no holder's, or
// one of a holder that will let go; anybody who heard it once can send it again.
func TestOldClaimsHoldUpNobody(t *testing.T) {
	f := cutOffEgress(t)
	for begin := f.clock.Load(); f.clock.Load()-begin < int64(ResumeAfter+4*TickEvery); {
		f.pass(TickEvery, 2, 3)
		f.claims(3, probe.ClaimHolds, probe.Right{Incarnation: 1, Epoch: 2, Given: true})
	}
	f.holds("whatever was true once", true)
}

// TestReliefIsNotContested: who took a part from a node that does not forward keeps it,
// and that node does not claim it.
func TestReliefIsNotContested(t *testing.T) {
	f := takenOver(t)
	f.Agent.view.parts[f.part(3, idOf(2), f.self()).Prefix].relieved = true
	f.claims(2, probe.ClaimHolds, probe.Right{Incarnation: 1, Epoch: 3, Given: true})
	f.holds("the relieved one claims it", true)
	g := newFixture(t).egressOf2()
	there := g.nodeAt(2)
	g.sound.is = protocol.Broken
	g.do(rivalSeen{moving()})
	g.claims(2, probe.ClaimHolds, probe.Right{Incarnation: 1, Epoch: 3})
	if all := claimsAt(there); len(all) != 0 {
		t.Errorf("claims %+v", all)
	}
}

// TestClaimsOfStrangers are counted, and move nothing.
func TestClaimsOfStrangers(t *testing.T) {
	f := newFixture(t).egressOf2()
	f.claims(9, probe.ClaimHolds, probe.Right{Incarnation: 9, Epoch: 9, Given: true})
	f.holds("a stranger claims it", true)
	if n := f.Rejects()["claim-refused"]; n != 1 {
		t.Errorf("counted %d", n)
	}
}

// TestRestoredMeshDecides: a registry that was put back to before a part moved says whose
// the part is in a lower epoch, and is obeyed; an arbiter of the same mesh that says so is
// late.
func TestRestoredMeshDecides(t *testing.T) {
	for incarnation, keeps := range map[uint64]bool{1: true, 2: false} {
		f := newFixture(t).egressOf2()
		f.open()
		f.hear(&protocol.Node{Fence: &protocol.Fence{Incarnation: incarnation, Term: 6}})
		v := f.view(3)
		v.Parts = []registry.Part{f.part(2, idOf(2), f.self())}
		f.hear(&protocol.Node{View: v})
		f.holds("after that", keeps)
	}
}

// TestLiarsClaims: a claim above what an arbiter gave moves nothing while that one
// speaks, and is not answered.
func TestLiarsClaims(t *testing.T) {
	f := newFixture(t).egressOf2()
	there := f.nodeAt(2)
	f.hear(&protocol.Node{Alive: &protocol.Alive{}})
	for _, kind := range []probe.ClaimKind{probe.ClaimHolds, probe.ClaimAsks} {
		f.claims(2, kind, probe.Right{Incarnation: 1, Epoch: math.MaxUint64, Given: true})
		f.claims(2, kind, probe.Right{Incarnation: 2, Given: true})
	}
	f.holds("an arbiter speaks", true)
	if all := claimsAt(there); len(all) != 0 {
		t.Errorf("answers %+v", all)
	}
	if n := f.Rejects()["claim-doubted"]; n != 4 {
		t.Errorf("counted %d", n)
	}
}

// TestDoubtedIsAskedAgain: an arbiter that is not heard any more has given the part away. Who
// said so too early is asked as soon as it can be believed, and nobody while an arbiter speaks.
func TestDoubtedIsAskedAgain(t *testing.T) {
	f := newFixture(t).egressOf2()
	there := f.nodeAt(2)
	claim := func() { f.claims(2, probe.ClaimHolds, probe.Right{Incarnation: 1, Epoch: 4, Given: true}) }
	for range 2 * ClaimWord / TickEvery {
		f.hear(&protocol.Node{Alive: &protocol.Alive{}})
		claim()
		f.pass(TickEvery, 2, 3)
	}
	f.sound = newSoundness(f.Agent.config.Now()) // no path test came out of this fixture
	f.pass(ClaimWord-2*TickEvery, 2, 3)
	claim()
	f.holds("its word may be on the way", true)
	if all := claimsAt(there); len(all) != 0 {
		t.Errorf("asked while an arbiter speaks: %+v", all)
	}
	f.pass(2*TickEvery, 2, 3)
	if all := claimsAt(there); len(all) == 0 || all[0].Kind != probe.ClaimAsks {
		t.Fatalf("then it says %+v", all)
	}
	claim()
	f.holds("when that is answered", false)
	g := newFixture(t).egressOf2()
	there = g.nodeAt(2)
	if g.pass(WordLate-3*TickEvery, 2, 3); len(claimsAt(there)) != 0 {
		t.Error("asked although nobody claimed anything")
	}
}

// TestRecoveredMeshIsProven: an arbiter that was left behind speaks on, and the claim of
// a mesh that was recovered elsewhere counts once that one's arbiter has signed for it.
func TestRecoveredMeshIsProven(t *testing.T) {
	f := newFixture(t).egressOf2()
	proven := uint64(1)
	f.Agent.config.Recovered = func(by protocol.NodeRow, incarnation uint64) bool {
		return by.ID == idOf(2) && incarnation <= proven
	}
	for _, c := range []struct {
		when   string
		proven uint64
		keeps  bool
	}{{"before", 1, true}, {"of another one", 2, true}, {"of this one", 3, false}} {
		proven = c.proven
		f.hear(&protocol.Node{Alive: &protocol.Alive{}})
		f.claims(2, probe.ClaimHolds, probe.Right{Incarnation: 3, Epoch: 1, Given: true})
		f.holds(c.when, c.keeps)
	}
}

// TestLiarHoldsNothingUp: who ceded while no arbiter spoke asks the next word of one, and
// goes by its answer whatever is claimed.
func TestLiarHoldsNothingUp(t *testing.T) {
	f := newFixture(t).egressOf2()
	f.pass(ClaimWord, 2, 3)
	lie := func() { f.claims(2, probe.ClaimHolds, probe.Right{Incarnation: 1, Epoch: 9, Given: true}) }
	before := f.footing.losses
	lie()
	f.holds("its word is late", false)
	for range LoadTicks {
		f.pass(TickEvery, 2, 3)
		lie()
	}
	asked := saying(f, func(m *protocol.Node) *protocol.Assure { return m.Assure })
	if len(asked) == 0 {
		t.Fatal("the arbiter is not asked")
	}
	f.assures("by an answer of before", before, false)
	f.assures("by its answer", asked[0].Number, true)
	lie()
	f.holds("since then", true)
}
