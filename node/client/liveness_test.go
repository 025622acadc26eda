package client

import (
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/node/probe"
	"github.com/meshcrypt/meshcrypt/node/protocol"
	"github.com/meshcrypt/meshcrypt/slicing"
)

const ms = time.Millisecond

// TestPulse holds the rule of silence: max(300 ms, srtt + 4 var + 100 ms) from
// the first probe on that nothing answered.
func TestPulse(t *testing.T) {
	for _, c := range []struct {
		name   string
		rtts   []time.Duration
		heard  time.Duration // after the probe at 0; negative: before it
		at     time.Duration
		silent bool
	}{
		{"just asked", nil, -1, 300 * ms, false},
		{"nothing heard", nil, -1, 301 * ms, true},
		{"heard before the probe only", nil, -50 * ms, 301 * ms, true},
		{"heard since", nil, 10 * ms, time.Hour, false},
		{"a near agent", []time.Duration{ms}, -1, 301 * ms, true},
		{"a far agent: 200 + 4 x 100 + 100", []time.Duration{200 * ms}, -1, 700 * ms, false},
		{"a far agent, longer", []time.Duration{200 * ms}, -1, 701 * ms, true},
		{"a far and steady agent", []time.Duration{200 * ms, 200 * ms, 200 * ms, 200 * ms, 200 * ms, 200 * ms, 200 * ms}, -1, 600 * ms, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			const start = time.Hour
			var p pulse
			for _, rtt := range c.rtts {
				p.answered(probe.Reply{Sent: start - rtt}, start)
			}
			p.waiting, p.askedAt = start, start
			p.heard(start + c.heard)
			if got := p.silent(start + c.at); got != c.silent {
				t.Errorf("silent %v after %v, allowed %v", got, c.at, p.rtt.Silence())
			}
		})
	}
}

// plainProbes are those among what arrived.
func plainProbes(bodies [][]byte) (asked [][]byte) {
	for _, b := range bodies {
		if b[0] == probe.KindProbe {
			asked = append(asked, b)
		}
	}
	return asked
}

func TestProbesAreRareWhenIdle(t *testing.T) {
	const now = time.Hour
	for _, c := range []struct {
		name                string
		asked, sent, waited time.Duration // ago; waited 0: nothing out
		doubt, due          bool
	}{
		{"busy, asked just now", 99 * ms, 0, 0, false, false},
		{"busy", 100 * ms, ActiveFor - 1, 0, false, true},
		{"idle", 14 * time.Second, ActiveFor, 0, false, false},
		{"idle for long", ProbeIdle, ActiveFor, 0, false, true},
		{"idle, a sibling is in doubt", 100 * ms, ActiveFor, 0, true, true},
		{"idle, awaiting an answer", 100 * ms, time.Minute, 100 * ms, false, true},
	} {
		p := pulse{askedAt: now - c.asked, sequence: MeasureProbes}
		if c.waited != 0 {
			p.waiting = now - c.waited
		}
		if got := p.due(now, now-c.sent, c.doubt, ProbeIdle); got != c.due {
			t.Errorf("%s: due %v", c.name, got)
		}
	}
}

// TestFreshSliceIsMeasured before it has to carry anything, and rests then. Where its client
// came back, and had nothing to send before, it is measured by what it carries.
func TestFreshSliceIsMeasured(t *testing.T) {
	f := newFixture(t)
	f.connect()
	fresh := f.slice(0, 1)
	for n := range uint32(slicing.MinProbes) {
		if fresh.pulse.sequence = n; !f.unmeasured(fresh) {
			t.Errorf("a slice rests after %d answers", n)
		}
		fresh.pulse.meter.Asked(n, 0)
		fresh.pulse.meter.Answered(n, ms)
	}
	if f.unmeasured(fresh) {
		t.Error("a slice whose path is known is measured on")
	}
	fresh.pulse.meter = slicing.Meter{}
	f.session = &session{resumed: true}
	if f.unmeasured(fresh) {
		t.Error("measured for a client that came back and has nothing to send")
	}
	if f.parking.stays = true; !f.unmeasured(fresh) {
		t.Error("not measured for a client that moves something")
	}
	if fresh.pulse.sequence = MeasureProbes; f.unmeasured(fresh) {
		t.Error("measured for ever where no answer comes")
	}
}

func silences(all []*protocol.Client) (refs []protocol.SliceRef) {
	for _, m := range all {
		if m.Silent != nil {
			refs = append(refs, *m.Silent)
		}
	}
	return refs
}

