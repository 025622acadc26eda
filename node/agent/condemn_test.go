package agent

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/esp"
	"github.com/meshcrypt/meshcrypt/mesh/link"
	"github.com/meshcrypt/meshcrypt/mesh/link/linktest"
	"github.com/meshcrypt/meshcrypt/node/dataplane"
	"github.com/meshcrypt/meshcrypt/node/probe"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// pairOfNodes is node 1, agent of a client's slice 0, and node 2, egress of
// its session. Slice 1 is a third node's.
type pairOfNodes struct {
	*customer          // at the agent
	egress    *fixture // node 2
	row       protocol.RouteRow
}

func newPairOfNodes(t *testing.T) *pairOfNodes {
	sim := linktest.New(1)
	agent, egress := newFixtureIn(t, sim, 1), newFixtureIn(t, sim, 2)
	for _, f := range []*fixture{agent, egress} {
		f.obey(5)
		v := f.view(3)
		v.Nodes[0].ID, v.Nodes[1].ID = agent.self(), egress.self()
		v.Parts = []registry.Part{f.part(3, egress.self(), idOf(3))}
		f.hear(&protocol.Node{View: v})
	}
	c := agent.customer(agent.offered()[0], nil).up()
	p := &pairOfNodes{customer: c, egress: egress, row: protocol.RouteRow{
		Session: registry.SessionID(c.grant.Session), Leases: c.grant.Leases, Mode: registry.ModeBurst,
		Slices: []protocol.RouteSlice{
			{Number: 0, Epoch: 1, Agent: 1, SPI: c.grant.SPI, Weight: 5},
			{Number: 1, Epoch: 1, Agent: 3, SPI: esp.MakeSPI(3, 1), Weight: 7},
		},
	}}
	egress.hear(&protocol.Node{View: &protocol.View{Routes: []protocol.RouteRow{p.row}}})
	return p
}

// weights is the way down as the egress has it.
func (p *pairOfNodes) weights() [2]uint32 {
	w := p.egress.engineTable().Routes.Get(p.grant.Leases[0]).Set.Weights
	return [2]uint32{w[0], w[1]}
}

// say is the client's verdict inside its slice; the agent has obeyed it on
// return.
func (p *pairOfNodes) say(number uint8, epoch uint32) {
	p.Helper()
	told := &p.slices.byKey[p.sliceKey()].told
	before := told.spent
	p.ok(p.pair.SendControl(append([]byte{probe.KindVerdict}, probe.VerdictBody(number, epoch)...)))
	p.until("the agent has the verdict", func() bool { return told.spent > before })
}

// TestVerdictReachesTheEgress: the agent that hears a client's verdict tells
// the egress, which acts on it without a tick passing (design 8).
func TestVerdictReachesTheEgress(t *testing.T) {
	p := newPairOfNodes(t)
	if p.weights() != [2]uint32{5, 7} {
		t.Fatalf("weights %v", p.weights())
	}
	p.say(1, 1)
	p.egress.until("the egress has the verdict", func() bool { return p.weights() == [2]uint32{5, 0} })
	if p.egress.changes.any() {
		t.Error("the packet engine was not told")
	}
	p.row.Slices = slices.Clone(p.row.Slices) // what was heard stays as it is
	p.row.Slices[1].Epoch = 2
	p.egress.hear(&protocol.Node{View: &protocol.View{Routes: []protocol.RouteRow{p.row}}})
	if p.weights() != [2]uint32{5, 7} || len(p.egress.Agent.view.silent) != 0 {
		t.Errorf("a verdict outlives its epoch: %v", p.weights())
	}
}

// TestVerdictGoesToEgressAndSecond, once each, and never from the egress on.
func TestVerdictGoesToEgressAndSecond(t *testing.T) {
	p := newPairOfNodes(t)
	third, err := p.sim.Listen(netip.AddrPortFrom(inside(3), inPort))
	p.ok(err)
	p.say(1, 1)
	p.egress.until("the egress has the verdict", func() bool { return p.weights()[1] == 0 })
	count, buffer := 0, make([]byte, link.MaxTrain)
	for {
		train, ok := third.TryReceive(buffer)
		if !ok {
			break
		}
		v, ok := probe.ParseSliceVerdict(buffer[:train.Len], probeKey())
		if !ok {
			continue // node probes
		}
		count++
		if train.Path.Remote.Addr() != inside(1) || v.Over != p.grant.SPI || v.Number != 1 || v.Epoch != 1 {
			t.Errorf("%+v from %v", v, train.Path.Remote)
		}
	}
	if count != 1 {
		t.Errorf("the second heard it %d times, once from the agent is right", count)
	}
}

// passed lets a verdict come from an inside address.
func (f *fixture) passed(from netip.Addr, datagram []byte) {
	f.ReceiveMarked(nil, link.Path{Remote: netip.AddrPortFrom(from, inPort)}, dataplane.Marker{Type: dataplane.MarkerVerdict}, datagram)
	f.pump()
}

