package client

import (
	"slices"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/node/protocol"
	"github.com/meshcrypt/meshcrypt/slicing"
)

// TestModeIsTheWelcomes: what the mesh decided holds, whatever was asked for.
func TestModeIsTheWelcomes(t *testing.T) {
	for word, want := range map[registry.Mode]slicing.Mode{
		registry.ModeAuto: slicing.Pin, "": slicing.Pin, "a mode of a later version": slicing.Pin,
		registry.ModeBurst: slicing.Burst, registry.ModePacket: slicing.Packet,
		registry.ModeFlowlet: slicing.Flowlet, registry.ModePin: slicing.Pin,
	} {
		f := newFixture(t)
		f.connect()
		f.slice(0, 1)
		f.slice(1, 1)
		f.welcome(protocol.Welcome{Mode: word, SprayUDP: word == registry.ModeBurst})
		f.advance(TickEvery)
		if route := f.table().Default; route.Set.Mode != want || route.SprayUDP != (word == registry.ModeBurst) {
			t.Errorf("%q: %v, UDP sprayed %v", word, route.Set.Mode, route.SprayUDP)
		}
	}
}

// TestSliceKeepsItsPlaceAndTakesNewWeights: a slice stands at its number, and
// weighs what the arbiter said last about that very epoch.
func TestSliceKeepsItsPlaceAndTakesNewWeights(t *testing.T) {
	f := newFixture(t)
	f.connect()
	f.welcome(protocol.Welcome{Mode: registry.ModeBurst})
	weights := func() []uint32 { return f.table().Default.Set.Weights }
	one := f.slice(1, 2)
	three := f.slice(3, 1)
	one.weight, three.weight = 5, 7
	if got := weights(); !slices.Equal(got, []uint32{0, 5, 0, 7}) {
		t.Fatalf("weights %v", got)
	}
	say := func(w ...registry.SliceWeight) { f.hear(&protocol.Client{Weights: &protocol.Weights{Slices: w}}) }
	f.dirty = false
	say(registry.SliceWeight{Number: 1, Epoch: 1, Weight: 9}, registry.SliceWeight{Number: 9, Epoch: 1, Weight: 9})
	if f.dirty {
		t.Error("weights of slices that are not here changed something")
	}
	say(registry.SliceWeight{Number: 1, Epoch: 2, Weight: 50}, registry.SliceWeight{Number: 3, Epoch: 1, Weight: 7})
	if got := weights(); !f.dirty || !slices.Equal(got, []uint32{0, 50, 0, 7}) {
		t.Errorf("weights %v, published anew %v", got, f.dirty)
	}
	three.condemned = true
	if got := weights(); !slices.Equal(got, []uint32{0, 50}) {
		t.Errorf("weights %v beside a condemned slice", got)
	}
	one.condemned, three.condemned = true, false
	if got := weights(); !slices.Equal(got, []uint32{0, 0, 0, 7}) {
		t.Errorf("weights %v: slice 3 left its place", got)
	}
}

// TestSpareCarriesBehindANewGateway: the old one's host may have been the main agent's.
func TestSpareCarriesBehindANewGateway(t *testing.T) {
	f := newFixture(t)
	f.connect()
	main, spare := f.slice(0, 1), f.slice(1, 1)
	spare.spare = true
	expect := func(when, want string) {
		t.Helper()
		if got := f.routed(); got != want {
			t.Errorf("%s: route %s, want %s", when, got, want)
		}
	}
	f.advance(time.Second, main, spare)
	expect("both are heard", `["0.1"]`)
	f.advance(TickEvery)
	f.leaveGateway(f.config.Now(), "gateway is silent")
	f.publishIfDirty()
	expect("none is heard yet", `["0.1"]`)
	f.advance(TickEvery, spare)
	expect("the spare answers first", `["1.1"]`)
	f.advance(TickEvery, main, spare)
	expect("the main slice answers", `["0.1"]`)
}
