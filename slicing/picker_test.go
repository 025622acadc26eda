package slicing

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// traffic yields run sizes; the same seed gives the same runs.
type traffic func() int

func mixed(seed uint64, largeShare float64) traffic {
	r := rand.New(rand.NewPCG(seed, 1))
	return func() int {
		if r.Float64() < largeShare {
			return 60_000 + r.IntN(5_536)
		}
		return 52
	}
}

func fixed(n int) traffic { return func() int { return n } }

// carry sends total bytes of sprayable runs and returns bytes by slice.
func carry(t *testing.T, p *Picker, set *Set, next traffic, total int) []uint64 {
	t.Helper()
	got := make([]uint64, len(set.Weights))
	for sent := 0; sent < total; {
		n := next()
		slice, ok := p.Pick(set, Run{Bytes: n, Flow: 7, Sprayable: true})
		if !ok || slice < 0 || slice >= len(got) || set.Weights[slice] == 0 {
			t.Fatalf("Pick = %d, %v of %v", slice, ok, set.Weights)
		}
		got[slice] += uint64(n)
		sent += n
	}
	return got
}

// wantShares demands each slice's part of the whole within tolerance (absolute).
func wantShares(t *testing.T, weights []uint32, got []uint64, tolerance float64) {
	t.Helper()
	var weight, bytes float64
	for i := range weights {
		weight += float64(weights[i])
		bytes += float64(got[i])
	}
	for i := range weights {
		want, have := float64(weights[i])/weight, float64(got[i])/bytes
		if math.Abs(want-have) > tolerance {
			t.Errorf("slice %d of %v: share %.4f, want %.4f ± %.4f", i, weights, have, want, tolerance)
		}
	}
}

func TestBurstSharesConvergeToWeights(t *testing.T) {
	weights := [][]uint32{{1}, {1, 1}, {1, 1, 1}, {4, 2, 1, 1}, {1000, 1}, {7, 0, 3}, {5, 5, 5, 5, 5, 5, 5, 5}, {math.MaxUint32, 1}}
	loads := map[string]traffic{
		"full runs": fixed(65_535), "acks": fixed(52), "full and acks": mixed(3, 0.5), "mostly acks": mixed(4, 0.001),
		"mtu": fixed(1_436), "half": fixed(33_000),
	}
	for _, w := range weights {
		for name, load := range loads {
			t.Run(fmt.Sprint(w, name), func(t *testing.T) {
				got := carry(t, new(Picker), &Set{Weights: w}, load, 16<<20)
				wantShares(t, w, got, 0.01)
			})
		}
	}
}

func TestBurstErrorDoesNotGrow(t *testing.T) {
	// However long it runs, no slice is further from its share than a few visits.
	set := &Set{Weights: []uint32{4, 2, 1, 1}}
	var p Picker
	got := make([]uint64, 4)
	next, total := mixed(9, 0.3), uint64(0)
	for range 30_000 {
		n := next()
		slice, _ := p.Pick(set, Run{Bytes: n, Sprayable: true})
		got[slice] += uint64(n)
		total += uint64(n)
		for i, w := range set.Weights {
			want := float64(total) * float64(w) / 8
			if lag := math.Abs(float64(got[i]) - want); lag > 3*DefaultQuantum {
				t.Fatalf("slice %d is %.0f bytes from its share after %d", i, lag, total)
			}
		}
	}
}

func TestSmallPacketsStayTogether(t *testing.T) {
	set := &Set{Weights: []uint32{1, 1, 1}}
	var p Picker
	switches, last := 0, -1
	const packets = 100_000
	for range packets {
		slice, _ := p.Pick(set, Run{Bytes: 52, Sprayable: true})
		if slice != last {
			switches, last = switches+1, slice
		}
	}
	if limit := packets*52/DefaultQuantum + 2; switches > limit {
		t.Errorf("%d changes of slice, want at most %d", switches, limit)
	}
}

