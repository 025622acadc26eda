package slicing

import (
	"testing"
	"time"
)

func TestAutoSpraysOnlyWhereItPays(t *testing.T) {
	step := func(a *Auto, from, to time.Duration, loads ...float64) (mode Mode) {
		for now := from; now <= to; now += 100 * time.Millisecond {
			mode = a.Choose(now, loads)
		}
		return mode
	}
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
		var a Auto
		if got := step(&a, 0, 3*time.Second, c.loads...); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestAutoHasHysteresis(t *testing.T) {
	var a Auto
	full, idle := []float64{0.95, 0.2}, []float64{0.3, 0.2}
	if a.Choose(0, full) != Pin || a.Choose(SprayAfter-1, full) != Pin {
		t.Fatal("sprays before the load held")
	}
	if a.Choose(SprayAfter, full) != Burst {
		t.Fatal("does not spray although one agent stayed full")
	}
	if a.Choose(SprayAfter+1, idle) != Burst || a.Choose(SprayAfter+CalmAfter, idle) != Burst {
		t.Fatal("calms before the calm held")
	}
	if a.Choose(SprayAfter+CalmAfter+1, idle) != Pin {
		t.Fatal("does not calm")
	}
	a.Choose(20*time.Second, full)
	a.Choose(20*time.Second+SprayAfter/2, idle)
	if a.Choose(20*time.Second+SprayAfter, full) != Pin {
		t.Fatal("an interrupted load counts as one that held")
	}
}
