package agent

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/node/probe"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// TestSoundness: a fault counts when it lasts, or comes back too often; trust
// comes back slowly.
func TestSoundness(t *testing.T) {
	const ms = time.Millisecond
	always := func(time.Duration) bool { return true }
	never := func(time.Duration) bool { return false }
	every := func(period, faulty time.Duration) func(time.Duration) bool {
		return func(at time.Duration) bool { return at%period < faulty }
	}
	for name, c := range map[string]struct {
		faulty func(at time.Duration) bool
		broken time.Duration // when it is said at the latest; 0: never
		sooner time.Duration // not before
	}{
		"a fault that lasts":              {always, BrokenAfter + TickEvery, BrokenAfter - TickEvery},
		"no fault":                        {never, 0, 0},
		"put back within a second, once":  {func(at time.Duration) bool { return at < time.Second }, 0, 0},
		"put back within a second, often": {every(15*time.Second, time.Second), 0, 0},
		"taken away every other moment":   {every(time.Second, 500*ms), 8 * time.Second, 3 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSoundness(0)
			for at := TickEvery; at < 5*time.Minute; at += TickEvery {
				var faults []string
				if c.faulty(at) {
					faults = []string{"a fault"}
				}
				if changed := s.judge(at, faults); !changed {
					continue
				}
				if s.is != protocol.Broken || at > c.broken || at < c.sooner {
					t.Fatalf("%s after %v, want broken from %v to %v", s.is, at, c.sooner, c.broken)
				}
				return
			}
			if c.broken != 0 {
				t.Error("never broken")
			}
		})
	}
}

func TestSoundnessMends(t *testing.T) {
	s, at := newSoundness(0), time.Duration(0)
	pass := func(d time.Duration, faults ...string) {
		for end := at + d; at < end; {
			at += TickEvery
			s.judge(at, faults)
		}
	}
	is := func(want protocol.Soundness) {
		t.Helper()
		if s.is != want {
			t.Fatalf("at %v: %s, want %s", at, s.is, want)
		}
	}
	pass(3*time.Second, "a", "b")
	is(protocol.Broken)
	if c := s.condition(); c.Is != protocol.Broken || !slices.Equal(c.Faults, []string{"a", "b"}) {
		t.Errorf("%+v", c)
	}
	pass(MendedAfter - TickEvery)
	is(protocol.Broken)
	pass(2 * TickEvery)
	is(protocol.Mended)
	if c := s.condition(); c == nil || c.Is != protocol.Mended || len(c.Faults) > 0 {
		t.Errorf("%+v", c)
	}
	pass(WholeAfter - MendedAfter - 2*TickEvery)
	is(protocol.Mended)
	pass(TickEvery, "a moment") // counts the minute anew
	pass(WholeAfter - TickEvery)
	is(protocol.Mended)
	pass(2 * TickEvery)
	is(protocol.Whole)
	if s.condition() != nil {
		t.Error("a whole node says something")
	}
}

// TestMaxFaults: what is told is bounded.
func TestMaxFaults(t *testing.T) {
	s := newSoundness(0)
	var faults []string
	for i := range MaxFaults + 3 {
		faults = append(faults, fmt.Sprint(i, strings.Repeat("x", 2*MaxFault)))
	}
	for at := TickEvery; s.is != protocol.Broken; at += TickEvery {
		s.judge(at, faults)
	}
	c := s.condition()
	if len(c.Faults) != MaxFaults || len(c.Faults[0]) != MaxFault {
		t.Errorf("%d faults, the first of %d bytes", len(c.Faults), len(c.Faults[0]))
	}
}

