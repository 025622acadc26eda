package client

import (
	"testing"
	"time"
)

// oneWay lets time pass in a busy session while packets of these slices' agents come down,
// and those that hear the client answer now and then.
func (f *fixture) oneWay(d time.Duration, answers time.Duration, speak []*slice, hear ...*slice) {
	f.Helper()
	for begin := f.config.Now(); f.config.Now()-begin < d; {
		for _, s := range speak {
			if f.speak(s); f.config.Now()-s.pulse.askedAt >= ProbeActive {
				f.ask(s, f.config.Now())
			}
		}
		if (f.config.Now()-begin)%answers == 0 {
			for _, s := range hear {
				f.hears(s)
			}
		}
		f.advance(TickEvery)
	}
}

// TestUnheardGatewayIsLeft: packets come down through it for as long as servers send, and
// nothing goes up. It is left as soon as no chance explains that nobody answers, and nobody
// is condemned; who is left out, and moved to another gateway, begins anew there.
func TestUnheardGatewayIsLeft(t *testing.T) {
	for _, slices := range []int{1, 2, 3, 8} {
		f := newFixture(t)
		f.connect()
		var all []*slice
		for i := range slices {
			all = append(all, f.slice(uint8(i), 1))
		}
		f.oneWay(time.Second, TickEvery, all, all...)
		f.said()
		f.oneWay(500*ms, TickEvery, all)
		if f.Client.gateways.current != 0 {
			t.Errorf("%d slices: left within a silence", slices)
		}
		f.oneWay(600*ms, TickEvery, all)
		if f.Client.gateways.current != 1 {
			t.Errorf("%d slices: through gateway %d", slices, f.Client.gateways.current)
		}
		for _, s := range all {
			if s.condemned {
				t.Errorf("slice %d of %d is condemned for its gateway", s.key.number, slices)
			}
		}
		f.oneWay(time.Second, TickEvery, all, all...)
		if f.Client.gateways.current != 1 || f.Client.gateways.unheard != 0 {
			t.Errorf("%d slices: then through gateway %d", slices, f.Client.gateways.current)
		}
	}
}

// TestLostAnswersAreNoFault: of a few that come, and of a gateway whose every agent answers
// late, nothing is concluded while packets come down.
func TestLostAnswersAreNoFault(t *testing.T) {
	f := newFixture(t)
	f.connect()
	all := []*slice{f.slice(0, 1), f.slice(1, 1), f.slice(2, 1)}
	f.oneWay(time.Minute, 500*ms, all, all...)
	f.oneWay(time.Minute, 500*ms, all, all[1])
	if f.Client.gateways.current != 0 || all[1].condemned {
		t.Errorf("through gateway %d", f.Client.gateways.current)
	}
}

// TestUnheardAgentIsCondemned beside one that answers, and taken back when it does too: what
// it sends shows nothing of what it gets.
func TestUnheardAgentIsCondemned(t *testing.T) {
	f := newFixture(t)
	f.connect()
	deaf, well := f.slice(0, 1), f.slice(1, 1)
	both := []*slice{deaf, well}
	f.oneWay(time.Second, TickEvery, both, both...)
	f.oneWay(800*ms, TickEvery, both, well)
	if deaf.condemned {
		t.Error("condemned for a few lost answers")
	}
	f.oneWay(400*ms, TickEvery, both, well)
	if !deaf.condemned || f.routed() != `["1.1"]` || f.Client.gateways.current != 0 {
		t.Errorf("condemned %v, route %s, through gateway %d", deaf.condemned, f.routed(), f.Client.gateways.current)
	}
	f.oneWay(time.Second, TickEvery, both, well)
	if !deaf.condemned {
		t.Error("taken back for what it sends")
	}
	f.oneWay(100*ms, TickEvery, both, both...)
	if deaf.condemned {
		t.Error("not taken back")
	}
}

// TestUnheardEverywhere: where this host's own way is dead no gateway helps, and they are
// left ever more slowly.
func TestUnheardEverywhere(t *testing.T) {
	f := newFixture(t)
	f.connect()
	all := []*slice{f.slice(0, 1), f.slice(1, 1)}
	f.oneWay(10*time.Minute, TickEvery, all)
	if n, most := f.Client.gateways.unheard, 2*(MaxSlower+int(10*time.Minute/(600*ms<<MaxSlower))); n < 10 || n > most {
		t.Errorf("%d left in ten minutes, at most %d", n, most)
	}
	f.oneWay(TickEvery, TickEvery, all, all...)
	if f.Client.gateways.unheard != 0 {
		t.Error("not forgotten when somebody answers")
	}
}

// TestUnansweredIsAskedOn, though the slice is idle and heard: one question may be lost.
func TestUnansweredIsAskedOn(t *testing.T) {
	p := pulse{askedAt: time.Hour, sequence: MeasureProbes}
	if at := time.Hour + ProbeActive; p.due(at, 0, false, ProbeIdle) {
		t.Error("an idle slice is asked at once")
	}
	p.open.ask(time.Hour)
	if at := time.Hour + ProbeActive; !p.due(at, 0, false, ProbeIdle) {
		t.Error("not asked again")
	}
}
