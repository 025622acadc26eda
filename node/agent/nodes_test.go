package agent

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/mesh/link"
	"github.com/meshcrypt/meshcrypt/node/dataplane"
	"github.com/meshcrypt/meshcrypt/node/probe"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

func moving() netip.Addr { return netip.MustParseAddr("10.0.0.200") }

// part is the pool's one part, in both families.
func (f *fixture) part(epoch uint64, egress, second identity.NodeID) registry.Part {
	return registry.Part{
		Prefix: netip.MustParsePrefix("10.77.0.0/24"), Inside: moving(), Egress: egress, Second: second, Epoch: epoch,
		Other: registry.Range{Prefix: netip.MustParsePrefix("fd77::/66")},
	}
}

func (f *fixture) self() identity.NodeID { return f.Agent.config.Key.ID() }

// second makes this node the second of node 2 in a mesh of three.
func (f *fixture) second() *fixture {
	f.obey(5)
	v := f.view(3)
	v.Parts = []registry.Part{f.part(3, idOf(2), f.self())}
	v.Routes = []protocol.RouteRow{{Session: registry.SessionID{1}, Slices: []protocol.RouteSlice{{Agent: 3, Weight: 1}}}}
	f.hear(&protocol.Node{View: v})
	return f
}

// pass lets time pass while those nodes answer.
func (f *fixture) pass(d time.Duration, answering ...identity.Index) {
	for ; d > 0; d -= TickEvery {
		f.advance(TickEvery)
		for _, ix := range answering {
			f.answer(ix, probe.TypeNode)
		}
	}
}

func takeovers(m *protocol.Node) *protocol.TakeOver { return m.TakeOver }

func TestSecondTakesOver(t *testing.T) {
	const long = (ProbeMisses + 2) * TickEvery
	for _, c := range []struct {
		name  string
		play  func(*fixture)
		taken bool
	}{
		{"the egress is silent", func(f *fixture) { f.pass(time.Second, 2, 3); f.pass(long, 3) }, true},
		{"the egress answers", func(f *fixture) { f.pass(time.Second, 2, 3); f.pass(long, 2, 3) }, false},
		{"everybody is silent: this node is cut off", func(f *fixture) { f.pass(time.Second, 2, 3); f.pass(long) }, false},
		{"it hears others again, and the egress a moment later", func(f *fixture) {
			f.pass(time.Second, 2, 3)
			f.do(streamLost{f.Agent.stream})
			f.pass(long)
			f.pass(2*TickEvery, 3)
			f.pass(TickEvery, 2, 3)
		}, false},
		{"it hears others again, and no egress", func(f *fixture) {
			f.pass(time.Second, 2, 3)
			f.pass(long)
			f.pass(long, 3)
		}, true},
		{"the egress was never heard, by the arbiter either", func(f *fixture) {
			gone := f.view(3).Nodes[1]
			gone.Up = false
			f.hear(&protocol.Node{View: &protocol.View{Nodes: []protocol.NodeRow{gone}}})
			for range 2 * AbsentAfter / TickEvery {
				f.hear(&protocol.Node{Alive: &protocol.Alive{}})
				f.pass(TickEvery, 3)
			}
		}, true},
		{"the egress was never heard", func(f *fixture) { f.pass(time.Second, 3); f.pass(long, 3) }, false},
		{"no arbiter is heard either", func(f *fixture) {
			f.pass(time.Second, 2, 3)
			f.do(streamLost{f.Agent.stream})
			f.pass(long, 3)
		}, true},
		{"the part has moved meanwhile", func(f *fixture) {
			f.pass(time.Second, 2, 3)
			f.hear(&protocol.Node{View: &protocol.View{Parts: []registry.Part{f.part(4, idOf(3), idOf(2))}}})
			f.pass(long, 3)
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFixture(t).second()
			c.play(f)
			if f.host.held[moving()] != c.taken {
				t.Fatalf("holds the inside address: %v", !c.taken)
			}
			if f.Agent.stream == nil { // said to the next arbiter
				f.obey(6)
				f.hear(&protocol.Node{View: &protocol.View{Full: true, Nodes: f.view(3).Nodes,
					Parts: []registry.Part{f.part(3, idOf(2), f.self())}}})
			}
			said := saying(f, takeovers)
			if (len(said) > 0) != c.taken || c.taken && said[0].Epoch != 3 {
				t.Errorf("said %+v", said)
			}
		})
	}
}

