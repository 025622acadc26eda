package client

import (
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/node/probe"
	"github.com/meshcrypt/meshcrypt/node/protocol"
	"github.com/meshcrypt/meshcrypt/slicing"
)

// measure lets slices answer probes, each with its delay, for so long.
func (f *fixture) measure(d time.Duration, delays map[*slice]time.Duration) {
	f.Helper()
	heard := slices.Collect(maps.Keys(delays))
	for ; d > 0; d -= ProbeActive {
		for s, delay := range delays {
			s.pulse.sequence++
			asked := f.config.Now() - delay
			s.pulse.meter.Asked(s.pulse.sequence, asked)
			reply, _ := probe.Answer(probe.Ask(s.pulse.sequence, asked), probe.PathGood, 0)
			controlMessage{s.key, reply}.apply(f.Client)
		}
		f.advance(ProbeActive, heard...)
	}
}

// TestSlowPathCalmsSpraying: within a second the mode is calmer, the arbiter
// hears of it at once, and when the path is well again it sprays again.
func TestSlowPathCalmsSpraying(t *testing.T) {
	f := newFixture(t)
	f.connect()
	f.welcome(protocol.Welcome{Mode: registry.ModeBurst})
	a, b := f.slice(0, 1), f.slice(1, 1)
	mode := func() slicing.Mode { return f.table().Default.Set.Mode }
	f.measure(time.Second, map[*slice]time.Duration{a: 2 * ms, b: 4 * ms})
	if mode() != slicing.Burst || f.table().Default.Set.Gap != 5*ms {
		t.Fatalf("%v, gap %v over paths alike", mode(), f.table().Default.Set.Gap)
	}
	f.said()
	f.measure(900*ms, map[*slice]time.Duration{a: 2 * ms, b: 60 * ms})
	if set := f.table().Default.Set; set.Mode != slicing.Flowlet || set.Gap != 80*ms {
		t.Fatalf("%v, gap %v, over paths that differ by 58 ms", set.Mode, set.Gap)
	}
	told := false
	for _, m := range f.said() {
		told = told || m.Alive != nil && m.Alive.Flow == protocol.Flow{Skew: 80, Gap: 80} && len(m.Alive.Paths) == 2 && m.Alive.Paths[1].Delay == 60_000
	}
	if !told {
		t.Error("the arbiter did not hear of it")
	}
	f.measure(slicing.SkewHolds+2*time.Second, map[*slice]time.Duration{a: 2 * ms, b: 4 * ms})
	if mode() != slicing.Burst {
		t.Errorf("%v over paths that are alike again", mode())
	}
}

// TestFreshSliceIsMeasuredFirst: it carries nothing beside measured ones until
// its path is known; alone it must.
func TestFreshSliceIsMeasuredFirst(t *testing.T) {
	f := newFixture(t)
	f.connect()
	a := f.slice(0, 1)
	if f.routed() != `["0.1"]` {
		t.Fatalf("route %s: nothing is measured, so everything may carry", f.routed())
	}
	f.measure((slicing.MinProbes-1)*ProbeActive, map[*slice]time.Duration{a: 2 * ms})
	if _, paths := f.measures(f.config.Now()); len(paths) != 0 {
		t.Errorf("%+v is told of a path that is not measured", paths)
	}
	f.measure(500*ms, map[*slice]time.Duration{a: 2 * ms})
	b := f.slice(1, 1)
	if f.routed() != `["0.1"]` {
		t.Errorf("route %s before the fresh slice was measured", f.routed())
	}
	f.measure(slicing.MinProbes*ProbeActive, map[*slice]time.Duration{a: 2 * ms, b: 2 * ms})
	if f.routed() != `["0.1","1.1"]` {
		t.Errorf("route %s after it was", f.routed())
	}
	f.moveTo(gatewayAddr(1), f.config.Now())
	if a.pulse.meter.Measured() || b.pulse.meter.Measured() {
		t.Error("paths through the old gateway count for the new one")
	}
}