// TestMaxStops: a process that stands still again and again is a fault at once; one
// that does so rarely is none.
func TestMaxStops(t *testing.T) {
	for _, every := range []time.Duration{time.Second, StopsOver/(MaxStops-1) + time.Second} {
		s := newSoundness(0)
		s.stopped(0, time.Minute) // long ago, by the time that it is told
		for i := range 10 {
			at := time.Duration(i+1)*every + time.Hour
			s.stopped(at, 900*time.Millisecond)
			s.judge(at, nil)
			if broken := s.is == protocol.Broken; broken != (every == time.Second && i+1 >= MaxStops) {
				t.Fatalf("every %v: %s after %d stops", every, s.is, i+1)
			}
		}
		end := 10*every + time.Hour
		if s.sleeps(end) != (every == time.Second) || s.sleeps(end+StopsOver) {
			t.Errorf("every %v: nothing is concluded from what it does not hear: %v, and later %v", every, s.sleeps(end), s.sleeps(end+StopsOver))
		}
		if every == time.Second && !strings.Contains(s.condition().Faults[0], "stands still again and again, for up to 900ms") {
			t.Errorf("%+v", s.condition())
		}
	}
}

// passing lets time pass while those nodes answer, path tests too.
func (f *fixture) passing(d time.Duration, answering ...identity.Index) {
	for ; d > 0; d -= TickEvery {
		f.pass(TickEvery, answering...)
		for _, ix := range answering {
			f.answer(ix, probe.TypePath)
		}
	}
}

func conditions(m *protocol.Node) *protocol.Condition { return m.Condition }

// TestBrokenIsTold: to the arbiter when it begins and when it ends, at the
// start of a stream, and to the other nodes.
func TestBrokenIsTold(t *testing.T) {
	f := newFixture(t).second()
	f.passing(time.Second, 2, 3)
	f.faults = []string{"the filter is gone"}
	f.passing(BrokenAfter-3*TickEvery, 2, 3)
	if said := saying(f, conditions); len(said) != 0 {
		t.Fatalf("told after less than %v: %+v", BrokenAfter, said)
	}
	f.passing(5*TickEvery, 2, 3)
	if said := saying(f, conditions); len(said) != 1 || said[0].Is != protocol.Broken || said[0].Faults[0] != f.faults[0] {
		t.Fatalf("told %+v", said)
	}
	if says := f.says(f.nodeRow(2)); says != probe.SaysAiling|probe.SaysBroken {
		t.Errorf("says %x", says)
	}
	f.obey(6)
	hellos := saying(f, func(m *protocol.Node) *protocol.NodeHello { return m.Hello })
	if last := hellos[len(hellos)-1]; last.Condition == nil || last.Condition.Is != protocol.Broken {
		t.Errorf("introduced as %+v", last.Condition)
	}
	f.faults = nil
	f.passing(WholeAfter+TickEvery, 2, 3)
	if said := saying(f, conditions); len(said) < 2 || said[len(said)-1].Is != protocol.Whole {
		t.Errorf("told %+v", said)
	}
}

// TestTesterWithoutTUN: a node is not to blame for a path test that ends at
// another host's fault, and not for one that only one of two testers misses.
func TestTesterWithoutTUN(t *testing.T) {
	ailing := func(f *fixture, from ...byte) {
		for _, ix := range from {
			f.reply(probe.Node{From: own + 1, Asked: probe.TypeNode, Says: probe.Says(ix)})
		}
	}
	play := func(f *fixture, says probe.Says, path bool) {
		for range 50 {
			f.advance(TickEvery)
			ailing(f, byte(says))
			f.answer(3, probe.TypeNode)
			if path {
				f.answer(3, probe.TypePath)
			}
		}
	}
	for name, c := range map[string]struct {
		says   probe.Says
		path   bool // the test by way of node 3 comes out
		own    []string
		broken bool
	}{
		"neither comes out":                    {0, false, nil, true},
		"one comes out":                        {0, true, nil, false},
		"one comes out, the other has a fault": {probe.SaysAiling, true, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t).second()
			f.faults = c.own
			play(f, c.says, c.path)
			if got := f.probes.pathVerdict() == probe.PathBroken; got != c.broken {
				t.Errorf("verdict %s", f.probes.pathVerdict())
			}
		})
	}
	t.Run("one tester only, and it has a fault", func(t *testing.T) {
		f := newFixture(t)
		f.obey(5)
		f.hear(&protocol.Node{View: f.view(2)})
		play(f, probe.SaysAiling, false)
		if f.probes.pathVerdict() == probe.PathBroken || f.sound.is != protocol.Whole {
			t.Errorf("verdict %s, %s", f.probes.pathVerdict(), f.sound.is)
		}
		f.faults = []string{"and so has this host"}
		play(f, probe.SaysAiling, false)
		if f.probes.pathVerdict() != probe.PathBroken {
			t.Errorf("verdict %s", f.probes.pathVerdict())
		}
	})
}