// TestSilentSliceIsCondemnedBesideALivingOne: out of the route at once, said
// to the arbiter, and to the egress over the living slice; taken back when it
// is heard again.
func TestSilentSliceIsCondemnedBesideALivingOne(t *testing.T) {
	f := newFixture(t)
	f.connect()
	dead, living := f.slice(0, 1), f.slice(1, 1)
	f.ask(dead, f.config.Now())
	f.ask(living, f.config.Now())
	f.advance(300*ms, living)
	if dead.condemned {
		t.Fatal("condemned too early")
	}
	f.advance(100*ms, living)
	if !dead.condemned || living.condemned || f.routed() != `["1.1"]` {
		t.Fatalf("condemned %v and %v, route %s", dead.condemned, living.condemned, f.routed())
	}
	if s := silences(f.said()); len(s) != 1 || s[0] != (protocol.SliceRef{Number: 0, Epoch: 1, Reason: "silent"}) {
		t.Errorf("said %+v", s)
	}
	if n := f.verdicts(living, dead.key); n != 1 {
		t.Errorf("%d verdicts over the living slice", n)
	}
	f.parking.stays = true // it moves something
	f.advance(VerdictEvery, living)
	if s := silences(f.said()); len(s) != 0 {
		t.Errorf("said again: %+v", s)
	}
	if n := f.verdicts(living, dead.key); n != 1 {
		t.Errorf("%d verdicts after a second: one that was lost, or that the egress before heard, stays unknown", n)
	}
	f.arrived(0, dead)
	f.resayUp() // after a resumption
	if s := silences(f.said()); len(s) != 1 {
		t.Errorf("not said to the next arbiter: %+v", s)
	}
	f.advance(100*ms, living, dead)
	if dead.condemned || f.routed() != `["0.1","1.1"]` {
		t.Errorf("not reprieved: %s", f.routed())
	}
	if said := f.said(); len(said) != 1 || said[0].Up == nil || *said[0].Up != dead.key.ref() {
		t.Errorf("the arbiter, which would grant it elsewhere, is told %+v", said)
	}
	f.advance(time.Second, living, dead)
	for range Vouches { // with its next questions, too
		f.ask(dead, f.config.Now())
	}
	if n := f.verdicts(dead, sliceKey{dead.key.number, 0}); n != Vouches {
		t.Errorf("the egress, which does not use it until its epoch is another, is told %d times", n)
	}
}

// verdicts is how many about a slice came over another since the last call.
func (f *fixture) verdicts(over *slice, about sliceKey) (n int) {
	for _, body := range f.arrived(0, over) {
		if number, epoch, ok := probe.ParseVerdict(body[1:]); body[0] == probe.KindVerdict && ok && about == (sliceKey{number, epoch}) {
			n++
		}
	}
	return n
}

// TestUnusedClientIsPatient: who moved nothing since it came gives late answers more time, and
// asks less often meanwhile; who did, or sends something, waits no longer than ever.
func TestUnusedClientIsPatient(t *testing.T) {
	silence := (&probe.RTT{}).Silence()
	for name, c := range map[string]struct {
		change func(*fixture, *slice)
		takes  time.Duration
		asks   int
	}{
		"unused":        {func(*fixture, *slice) {}, Unhurried * silence, 4},
		"it moved much": {func(f *fixture, _ *slice) { f.parking.stays = true }, silence, 4},
	} {
		f, s := calmed(t)
		dead, living := s[0], s[1]
		c.change(f, dead)
		f.asked(dead)
		for range 2 * ProbeIdle / TickEvery {
			if f.looks(TickEvery, living); dead.pulse.waiting != 0 {
				break
			}
		}
		asked := dead.pulse.waiting
		f.looks(c.takes-2*TickEvery, living)
		if asked == 0 || dead.condemned {
			t.Fatalf("%s: asked at %v, condemned: %t", name, asked, dead.condemned)
		}
		f.looks(4*TickEvery, living)
		if n := len(f.asked(dead)); !dead.condemned || n > c.asks+1 {
			t.Errorf("%s: condemned: %t, after %d questions", name, dead.condemned, n)
		}
	}
}

