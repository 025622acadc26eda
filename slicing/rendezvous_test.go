package slicing

import "testing"

func TestRendezvousFollowsWeights(t *testing.T) {
	weights := []uint32{4, 2, 0, 1, 1}
	got := make([]uint64, len(weights))
	for flow := range uint64(100_000) {
		got[Rendezvous(weights, flow)]++
	}
	wantShares(t, weights, got, 0.01)
}

func TestRendezvousMovesOnlyTheFlowsOfTheSliceThatLeaves(t *testing.T) {
	before := []uint32{4, 2, 3, 1}
	for leaving := range before {
		after := append([]uint32(nil), before...)
		after[leaving] = 0
		for flow := range uint64(5_000) {
			was, is := Rendezvous(before, flow), Rendezvous(after, flow)
			if was != leaving && is != was {
				t.Fatalf("slice %d left: flow %d moved from %d to %d", leaving, flow, was, is)
			}
			if is == leaving {
				t.Fatalf("flow %d stays on slice %d, which left", flow, leaving)
			}
		}
	}
}

func TestRendezvousWithoutUsableSlice(t *testing.T) {
	if got := Rendezvous([]uint32{0, 0}, 1); got != -1 {
		t.Errorf("Rendezvous = %d, want -1", got)
	}
}
