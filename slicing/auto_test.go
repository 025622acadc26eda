package slicing

import (
	"testing"
	"time"
)

// drive is a session whose bytes pass at a rate that depends on the step.
type drive struct {
	Auto
	now     time.Duration
	carried uint64
	rates   []uint64 // bytes per second by step
	at      int
	climbs  int
}

func newDrive(rates ...uint64) *drive {
	return &drive{Auto: NewAuto(len(rates) - 1), now: time.Hour, rates: rates}
}

// advance lets time pass in ticks and gives the step at its end.
func (d *drive) advance(t time.Duration, loads ...float64) int {
	const tick = 100 * time.Millisecond
	for end := d.now + t; d.now < end; {
		d.now += tick
		d.carried += d.rates[d.at] / uint64(time.Second/tick)
		step := d.Choose(d.now, loads, d.carried)
		if step > d.at {
			d.climbs++
		}
		d.at = step
	}
	return d.at
}

const slow, fast = 100_000_000, 180_000_000

func TestAutoStepsOnlyWhereItMay(t *testing.T) {
	for _, c := range []struct {
		name  string
		loads []float64
		want  int
	}{
		{"idle", []float64{0.1, 0.1}, 0},
		{"one full, one with room", []float64{0.9, 0.3}, 1},
		{"all full: spraying would only reorder", []float64{1, 1}, 0},
		{"full, but the other hardly less", []float64{0.9, 0.7}, 0},
		{"one slice", []float64{1}, 0},
		{"none", nil, 0},
	} {
		if got := newDrive(slow, fast).advance(10*time.Second, c.loads...); got != c.want {
			t.Errorf("%s: step %d, want %d", c.name, got, c.want)
		}
	}
}

// TestAutoBeginsAnew: it has nothing to remember once it is down and calm, but for a trial
// that failed.
func TestAutoBeginsAnew(t *testing.T) {
	for _, c := range []struct {
		name   string
		rates  []uint64
		forget bool
	}{{"it was worth it", []uint64{slow, fast}, true}, {"it was not", []uint64{slow, slow}, false}} {
		d := newDrive(c.rates...)
		if !d.Begins() {
			t.Errorf("%s: a new one does not begin", c.name)
		}
		if d.advance(StepAfter/2, 0.95, 0.2); d.Begins() {
			t.Errorf("%s: begins with a step that is due", c.name)
		}
		d.advance(StepAfter+TrialTime+time.Second, 0.95, 0.2)
		if step := d.advance(2*CalmAfter, 0.1, 0.1); step != 0 || !d.Rests() || d.Begins() != c.forget {
			t.Errorf("%s: at step %d, begins %t", c.name, step, d.Begins())
		}
	}
}

func TestAutoHasHysteresis(t *testing.T) {
	d := newDrive(slow, fast)
	full, idle := []float64{0.95, 0.2}, []float64{0.3, 0.2}
	if d.advance(StepAfter, full...) != 0 {
		t.Fatal("steps up before the load held")
	}
	if d.advance(200*time.Millisecond, full...) != 1 {
		t.Fatal("does not step up although one agent stayed full")
	}
	d.advance(TrialTime+time.Second, full...)
	if d.advance(CalmAfter, idle...) != 1 {
		t.Fatal("calms before the calm held")
	}
	if d.advance(200*time.Millisecond, idle...) != 0 {
		t.Fatal("does not calm")
	}
	d.advance(StepAfter/2, full...)
	d.advance(100*time.Millisecond, idle...)
	if d.advance(StepAfter, full...) != 0 {
		t.Fatal("an interrupted load counts as one that held")
	}
}

// TestAutoKeepsOnlyWhatPays: spraying that moves less is over after its trial,
// and tried ever more seldom.
func TestAutoKeepsOnlyWhatPays(t *testing.T) {
	full := []float64{0.95, 0.2}
	d := newDrive(slow, slow)
	if d.advance(StepAfter+TrialTime/2, full...) != 1 {
		t.Fatal("no trial")
	}
	if d.advance(TrialTime, full...) != 0 {
		t.Fatal("goes on although no more passes")
	}
	if d.advance(RetryMin-TrialTime, full...) != 0 || d.climbs != 1 {
		t.Fatal("tried again too soon")
	}
	d.advance(time.Hour, full...)
	if d.climbs < 8 || d.climbs > 12 {
		t.Errorf("%d trials in an hour, the pause grows from %v to %v", d.climbs, RetryMin, RetryMax)
	}
	d.rates[1] = fast
	if d.advance(RetryMax+StepAfter+2*TrialTime, full...) != 1 {
		t.Error("never finds out that it pays now")
	}
	if d.pause[1] != 0 {
		t.Error("a success does not forgive the failures")
	}
}

// TestAutoClimbsByOne: the step between costs no order, so it is kept unless it
// loses; spraying comes only after it, and back from spraying is to it.
func TestAutoClimbsByOne(t *testing.T) {
	full, idle := []float64{0.95, 0.2}, []float64{0.3, 0.2}
	d := newDrive(slow, slow, slow/2)
	if d.advance(StepAfter+TrialTime, full...) != 1 || d.advance(StepAfter+TrialTime/2, full...) != 2 {
		t.Fatal("not one by one")
	}
	if d.advance(TrialTime, full...) != 1 || d.advance(RetryMin/2, full...) != 1 {
		t.Fatal("a failed spray leaves the step before it")
	}
	if d.advance(CalmAfter+time.Second, idle...) != 0 {
		t.Fatal("does not calm")
	}
	if d.advance(StepAfter+TrialTime, full...) != 1 {
		t.Error("the failure of a spray bars the step before it")
	}
	d = newDrive(fast, slow, fast)
	if d.advance(2*(StepAfter+TrialTime), full...) != 0 {
		t.Error("a step that loses is kept")
	}
}