func TestFullRunsTakeTurns(t *testing.T) {
	set := &Set{Weights: []uint32{1, 1, 1}}
	var p Picker
	for i := range 12 {
		if slice, _ := p.Pick(set, Run{Bytes: 64_000, Sprayable: true}); slice != i%3 {
			t.Errorf("run %d went to slice %d, want %d", i, slice, i%3)
		}
	}
}

func TestSetChangesAtOnce(t *testing.T) {
	both := &Set{Weights: []uint32{1, 1}}
	var p Picker
	first, _ := p.Pick(both, Run{Bytes: 52, Sprayable: true})
	only := &Set{Weights: []uint32{1, 1}}
	only.Weights[first] = 0
	for range 10 {
		if slice, ok := p.Pick(only, Run{Bytes: 52, Sprayable: true}); !ok || slice == first {
			t.Fatalf("Pick = %d, %v after slice %d became unusable", slice, ok, first)
		}
	}
	if _, ok := p.Pick(&Set{Weights: []uint32{0, 0}}, Run{Bytes: 52, Sprayable: true}); ok {
		t.Error("a slice was picked though none is usable")
	}
	if _, ok := p.Pick(&Set{}, Run{Bytes: 52}); ok {
		t.Error("a slice was picked from an empty set")
	}
	if _, ok := p.Pick(nil, Run{Bytes: 52}); ok {
		t.Error("a slice was picked from no set")
	}
	if _, ok := p.Pick(both, Run{Bytes: 52, Sprayable: true}); !ok {
		t.Error("no slice after the set came back")
	}
}

func TestReturningSliceIsNotOwedItsAbsence(t *testing.T) {
	all, without := &Set{Weights: []uint32{1, 1, 1}}, &Set{Weights: []uint32{1, 0, 1}}
	var p Picker
	carry(t, &p, all, fixed(1_436), 1<<20)
	carry(t, &p, without, fixed(1_436), 64<<20)
	wantShares(t, all.Weights, carry(t, &p, all, fixed(1_436), 16<<20), 0.01)
}

func TestFairnessSurvivesChangesOfTheSet(t *testing.T) {
	// A new equal Set before every single packet must not keep the picker on one slice.
	var p Picker
	got := make([]uint64, 3)
	for range 50_000 {
		set := &Set{Weights: []uint32{2, 1, 1}}
		slice, _ := p.Pick(set, Run{Bytes: 1_436, Sprayable: true})
		got[slice] += 1_436
	}
	wantShares(t, []uint32{2, 1, 1}, got, 0.01)

	// Weights that alternate every 300 kB give the mean of both.
	sets := []*Set{{Weights: []uint32{3, 1}}, {Weights: []uint32{100, 300}}}
	sum := make([]uint64, 2)
	for i := range 200 {
		for slice, n := range carry(t, &p, sets[i%2], mixed(uint64(i), 0.2), 300_000) {
			sum[slice] += n
		}
	}
	wantShares(t, []uint32{1, 1}, sum, 0.02)
}

func TestSprayedRunsMakeRoomForPinnedFlows(t *testing.T) {
	set := &Set{Weights: []uint32{1, 1}}
	var p Picker
	got := make([]uint64, 2)
	for range 20_000 {
		udp, _ := p.Pick(set, Run{Bytes: 1_200, Flow: 42})
		tcp, _ := p.Pick(set, Run{Bytes: 3_600, Flow: 1, Sprayable: true})
		got[udp] += 1_200
		got[tcp] += 3_600
	}
	wantShares(t, set.Weights, got, 0.01)
}

func TestLeadOfPinnedFlowsIsForgivenAtItsLimit(t *testing.T) {
	// After 1 GB of one UDP flow, TCP avoids that slice for some visits, not for 1 GB.
	set := &Set{Weights: []uint32{1, 1}}
	var p Picker
	var busy int
	for range 20_000 {
		busy, _ = p.Pick(set, Run{Bytes: 50_000, Flow: 42})
	}
	avoided := 0
	for {
		slice, _ := p.Pick(set, Run{Bytes: 1_000, Sprayable: true})
		if slice == busy {
			break
		}
		avoided += 1_000
	}
	// It is MaxLead quanta above its half, so the other half may have twice that.
	if limit := 2 * (MaxLead + 2) * DefaultQuantum; avoided > limit {
		t.Errorf("TCP kept off the slice for %d bytes, want at most %d", avoided, limit)
	}
}

