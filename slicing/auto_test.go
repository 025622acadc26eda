package slicing

import (
	"testing"
	"time"
)

// drive is a session whose bytes pass at a rate that depends on the mode.
type drive struct {
	Auto
	now     time.Duration
	carried uint64
	pinned  uint64 // bytes per second
	sprayed uint64
	mode    Mode
	trials  int
}

// advance lets time pass in steps and gives the mode at its end.
func (d *drive) advance(t time.Duration, loads ...float64) Mode {
	const step = 100 * time.Millisecond
	for end := d.now + t; d.now < end; {
		d.now += step
		rate := d.pinned
		if d.mode == Burst {
			rate = d.sprayed
		}
		d.carried += rate / uint64(time.Second/step)
		mode := d.Choose(d.now, loads, d.carried)
		if mode == Burst && d.mode != Burst {
			d.trials++
		}
		d.mode = mode
	}
	return d.mode
}

const slow, fast = 100_000_000, 180_000_000

func TestAutoSpraysOnlyWhereItMay(t *testing.T) {
	for _, c := range []struct {
		name  string
		loads []float64
		want  Mode
	}{
		{"idle", []float64{0.1, 0.1}, Pin},
		{"one full, one with room", []float64{0.9, 0.3}, Burst},
		{"all full: spraying would only reorder", []float64{1, 1}, Pin},
		{"full, but the other hardly less", []float64{0.9, 0.7}, Pin},
		{"one slice", []float64{1}, Pin},
		{"none", nil, Pin},
	} {
		d := drive{mode: Pin, pinned: slow, sprayed: fast}
		if got := d.advance(10*time.Second, c.loads...); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestAutoHasHysteresis(t *testing.T) {
	d := drive{mode: Pin, pinned: slow, sprayed: fast}
	full, idle := []float64{0.95, 0.2}, []float64{0.3, 0.2}
	if d.advance(SprayAfter, full...) != Pin {
		t.Fatal("sprays before the load held")
	}
	if d.advance(200*time.Millisecond, full...) != Burst {
		t.Fatal("does not spray although one agent stayed full")
	}
	d.advance(TrialTime+time.Second, full...)
	if d.advance(CalmAfter, idle...) != Burst {
		t.Fatal("calms before the calm held")
	}
	if d.advance(200*time.Millisecond, idle...) != Pin {
		t.Fatal("does not calm")
	}
	d.advance(SprayAfter/2, full...)
	d.advance(100*time.Millisecond, idle...)
	if d.advance(SprayAfter, full...) != Pin {
		t.Fatal("an interrupted load counts as one that held")
	}
}

// TestAutoKeepsOnlyWhatPays: spraying that moves less is over after its trial,
// and tried ever more seldom.
func TestAutoKeepsOnlyWhatPays(t *testing.T) {
	full := []float64{0.95, 0.2}
	d := drive{mode: Pin, pinned: slow, sprayed: slow / 2}
	d.advance(SprayAfter+TrialTime/2, full...)
	if d.mode != Burst {
		t.Fatal("no trial")
	}
	if d.advance(TrialTime, full...) != Pin {
		t.Fatal("goes on although less passes")
	}
	if d.advance(RetryMin-TrialTime, full...) != Pin || d.trials != 1 {
		t.Fatal("tried again too soon")
	}
	d.advance(time.Hour, full...)
	if d.trials < 8 || d.trials > 12 {
		t.Errorf("%d trials in an hour, the pause grows from %v to %v", d.trials, RetryMin, RetryMax)
	}
	d.sprayed = fast
	if d.advance(RetryMax+SprayAfter+2*TrialTime, full...) != Burst {
		t.Error("never finds out that it pays now")
	}
	if d.pause != 0 {
		t.Error("a success does not forgive the failures")
	}
}
