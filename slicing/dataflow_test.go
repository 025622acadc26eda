package slicing

import (
	"testing"
	"time"
)

const ms = time.Millisecond

// probed is a meter after probes every 100 ms that took so long; 0 is lost.
func probed(m *Meter, start time.Duration, took ...time.Duration) (now time.Duration) {
	for i, d := range took {
		at := start + time.Duration(i)*100*ms
		sequence := uint32(at / ms)
		m.Asked(sequence, at)
		if d > 0 {
			m.Answered(sequence, at+d)
		}
		now = at
	}
	return now + 100*ms
}

func TestMeter(t *testing.T) {
	var m Meter
	if p := m.Path(0); p != (Path{}) || m.Measured() {
		t.Errorf("before the first probe: %+v", p)
	}
	now := probed(&m, time.Second, 20*ms, 30*ms)
	if p := m.Path(now); p.Measured || p.Delay != 20*ms {
		t.Errorf("after two answers: %+v", p)
	}
	now = probed(&m, now, 25*ms, 0, 0)
	if p := m.Path(now); !p.Measured || !m.Measured() || p.Loss != 0 || p.Late != 30*ms {
		t.Errorf("answers may still come: %+v", p)
	}
	if p := m.Path(now + LostAfter); p.Loss != 0.4 {
		t.Errorf("two of five are lost: %+v", p)
	}
	// A path that got slower shows after DelayProbes answers, a burst of delay does not.
	now = probed(&m, now, 60*ms, 60*ms, 22*ms, 60*ms)
	if p := m.Path(now); p.Delay != 22*ms || p.Late != 60*ms {
		t.Errorf("a queue for a while: %+v", p)
	}
	now = probed(&m, now, 60*ms, 61*ms, 62*ms, 63*ms, 60*ms)
	if p := m.Path(now); p.Delay != 60*ms {
		t.Errorf("a slower path: %+v", p)
	}
	// Nothing but the window counts. I10
	for range 3 {
		now = probed(&m, now, 5*ms, 5*ms, 5*ms, 5*ms, 5*ms, 5*ms)
	}
	if p := m.Path(now + LostAfter); p != (Path{Delay: 5 * ms, Late: 5 * ms, Measured: true}) {
		t.Errorf("after %d good probes: %+v", ProbeWindow, p)
	}
}

func TestMeterSeesReordering(t *testing.T) {
	var m Meter
	for sequence := range uint32(4) {
		m.Asked(sequence+1, 0)
	}
	for _, sequence := range []uint32{1, 3, 2, 4, 4, 9} { // once more, and one that was never asked
		m.Answered(sequence, ms)
	}
	if p := m.Path(ms); p.Reordered != 0.25 || p.Loss != 0 {
		t.Errorf("%+v", p)
	}
}

func path(delay, late time.Duration) Path { return Path{Delay: delay, Late: late, Measured: true} }

// TestSkewRisesAtOnceAndFallsSlowly, by rungs, or every packet's luck would
// change the mode.
func TestSkewRisesAtOnceAndFallsSlowly(t *testing.T) {
	var d Dataflow
	step := func(now time.Duration, slow, late time.Duration, changed bool, skew, gap time.Duration) {
		t.Helper()
		got := d.Judge(now, []Path{path(10*ms, 12*ms), path(10*ms+slow, 10*ms+late)})
		if got != changed || d.Skew() != skew || d.Gap() != gap {
			t.Errorf("at %v: changed %v, skew %v, gap %v; want %v, %v, %v", now, got, d.Skew(), d.Gap(), changed, skew, gap)
		}
	}
	step(0, 0, 2*ms, true, 5*ms, 5*ms)
	step(ms, 4*ms, 11*ms, true, 5*ms, 20*ms)
	step(2*ms, 40*ms, 41*ms, true, 40*ms, 80*ms)
	step(SkewHolds, ms, ms, false, 40*ms, 80*ms)
	step(SkewHolds+ms, 39*ms, 70*ms, false, 40*ms, 80*ms)
	step(2*SkewHolds, ms, ms, false, 40*ms, 80*ms)
	step(2*SkewHolds+2*ms, ms, ms, true, 5*ms, 5*ms)
	step(2*SkewHolds+3*ms, time.Hour, time.Hour, true, MostSkew, MostSkew) // I10
	before := d
	if d.Judge(time.Hour, []Path{path(ms, ms), {}}) || d.Judge(time.Hour, []Path{path(ms, ms)}) || d != before {
		t.Error("a path alone, or one that is not measured, changed something")
	}
}

func TestCalm(t *testing.T) {
	for _, c := range []struct {
		wanted Mode
		skew   time.Duration
		want   Mode
	}{
		{Burst, 0, Burst}, {Burst, SkewLimit, Burst}, {Burst, SkewLimit + 1, Flowlet},
		{Packet, time.Hour, Packet}, {Pin, time.Hour, Pin}, {Flowlet, 0, Flowlet},
	} {
		if got := Calm(c.wanted, c.skew); got != c.want {
			t.Errorf("%v over a skew of %v: %v, want %v", c.wanted, c.skew, got, c.want)
		}
	}
}