// asks is a question of another node.
func (f *fixture) asks(from byte, says probe.Says) {
	f.do(nodeDatagram{probe.Node{Type: probe.TypeNode, From: own + 1, Says: says}})
}

// TestDeaf: who hears neither answers nor questions of nodes that the arbiter
// hears is cut off, says so, and takes nothing over.
func TestDeaf(t *testing.T) {
	for name, c := range map[string]struct {
		play    func(*fixture)
		deaf    bool
		unheard []Unheard
	}{
		"all answer": {func(f *fixture) { f.passing(5*time.Second, 2, 3) }, false, nil},
		"none answers": {func(f *fixture) {
			for range 50 {
				f.alive()
				f.passing(TickEvery)
			}
		}, true, []Unheard{{"c", false}, {"d", false}}},
		"none answers, one asks": {func(f *fixture) {
			for range 50 {
				f.alive()
				f.passing(TickEvery)
				f.asks(2, 0)
			}
		}, false, []Unheard{{"c", true}, {"d", false}}},
		"one answers": {func(f *fixture) {
			for range 50 {
				f.alive()
				f.passing(TickEvery, 3)
			}
		}, false, []Unheard{{"c", false}}},
		"no arbiter is heard either": {func(f *fixture) { f.passing(5 * time.Second) }, false, []Unheard{{"c", false}, {"d", false}}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t).second()
			f.passing(time.Second, 2, 3)
			c.play(f)
			if got := f.sound.is == protocol.Broken; got != c.deaf {
				t.Errorf("%s: %v", f.sound.is, f.sound.faults)
			}
			if got := f.unheard(f.Agent.config.Now()); !slices.Equal(got, c.unheard) {
				t.Errorf("unheard %+v", got)
			}
		})
	}
}

// TestNodesThatJustBegan: what restarts with this node, or while this one runs, has had no
// time to answer when the arbiter hears it. Nobody's firewall is looked for yet.
func TestNodesThatJustBegan(t *testing.T) {
	for name, before := range map[string]func(*fixture){
		"never heard":  func(*fixture) {},
		"heard before": func(f *fixture) { f.passing(time.Second, 2, 3) },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t).second()
			before(f)
			rows := f.view(3).Nodes[1:]
			up := func(is bool) {
				for i := range rows {
					rows[i].Up = is
				}
				f.hear(&protocol.Node{View: &protocol.View{Nodes: rows}})
			}
			up(false)
			pass := func(d time.Duration) {
				for ; d > 0; d -= TickEvery {
					f.alive()
					f.passing(TickEvery)
				}
			}
			pass(2 * DeafFirst)
			up(true)
			for range int(DeafAfter / TickEvery) {
				pass(TickEvery)
				if got, from := f.unheard(f.Agent.config.Now()), f.deafTo(f.Agent.config.Now()); len(got) > 0 || from != "" {
					t.Fatalf("unheard %+v, deaf %q", got, from)
				}
			}
			pass(DeafFirst)
			if got := f.unheard(f.Agent.config.Now()); len(got) != 2 || f.deafTo(f.Agent.config.Now()) == "" {
				t.Errorf("after a while unheard are %+v", got)
			}
		})
	}
}