func TestPacketModeIsTheLetterOfThePatent(t *testing.T) {
	set := &Set{Mode: Packet, Weights: []uint32{9, 0, 1, 5}}
	usable := []int{0, 2, 3}
	var p Picker
	for i := range 30 {
		if slice, _ := p.Pick(set, Run{Bytes: 1_436, Sprayable: true}); slice != usable[i%3] {
			t.Errorf("packet %d to slice %d, want %d", i, slice, usable[i%3])
		}
	}
	first, _ := p.Pick(set, Run{Bytes: 100, Flow: 5})
	for range 10 {
		if slice, _ := p.Pick(set, Run{Bytes: 100, Flow: 5}); slice != first {
			t.Fatal("a flow that is not sprayable left its slice in mode packet")
		}
	}
}

func TestPinKeepsEveryFlowOnItsSlice(t *testing.T) {
	set := &Set{Mode: Pin, Weights: []uint32{1, 2, 3}}
	var p Picker
	for flow := range uint64(500) {
		want := Rendezvous(set.Weights, flow)
		for _, spray := range []bool{true, false} {
			if slice, _ := p.Pick(set, Run{Bytes: 1_436, Flow: flow, Sprayable: spray}); slice != want {
				t.Fatalf("flow %d to slice %d, want %d", flow, slice, want)
			}
		}
	}
}

func TestLimitsOfASet(t *testing.T) { // I10
	weights := make([]uint32, MaxSlices+10)
	for i := range weights {
		weights[i] = 1
	}
	var p Picker
	for flow := range uint64(2_000) {
		for _, spray := range []bool{true, false} {
			if slice, ok := p.Pick(&Set{Weights: weights, Quantum: 1}, Run{Bytes: 1, Flow: flow, Sprayable: spray}); !ok || slice >= MaxSlices {
				t.Fatalf("Pick = %d, %v with %d slices", slice, ok, len(weights))
			}
		}
	}
	huge := &Set{Weights: []uint32{math.MaxUint32, 1, math.MaxUint32}, Quantum: math.MaxInt}
	for range 1_000 {
		p.Pick(huge, Run{Bytes: math.MaxInt, Sprayable: true})
		p.Pick(huge, Run{Bytes: math.MinInt, Sprayable: true})
		p.Pick(huge, Run{Bytes: math.MaxInt, Flow: 3})
	}
	wantShares(t, huge.Weights, carry(t, &p, huge, fixed(65_535), 512<<20), 0.01)
}

func TestPickDoesNotAllocate(t *testing.T) {
	sets := []*Set{{Weights: []uint32{3, 2, 1}}, {Weights: []uint32{3, 0, 1}}}
	var p Picker
	i := 0
	n := testing.AllocsPerRun(1_000, func() {
		i++
		p.Pick(sets[i/7%2], Run{Bytes: 1_436, Flow: uint64(i), Sprayable: i%3 != 0})
	})
	if n != 0 {
		t.Errorf("%v allocations in a Pick", n)
	}
}

func BenchmarkPick(b *testing.B) {
	weights := []uint32{4, 2, 1, 1}
	cases := map[string]struct {
		set *Set
		run Run
	}{
		"full run":  {&Set{Weights: weights}, Run{Bytes: 64_000, Sprayable: true}},
		"ack":       {&Set{Weights: weights}, Run{Bytes: 52, Sprayable: true}},
		"udp":       {&Set{Weights: weights}, Run{Bytes: 1_200, Flow: 9}},
		"packet":    {&Set{Mode: Packet, Weights: weights}, Run{Bytes: 1_436, Sprayable: true}},
		"new flows": {&Set{Weights: weights}, Run{Bytes: 1_200}},
	}
	for name, c := range cases {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			var p Picker
			for b.Loop() {
				if name == "new flows" {
					c.run.Flow++
				}
				p.Pick(c.set, c.run)
			}
		})
	}
}