// TestCalmStandsForNothing: for who is patient no late answer is a stop of agent or gateway, of
// which three have it leave them, nor a sign that nobody hears; for all others it is both.
func TestCalmStandsForNothing(t *testing.T) {
	silence := (&probe.RTT{}).Silence()
	for _, calm := range []bool{false, true} {
		p := pulse{calm: calm, waiting: 1, nearest: 10 * ms}
		for range MaxUnanswered {
			p.open.ask(1)
		}
		late := 1 + 3*silence
		if p.stands(late) == calm || p.silent(late) == calm || p.unheard(late) == calm || !p.doubtful(late) {
			t.Errorf("calm %t: stands %t, silent %t, unheard %t, doubtful %t", calm, p.stands(late), p.silent(late), p.unheard(late), p.doubtful(late))
		}
	}
}

// TestFirstPacketIsNoVerdict: of a client at rest one question is out when it begins to send, which
// may be lost. Its agent is asked as often as that of any that sends, and has as long.
func TestFirstPacketIsNoVerdict(t *testing.T) {
	f, s := calmed(t)
	dead, living := s[0], s[1]
	for range 2 * ProbeIdle / TickEvery {
		if f.looks(TickEvery, living); dead.pulse.waiting != 0 {
			break
		}
	}
	f.looks(500*ms, living)
	f.asked(dead)
	f.hostSends()
	if f.looks(300*ms, living); dead.condemned || len(f.asked(dead)) < 3 {
		t.Errorf("condemned %t by what it was asked before", dead.condemned)
	}
	if f.looks(2*TickEvery, living); !dead.condemned {
		t.Error("it has longer than others")
	}
}

// TestAllSilentMeansTheGateway: nobody is condemned; every SA, a superseded
// one too, goes through the next gateway and says so at once.
func TestAllSilentMeansTheGateway(t *testing.T) {
	f := newFixture(t)
	control := f.connect()
	slices := []*slice{f.slice(0, 1), f.slice(1, 1), f.slice(2, 1)}
	for _, s := range slices {
		f.ask(s, f.config.Now())
	}
	f.advance(400 * ms)
	for _, s := range slices {
		if s.condemned {
			t.Errorf("slice %d condemned with all others", s.key.number)
		}
		if path, _ := s.pair.Path(); path.Remote != gatewayAddr(1) {
			t.Errorf("slice %d goes through %v", s.key.number, path.Remote)
		}
		if got := plainProbes(f.arrived(1, s)); len(got) != 1 {
			t.Errorf("slice %d sent %d probes through the new gateway", s.key.number, len(got))
		}
	}
	if f.control != nil {
		t.Error("the control connection stays with the silent gateway")
	}
	if why := <-f.redial; why != elsewhere {
		t.Error("redials through the same gateway")
	}
	if _, err := control.raw.Write(nil); err == nil {
		t.Error("the old connection is open")
	}
	f.advance(400 * ms)
	if path, _ := slices[0].pair.Path(); path.Remote != gatewayAddr(0) {
		t.Error("the last gateway is not followed by the first")
	}
}

// TestArbiterThatIsHeardIsKept: who was let in through a gateway while his slices were silent
// does not give that up with it, as where all nodes were restarted; a word that was on its
// way when they fell silent shows nothing.
func TestArbiterThatIsHeardIsKept(t *testing.T) {
	for after, kept := range map[time.Duration]bool{0: false, WordAfter: false, WordAfter + 1: true} {
		f := newFixture(t)
		s := f.slice(0, 1)
		f.ask(s, f.config.Now())
		f.clock.Add(int64(after))
		f.connect()
		f.heard(f.config.Now())
		f.leaveGateway(f.config.Now(), "gateway is silent")
		if path, _ := s.pair.Path(); path.Remote != gatewayAddr(1) || (f.control != nil) != kept {
			t.Errorf("heard %v after the first question: the slice goes by %v, the connection stays: %t", after, path.Remote, f.control != nil)
		}
	}
}

// TestGatewayDiesBetweenTwoAnswers: the slice whose silence ends first is not
// condemned for the gateway's death, though its sibling is not silent yet.
func TestGatewayDiesBetweenTwoAnswers(t *testing.T) {
	f := newFixture(t)
	f.connect()
	first, last := f.slice(0, 1), f.slice(1, 1)
	f.ask(first, f.config.Now())
	f.ask(last, f.config.Now())
	f.advance(100*ms, last)
	f.advance(600 * ms)
	if first.condemned || last.condemned {
		t.Errorf("condemned %v and %v", first.condemned, last.condemned)
	}
	if path, _ := first.pair.Path(); path.Remote != gatewayAddr(1) {
		t.Errorf("through %v", path.Remote)
	}
}