// TestDeafToOne: a node that misses its only peer does not know whose fault that is,
// and one that is asked by a node which it does not ask hears.
func TestDeafToOne(t *testing.T) {
	one := newFixture(t)
	one.obey(5)
	one.hear(&protocol.Node{View: one.view(2)})
	asked := newFixture(t).second()
	asked.hear(&protocol.Node{View: &protocol.View{Nodes: asked.view(4).Nodes}})
	for name, f := range map[string]*fixture{"one peer": one, "asked by another": asked} {
		f.passing(time.Second, 2, 3)
		for range 50 {
			f.alive()
			f.passing(TickEvery)
			if f == asked {
				f.do(nodeDatagram{probe.Node{Type: probe.TypeNode, From: own + 3}})
			}
		}
		if f.sound.is != protocol.Whole {
			t.Errorf("%s: %s %v", name, f.sound.is, f.sound.faults)
		}
	}
}

// alive is an arbiter's word.
func (f *fixture) alive() { f.hear(&protocol.Node{Alive: &protocol.Alive{}}) }

// TestSecondThatIsNotWhole takes nothing over, whoever is silent.
func TestSecondThatIsNotWhole(t *testing.T) {
	f := newFixture(t).second()
	f.faults = []string{"no filter"}
	f.passing(3*time.Second, 2, 3)
	f.passing((ProbeMisses+2)*TickEvery, 3)
	if f.host.held[moving()] {
		t.Error("a broken node took over")
	}
}

// TestArbiterKeepsTheEgress: the second gives back at once, and waits before it
// tries again.
func TestArbiterKeepsTheEgress(t *testing.T) {
	f := newFixture(t).second()
	f.passing(time.Second, 2, 3)
	f.passing(3*TickEvery, 3)
	f.asks(2, 0)
	f.passing(2*TickEvery, 3)
	if said := saying(f, takeovers); len(said) != 1 || !said[0].Asked || !f.host.held[moving()] {
		t.Fatalf("said %+v", said)
	}
	f.hear(&protocol.Node{View: &protocol.View{Keep: []netip.Prefix{f.part(3, idOf(2), f.self()).Prefix}}})
	if f.host.held[moving()] {
		t.Fatal("held against the arbiter's word")
	}
	for range int(TakeoverHold/TickEvery) - 1 {
		f.alive()
		f.passing(TickEvery, 3)
	}
	if f.host.held[moving()] {
		t.Error("taken again at once")
	}
	f.alive()
	f.passing(3*TickEvery, 3)
	if said := saying(f, takeovers); len(said) != 1 || said[0].Asked || !f.host.held[moving()] {
		t.Errorf("the egress stays silent: said %+v", said)
	}
}

// TestLastQuestionShowsNothing: what a firewall let in right before it shut is not
// the sign of an egress that asks and does not hear. The arbiter would take the part
// from a good egress and give it to the node behind the firewall.
func TestLastQuestionShowsNothing(t *testing.T) {
	f := newFixture(t).second()
	f.passing(time.Second, 2, 3)
	f.asks(2, 0)
	f.alive()
	f.passing((ProbeMisses+2)*TickEvery, 3)
	if said := saying(f, takeovers); len(said) != 1 || said[0].Asked {
		t.Errorf("said %+v", said)
	}
}