// TestTakeoverEnds: confirmed by the next epoch; given back when the arbiter
// keeps to the old egress and that one is heard again.
func TestTakeoverEnds(t *testing.T) {
	taken := func(t *testing.T) *fixture {
		f := newFixture(t).second()
		f.pass(time.Second, 2, 3)
		f.pass((ProbeMisses+2)*TickEvery, 3)
		if !f.host.held[moving()] {
			t.Fatal("not taken over")
		}
		return f
	}
	t.Run("confirmed", func(t *testing.T) {
		f := taken(t)
		f.hear(&protocol.Node{View: &protocol.View{Parts: []registry.Part{f.part(4, f.self(), idOf(3))}}})
		f.pass(2*TakeoverWait, 2, 3)
		if !f.host.held[moving()] {
			t.Error("given back although confirmed")
		}
	})
	t.Run("given to another", func(t *testing.T) {
		f := taken(t)
		f.hear(&protocol.Node{View: &protocol.View{Parts: []registry.Part{f.part(4, idOf(3), f.self())}}})
		if f.host.held[moving()] {
			t.Error("held against the arbiter's word")
		}
	})
	t.Run("the egress is heard again", func(t *testing.T) {
		f := taken(t)
		f.pass(TakeoverWait-3*TickEvery, 2, 3)
		if !f.host.held[moving()] {
			t.Error("given back before the arbiter had time to answer")
		}
		f.pass(4*TickEvery, 2, 3)
		if f.host.held[moving()] {
			t.Error("two hosts answer for one address")
		}
	})
	t.Run("the egress stays silent", func(t *testing.T) {
		f := taken(t)
		f.pass(2*TakeoverWait, 3)
		if !f.host.held[moving()] {
			t.Error("given back to nobody")
		}
	})
}

func TestStalePartEpochIsIgnored(t *testing.T) {
	f := newFixture(t).second()
	f.hear(&protocol.Node{View: &protocol.View{Parts: []registry.Part{f.part(2, f.self(), idOf(2))}}})
	if f.host.held[moving()] {
		t.Error("I6: a superseded epoch was obeyed")
	}
	f.hear(&protocol.Node{View: &protocol.View{Parts: []registry.Part{f.part(4, f.self(), idOf(2))}}})
	if !f.host.held[moving()] {
		t.Error("a newer epoch was not obeyed")
	}
	f.host.fail = errors.New("no permission")
	f.hear(&protocol.Node{View: &protocol.View{Parts: []registry.Part{f.part(5, idOf(2), f.self())}}})
	f.host.fail = nil
	f.hear(&protocol.Node{View: &protocol.View{Parts: []registry.Part{f.part(5, idOf(2), f.self())}}})
	if f.host.held[moving()] {
		t.Error("an address that could not be moved once is not tried again")
	}
}

// TestPathVerdict: unknown until a tester is known, broken only when it
// answers plain probes and no path test.
func TestPathVerdict(t *testing.T) {
	f := newFixture(t).ready()
	verdict := func(want probe.Verdict) {
		t.Helper()
		if got := f.probes.pathVerdict(); got != want {
			t.Fatalf("verdict %s, want %s", got, want)
		}
	}
	f.pass(5 * time.Second)
	verdict(probe.PathUnknown)
	f.pass(PathSettle+PathMisses*TickEvery, 2)
	verdict(probe.PathUnknown)
	f.pass(5*TickEvery, 2)
	verdict(probe.PathBroken)
	f.answer(2, probe.TypePath)
	verdict(probe.PathGood)
	f.pass(10*time.Second, 2)
	verdict(probe.PathBroken)
	f.pass(time.Second) // the tester is gone: nothing is known any more
	verdict(probe.PathUnknown)
	for _, p := range f.device.TakeAll() {
		if len(p.Data) != 28+probe.NodeLen {
			t.Fatalf("a path test of %d bytes", len(p.Data))
		}
	}
}