// TestIdleSiblingBearsWitness: nobody is taken for living on hearsay of long
// ago; an idle sibling is asked first.
func TestIdleSiblingBearsWitness(t *testing.T) {
	for _, c := range []struct {
		name    string
		answers bool
	}{{"it lives", true}, {"all are silent", false}} {
		t.Run(c.name, func(t *testing.T) {
			f := newFixture(t)
			f.connect()
			asked, idle := f.slice(0, 1), f.slice(1, 1)
			asked.pulse.restart(f.config.Now())
			idle.pulse.restart(f.config.Now())
			f.ask(asked, f.config.Now())
			f.advance(250 * ms)
			if idle.pulse.waiting == 0 {
				t.Fatal("the sibling was not asked")
			}
			if c.answers {
				f.advance(200*ms, idle)
			} else {
				f.advance(300 * ms)
			}
			path, _ := asked.pair.Path()
			if moved := path.Remote == gatewayAddr(1); asked.condemned != c.answers || moved == c.answers {
				t.Errorf("condemned %v, moved %v", asked.condemned, moved)
			}
		})
	}
}

// TestNewGatewayIsTriedBeforeItCarries: the agent on the old gateway's host may
// have died with it, so traffic follows those who answer.
func TestNewGatewayIsTriedBeforeItCarries(t *testing.T) {
	f := newFixture(t)
	f.connect()
	dead, living := f.slice(0, 1), f.slice(1, 1)
	f.moveTo(gatewayAddr(1), f.config.Now())
	if f.routed() != `["0.1","1.1"]` {
		t.Errorf("before any answer: %s", f.routed())
	}
	f.advance(50*ms, living)
	if f.routed() != `["1.1"]` {
		t.Errorf("after the first answer: %s", f.routed())
	}
	f.advance(50*ms, living, dead)
	if f.routed() != `["0.1","1.1"]` {
		t.Errorf("after both: %s", f.routed())
	}
}

// TestOneSliceAlone has no sibling: its silence is the gateway's.
func TestOneSliceAlone(t *testing.T) {
	f := newFixture(t)
	f.connect()
	s := f.slice(0, 1)
	f.ask(s, f.config.Now())
	f.advance(400 * ms)
	if path, _ := s.pair.Path(); s.condemned || path.Remote != gatewayAddr(1) {
		t.Errorf("condemned %v, through %v", s.condemned, path.Remote)
	}
}

func TestRetiredAndUnconfirmedSlicesAreNotJudged(t *testing.T) {
	f := newFixture(t)
	f.connect()
	retired, young, living := f.slice(0, 1), f.slice(1, 1), f.slice(2, 1)
	young.confirmed, young.sentAt = false, f.config.Now()
	young.tries = AcceptTries - 1
	for _, s := range []*slice{retired, young, living} {
		f.ask(s, f.config.Now())
	}
	f.retire(retired.key, f.config.Now())
	f.advance(50*ms, living)
	if retired.condemned || young.condemned || f.routed() != `["2.1"]` {
		t.Errorf("route %s", f.routed())
	}
	f.advance(RetireAfter, living)
	if f.slices[retired.key] != nil {
		t.Error("a retired epoch is never forgotten")
	}
}

// TestNewerEpochRetiresTheOlder, whether the arbiter lives to say so or not:
// else what died with its arbiter is kept, and said to be silent, for ever.
func TestNewerEpochRetiresTheOlder(t *testing.T) {
	f := newFixture(t)
	f.connect()
	older, other, newer := f.slice(0, 1), f.slice(1, 1), f.slice(0, 2)
	older.condemned = true
	f.supersede(newer.key, f.config.Now())
	if older.retireAt == 0 || other.retireAt != 0 || newer.retireAt != 0 {
		t.Fatalf("retired at %v, %v, %v", older.retireAt, other.retireAt, newer.retireAt)
	}
	f.resayUp()
	if s := silences(f.said()); len(s) != 0 {
		t.Errorf("said: %+v", s)
	}
}

// TestConnectionOutlivesSilentAgents: who has nothing to send does not give up the connection
// to the arbiter because agents are silent.
func TestConnectionOutlivesSilentAgents(t *testing.T) {
	for _, idle := range []bool{false, true} {
		f := newFixture(t)
		f.Client.session = &session{ready: idle}
		f.connect()
		f.slice(0, 1)
		f.leaveGateway(f.config.Now(), "gateway is silent")
		if kept := f.control != nil; kept != idle {
			t.Errorf("with nothing to send %v: the connection is kept: %v", idle, kept)
		}
	}
}