// TestVerdictsThatChangeNothing: of nobody, of a node that holds no slice of
// the session, of another's address, about what is not there.
func TestVerdictsThatChangeNothing(t *testing.T) {
	p := newPairOfNodes(t)
	good := probe.SliceVerdict{Over: p.grant.SPI, Session: p.grant.Session, Number: 1, Epoch: 1}
	edit := func(change func(*probe.SliceVerdict)) []byte {
		v := good
		change(&v)
		return v.Marshal(probeKey())
	}
	for _, c := range []struct {
		name, reason string
		from         netip.Addr
		datagram     []byte
	}{
		{"not authentic", "verdict-refused", inside(1), good.Marshal([]byte("another key"))},
		{"cut short", "verdict-refused", inside(1), good.Marshal(probeKey())[:40]},
		{"from the address of another node", "verdict-foreign", inside(3), good.Marshal(probeKey())},
		{"from nobody's address", "verdict-foreign", netip.MustParseAddr("10.0.0.99"), good.Marshal(probeKey())},
		{"from the path test's address", "verdict-foreign", netip.MustParseAddr("10.77.0.1"), good.Marshal(probeKey())},
		{"over a slice that the session does not have", "verdict-foreign", inside(1),
			edit(func(v *probe.SliceVerdict) { v.Over++ })},
		{"over a slice of a node that is no member", "verdict-foreign", inside(1),
			edit(func(v *probe.SliceVerdict) { v.Over = esp.MakeSPI(9, 1) })},
		{"about a session without a route here", "verdict-foreign", inside(1),
			edit(func(v *probe.SliceVerdict) { v.Session[0] = 77 })},
		{"about the very slice it came over", "verdict-foreign", inside(1),
			edit(func(v *probe.SliceVerdict) { v.Number = 0 })},
		{"about an epoch that is not routed", "", inside(1),
			edit(func(v *probe.SliceVerdict) { v.Epoch = 2 })},
	} {
		before := p.egress.Rejects()
		p.egress.passed(c.from, c.datagram)
		after := p.egress.Rejects()
		if c.reason != "" && after[c.reason] != before[c.reason]+1 {
			t.Errorf("%s: rejects %v, then %v", c.name, before, after)
		}
		if p.weights() != [2]uint32{5, 7} || len(p.egress.Agent.view.silent) != 0 {
			t.Fatalf("%s: weights %v, %d verdicts kept", c.name, p.weights(), len(p.egress.Agent.view.silent))
		}
	}
	p.egress.passed(inside(1), good.Marshal(probeKey()))
	if p.weights() != [2]uint32{5, 0} {
		t.Error("the good one changes nothing either")
	}
}

// TestStrangersVerdictNeverArrives: from no node's address the packet engine
// drops it, from the outer network too.
func TestStrangersVerdictNeverArrives(t *testing.T) {
	p := newPairOfNodes(t)
	b := probe.SliceVerdict{Over: p.grant.SPI, Session: p.grant.Session, Number: 1, Epoch: 1}.Marshal(probeKey())
	stranger, err := p.sim.Listen(netip.AddrPortFrom(netip.MustParseAddr("10.0.0.99"), inPort))
	p.ok(err)
	p.ok(stranger.Send(b, len(b), link.Path{Remote: netip.AddrPortFrom(inside(2), inPort)}))
	p.ok(p.Agent.config.Outer.Send(b, len(b), link.Path{Remote: outer(2)}))
	dropped := func() uint64 {
		var n uint64
		for _, d := range p.egress.Agent.config.Engine.Stats().Dropped {
			n += d
		}
		return n
	}
	p.egress.until("both are dropped", func() bool { return dropped() == 2 })
	if p.weights() != [2]uint32{5, 7} {
		t.Errorf("weights %v", p.weights())
	}
}

// condemnedPair is two nodes, of whose slices the egress leaves the first out by a verdict.
func condemnedPair(t *testing.T) *pairOfNodes {
	t.Helper()
	p := newPairOfNodes(t)
	p.egress.passed(inside(3), probe.SliceVerdict{
		Over: esp.MakeSPI(3, 1), Session: p.grant.Session, Number: 0, Epoch: 1,
	}.Marshal(probeKey()))
	if p.weights() != [2]uint32{0, 7} {
		t.Fatalf("weights %v", p.weights())
	}
	return p
}

// TestWhoSpeaksIsAlive: a verdict over a slice that was condemned before takes
// it back, or two verdicts that cross would leave no way down.
func TestWhoSpeaksIsAlive(t *testing.T) {
	p := condemnedPair(t)
	p.say(1, 1)
	p.egress.until("the speaker is used again", func() bool { return p.weights() == [2]uint32{5, 0} })
}

// TestVouching: a verdict about no epoch takes back what was said of the slice that it comes over,
// of which the client has heard again and which is granted to nobody else.
func TestVouching(t *testing.T) {
	p := condemnedPair(t)
	p.say(0, 0)
	p.egress.until("the speaker is used again", func() bool { return p.weights() == [2]uint32{5, 7} })
}

// TestMaxVerdicts: a client cannot make its agent flood the inside network.
func TestMaxVerdicts(t *testing.T) {
	p := newPairOfNodes(t)
	said := func(n int) {
		for range n {
			p.do(clientVerdict{p.sliceKey(), probe.VerdictBody(1, 9)})
		}
	}
	said(MaxVerdicts)
	if n := p.Rejects()["verdict-often"]; n != 0 {
		t.Fatalf("%d refused below the limit", n)
	}
	said(3)
	if n := p.Rejects()["verdict-often"]; n != 3 {
		t.Errorf("I10: %d of 3 refused beyond the limit", n)
	}
	p.clock.Add(int64(VerdictWindow))
	said(1)
	if n := p.Rejects()["verdict-often"]; n != 3 {
		t.Error("the next window has no room")
	}
	p.do(clientVerdict{p.sliceKey(), probe.VerdictBody(0, 1)})
	p.do(clientVerdict{p.sliceKey(), []byte{1}})
	p.do(clientVerdict{sliceKey{}, probe.VerdictBody(1, 1)})
	if n := p.Rejects()["verdict-refused"]; n != 3 {
		t.Errorf("%d refused, want the one about itself, the short one and the one of nobody", n)
	}
}
