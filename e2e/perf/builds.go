package main

import (
	"fmt"
	"slices"
)

// compareBuilds measures this build beside another one, and beside itself: what
// two runs of one build differ by is what a difference has to exceed.
func (b *bench) compareBuilds(name string, start func(*rig), mode string) {
	own, other, again := b.newRig(mode), b.newRig(mode), b.newRig(mode)
	other.binary = b.other
	for _, r := range []*rig{own, other, again} {
		start(r)
	}
	for _, down := range []bool{false, true} {
		var rounds []builds
		for round := range b.rounds {
			// The order turns, or one build would always come after the same one.
			var s builds
			sides := []func(){
				func() { s.own = own.measure(down) }, func() { s.other = other.measure(down) }, func() { s.again = again.measure(down) },
			}
			for i := range sides {
				sides[(round+i)%len(sides)]()
			}
			rounds = append(rounds, s)
			b.Logf("%s %s %s round %d: %v | other %v | again %v", name, mode, direction(down), round, s.own, s.other, s.again)
		}
		if len(rounds) > 1 {
			rounds = rounds[1:] // which warmed caches and windows
		}
		fmt.Fprintf(b.out, "%-9s %-4s %-4s %d rounds\n%s%s", name, mode, direction(down), len(rounds),
			comparison("throughput", rounds, func(s sample) float64 { return s.mbit }),
			comparison("CPU for a GB", rounds, func(s sample) float64 { return s.cpuPerG }))
	}
}

// builds is one round: this build, the other, and this one again.
type builds struct{ own, other, again sample }

// comparison tells the ratio to the other build from the ratio to itself, by
// their medians, least and largest.
func comparison(what string, rounds []builds, get func(sample) float64) string {
	var other, itself []float64
	for _, r := range rounds {
		other = append(other, get(r.own)/get(r.other))
		itself = append(itself, get(r.own)/get(r.again))
	}
	verdict := "within the spread of this build against itself"
	if low, high := slices.Min(itself), slices.Max(itself); middle(other) < low || middle(other) > high {
		verdict = "OUTSIDE the spread of this build against itself"
	}
	return fmt.Sprintf("  %-12s other %s, itself %s: %s\n", what, spread(other), spread(itself), verdict)
}

// spread is the median of ratios, and the least and the largest.
func spread(ratios []float64) string {
	return fmt.Sprintf("%.3f (%.3f to %.3f)", middle(ratios), slices.Min(ratios), slices.Max(ratios))
}

// middle is the median.
func middle(values []float64) float64 {
	values = slices.Sorted(slices.Values(values))
	n := len(values)
	return (values[(n-1)/2] + values[n/2]) / 2
}
