package slicing

import (
	"testing"
	"time"
)

// at is the slice of one run of a flow.
func at(p *Picker, set *Set, flow uint64, now time.Duration) int {
	slice, _ := p.Pick(set, Run{Bytes: 1_200, Flow: flow, Now: now})
	return slice
}

// TestFlowStaysThoughWeightsChange: a flow moves only when its slice is gone,
// and does not come back when that comes back.
func TestFlowStaysThoughWeightsChange(t *testing.T) {
	var p Picker
	first := &Set{Mode: Pin, Weights: []uint32{5, 5, 0}}
	was := make([]int, 60)
	for flow := range was {
		was[flow] = at(&p, first, uint64(flow), 0)
	}
	for _, weights := range [][]uint32{{1, 9, 0}, {9, 1, 0}, {5, 5, 500}} {
		for flow := range was {
			if is := at(&p, &Set{Mode: Pin, Weights: weights}, uint64(flow), time.Second); is != was[flow] {
				t.Fatalf("weights %v moved flow %d from %d to %d", weights, flow, was[flow], is)
			}
		}
	}
	moved := make([]int, len(was))
	for flow := range was {
		moved[flow] = at(&p, &Set{Mode: Pin, Weights: []uint32{0, 5, 5}}, uint64(flow), time.Second)
		if moved[flow] == 0 || was[flow] != 0 && moved[flow] != was[flow] {
			t.Fatalf("flow %d went from %d to %d when slice 0 left", flow, was[flow], moved[flow])
		}
	}
	for flow := range was {
		if is := at(&p, &Set{Mode: Pin, Weights: []uint32{5, 5, 5}}, uint64(flow), time.Second); is != moved[flow] {
			t.Fatalf("flow %d went back from %d to %d", flow, moved[flow], is)
		}
	}
}

// TestStepPlacesFlowsAnew: what auto decides is not held up by where flows are.
func TestStepPlacesFlowsAnew(t *testing.T) {
	var p Picker
	own := &Set{Mode: Pin, Weights: []uint32{5, 0}}
	both := &Set{Mode: Pin, Weights: []uint32{5, 5}, Step: 1}
	seen := [2]int{}
	for flow := range uint64(60) {
		at(&p, own, flow, 0)
	}
	for flow := range uint64(60) {
		seen[at(&p, both, flow, 0)]++
	}
	if seen[0] == 0 || seen[1] == 0 {
		t.Errorf("flows by slice: %v", seen)
	}
}

// TestFlowTableIsBounded: what finds no place goes by the rendezvous, and an
// idle flow makes room.
func TestFlowTableIsBounded(t *testing.T) { // I10
	set := &Set{Mode: Pin, Weights: []uint32{1, 2, 3}}
	var p Picker
	for flow := range uint64(10 * FlowSets * FlowWays) {
		if got, want := at(&p, set, flow, 0), Rendezvous(set.Weights, flow); got != want {
			t.Fatalf("flow %d on slice %d, want %d", flow, got, want)
		}
	}
	var f flows
	for i := range uint64(FlowWays) {
		f.find(i*FlowSets, 0).slice = 1
	}
	const late = FlowWays * FlowSets
	if f.find(late, FlowIdle) != nil {
		t.Error("a full set made room for another flow")
	}
	if f.find(late, FlowIdle+1) == nil {
		t.Error("an idle flow did not make room")
	}
}

// TestFlowletMovesOnlyAfterAPause longer than the gap, and never without one
// that was measured.
func TestFlowletMovesOnlyAfterAPause(t *testing.T) {
	const gap = 20 * time.Millisecond
	for _, c := range []struct {
		gap, pause time.Duration
		moves      bool
	}{{gap, gap, false}, {gap, gap + 1, true}, {0, time.Minute, false}} {
		set := &Set{Mode: Flowlet, Weights: []uint32{1, 1, 1}, Gap: c.gap}
		var p Picker
		slices, now := map[int]bool{}, time.Duration(0)
		for range 30 {
			slice, _ := p.Pick(set, Run{Bytes: 64_000, Flow: 7, Sprayable: true, Now: now})
			slices[slice] = true
			now += c.pause
		}
		if moved := len(slices) > 1; moved != c.moves {
			t.Errorf("gap %v, pauses of %v: slices %v", c.gap, c.pause, slices)
		}
	}
}

// TestFlowletsFollowWeights: many flows with pauses share by bytes.
func TestFlowletsFollowWeights(t *testing.T) {
	set := &Set{Mode: Flowlet, Weights: []uint32{4, 2, 1, 1}, Gap: time.Millisecond}
	var p Picker
	got := make([]uint64, len(set.Weights))
	next, now := mixed(5, 0.3), time.Duration(0)
	for i := range 60_000 {
		run := Run{Bytes: next(), Flow: uint64(i % 20), Sprayable: true, Now: now}
		slice, ok := p.Pick(set, run)
		if !ok {
			t.Fatal("no slice")
		}
		got[slice] += uint64(run.Bytes)
		now += 100 * time.Microsecond
	}
	wantShares(t, set.Weights, got, 0.02)
}

// TestFlowletLeavesASliceThatIsGone at once, pause or not.
func TestFlowletLeavesASliceThatIsGone(t *testing.T) {
	var p Picker
	was, _ := p.Pick(&Set{Mode: Flowlet, Weights: []uint32{1, 1}}, Run{Bytes: 9, Flow: 3, Sprayable: true})
	only := &Set{Mode: Flowlet, Weights: []uint32{1, 1}}
	only.Weights[was] = 0
	if is, ok := p.Pick(only, Run{Bytes: 9, Flow: 3, Sprayable: true}); !ok || is == was {
		t.Errorf("slice %d, %v", is, ok)
	}
}

// TestDealGoesOnWhereItWas: figure 7 over runs of any length.
func TestDealGoesOnWhereItWas(t *testing.T) {
	set := &Set{Mode: Packet, Weights: []uint32{1, 0, 7, 2}}
	usable := []int{0, 2, 3}
	var p Picker
	sent := 0
	for _, packets := range []int{1, 44, 2, 3, 7} {
		hand := p.Deal(set, packets)
		for i := range packets {
			if got, want := hand[i%len(hand)], usable[sent%3]; got != want {
				t.Fatalf("packet %d to slice %d, want %d", sent, got, want)
			}
			sent++
		}
	}
	if hand := p.Deal(&Set{Mode: Packet, Weights: []uint32{0}}, 3); len(hand) != 0 {
		t.Errorf("hand %v of no slice", hand)
	}
}