func TestProbesOfStrangersAreCounted(t *testing.T) {
	f := newFixture(t).ready()
	f.ReceiveMarked(nil, link.Path{}, dataplane.Marker{Type: dataplane.MarkerProbe}, probe.Node{Type: probe.TypeNode, From: 2}.Marshal([]byte("another key")))
	f.do(nodeDatagram{probe.Node{Type: probe.TypeNode, From: 9}})
	f.do(accepted{spi: 77})
	if r := f.Rejects(); r["probe-refused"] != 2 || r["accept-unknown"] != 1 {
		t.Errorf("rejects %v", r)
	}
}

// TestStrangerInsideIsFlaggedInTime: a member whose row is on its way is no
// violation; whoever stays unknown is.
func TestStrangerInsideIsFlaggedInTime(t *testing.T) {
	f := newFixture(t)
	f.obey(5)
	stranger := netip.MustParseAddr("10.0.0.99")
	for _, source := range []netip.Addr{inside(2), stranger, stranger} {
		f.Violation(dataplane.DropPeer.String(), source, 1)
	}
	f.Violation(dataplane.DropSource.String(), inside(2), 7)
	f.pump()
	flags := func(m *protocol.Node) *protocol.Violation { return m.Violation }
	if said := saying(f, flags); len(said) != 1 || said[0].Reason != "source" || said[0].Count != 7 {
		t.Fatalf("flagged at once: %+v", said)
	}
	f.hear(&protocol.Node{View: f.view(3)})
	f.advance(StrangerGrace)
	if said := saying(f, flags); len(said) != 1 || said[0].Source != stranger || len(f.strangers) != 0 {
		t.Errorf("flagged in the end: %+v", said)
	}
}

// TestSilenceOfClientsIsReported: every packet of a client that opens ends it, a probe
// too, and one under keys of a rekey as well.
func TestSilenceOfClientsIsReported(t *testing.T) {
	f := newFixture(t).ready()
	c := f.customer(f.offered()[0], nil).up()
	quiet := func() uint64 {
		f.said = nil
		f.keep(UsageTicks * TickEvery)
		all := saying(f, func(m *protocol.Node) *protocol.Usage { return m.Usage })
		if len(all) != 1 || len(all[0].Slices) != 1 {
			t.Fatalf("usage %+v", all)
		}
		return all[0].Slices[0].Quiet
	}
	for _, want := range []uint64{3, 5, 7} {
		if got := quiet(); got != want {
			t.Errorf("quiet for %d s, want %d", got, want)
		}
	}
	c.ping()
	if got := quiet(); got != 3 {
		t.Errorf("a probe came, and it is quiet for %d s", got)
	}
	s := f.slices.byKey[c.sliceKey()]
	s.older, s.pair = s.pair, &dataplane.Pair{}
	c.ping()
	if got := s.quiet(f.Agent.config.Now()); got != 1 {
		t.Errorf("a packet came under older keys, and it is quiet for %d s", got)
	}
}

func TestWhatIsReported(t *testing.T) {
	f := newFixture(t).ready()
	c := f.customer(f.offered()[0], nil).up()
	f.advance(2 * time.Second)
	usage := saying(f, func(m *protocol.Node) *protocol.Usage { return m.Usage })
	if len(usage) == 0 || keyOf(usage[len(usage)-1].Slices[0].Slice) != c.sliceKey() {
		t.Errorf("usage %+v", usage)
	}
	if load := saying(f, func(m *protocol.Node) *protocol.Load { return m.Load }); len(load) != 4 || load[0].Used != 0.25 {
		t.Errorf("load %+v", load)
	}
	f.hear(&protocol.Node{Left: &protocol.Leave{Reason: "left"}})
	if len(f.left) != 1 {
		t.Error("the end of the membership was not heard")
	}
}