// TestReliefWithoutAnArbiter: an egress that says that it does not forward is
// relieved by its second where no arbiter can do it, and by it alone where one can.
func TestReliefWithoutAnArbiter(t *testing.T) {
	broken := func(f *fixture, d time.Duration, alive bool) {
		for ; d > 0; d -= TickEvery {
			if alive {
				f.alive()
			}
			f.passing(TickEvery, 3)
			f.reply(probe.Node{From: 2, Asked: probe.TypeNode, Says: probe.SaysAiling | probe.SaysBroken})
		}
	}
	t.Run("second", func(t *testing.T) {
		f := newFixture(t).second()
		f.passing(time.Second, 2, 3)
		broken(f, 3*time.Second, true)
		if f.host.held[moving()] {
			t.Fatal("took what the arbiter gives")
		}
		f.do(streamLost{f.Agent.stream})
		broken(f, 3*TickEvery, false)
		if !f.host.held[moving()] || f.says(f.nodeRow(2))&probe.SaysTaken == 0 {
			t.Fatalf("not taken, says %x", f.says(f.nodeRow(2)))
		}
		if to := f.egressOf(f.onlyPart()); to.Index != own {
			t.Errorf("hands on to %d", to.Index)
		}
		f.passing(2*TakeoverWait, 2, 3) // the egress is well again; nobody says whose the part is
		if !f.host.held[moving()] {
			t.Error("given back without a word")
		}
	})
	t.Run("egress", func(t *testing.T) {
		f := newFixture(t)
		f.obey(5)
		v := f.view(3)
		v.Parts = []registry.Part{f.part(3, f.self(), idOf(2))}
		f.hear(&protocol.Node{View: v})
		f.do(streamLost{f.Agent.stream})
		f.faults = []string{"no filter"}
		f.passing(3*time.Second, 2, 3)
		if !f.host.held[moving()] {
			t.Fatal("let go before the second has it")
		}
		f.asks(2, probe.SaysTaken)
		f.passing(TickEvery)
		if f.host.held[moving()] {
			t.Fatal("two hosts answer for one address")
		}
		if to := f.egressOf(f.onlyPart()); to.Index != 2 {
			t.Errorf("hands on to %d", to.Index)
		}
		f.faults = nil
		f.asks(2, probe.SaysTaken)
		f.passing(TickEvery)
		if f.host.held[moving()] {
			t.Error("taken back from the second")
		}
		f.passing(5*TickEvery, 2) // the second says no more that it has it
		if !f.host.held[moving()] {
			t.Error("nobody holds the address")
		}
	})
}

// TestReliefOfOneOnly: a second that took one egress's part, and cannot take another's
// because it does not forward itself by now, says to that other egress that it has
// nothing of it; else nobody would answer for its address.
func TestReliefOfOneOnly(t *testing.T) {
	f := newFixture(t)
	f.obey(5)
	v := f.view(3)
	other := f.part(3, idOf(3), f.self())
	other.Prefix, other.Inside = netip.MustParsePrefix("10.77.1.0/24"), moving().Next()
	v.Parts = []registry.Part{f.part(3, idOf(2), f.self()), other}
	f.hear(&protocol.Node{View: v})
	f.passing(time.Second, 2, 3)
	f.do(streamLost{f.Agent.stream})
	broken := func(d time.Duration, well []identity.Index, all ...identity.Index) {
		for ; d > 0; d -= TickEvery {
			f.passing(TickEvery, well...)
			for _, ix := range all {
				f.reply(probe.Node{From: ix, Asked: probe.TypeNode, Says: probe.SaysAiling | probe.SaysBroken})
			}
		}
	}
	took := func(of identity.Index) bool { return f.says(f.nodeRow(of))&probe.SaysTaken != 0 }
	broken(3*TickEvery, []identity.Index{3}, 2)
	if !f.host.held[moving()] || !took(2) || !took(3) {
		t.Fatalf("taken from 2: says so to it %v, and to 3, which is to send here now, %v", took(2), took(3))
	}
	f.faults = []string{"no filter"}
	broken(BrokenAfter+5*TickEvery, []identity.Index{3}, 2)
	broken(5*TickEvery, nil, 2, 3)
	if f.host.held[other.Inside] {
		t.Fatal("one that does not forward takes parts")
	}
	if !took(2) || took(3) {
		t.Errorf("says that it took the part of 2 %v, and that of 3, which it left, %v", took(2), took(3))
	}
}
