package client

import (
	"net/netip"
	"testing"
	"time"
)

// TestMaxStops: the third stop in ten seconds is one too many, for a minute.
func TestMaxStops(t *testing.T) {
	for name, c := range map[string]struct {
		at    []time.Duration // seconds after the start
		often bool
	}{
		"none":                      {nil, false},
		"two at once":               {[]time.Duration{1, 1}, false},
		"three":                     {[]time.Duration{1, 2, 3}, true},
		"three in just ten seconds": {[]time.Duration{1, 2, 11}, true},
		"three in eleven":           {[]time.Duration{1, 2, 12}, false},
		"one of four long ago":      {[]time.Duration{1, 20, 25, 30}, true},
	} {
		t.Run(name, func(t *testing.T) {
			var s stops
			var last time.Duration
			often := false
			for _, at := range c.at {
				last = time.Hour + at*time.Second
				often = s.note(last)
			}
			if often != c.often || s.often(last+StopHold-1) != c.often {
				t.Errorf("often %v", often)
			}
			if s.often(last + StopHold) {
				t.Error("never forgiven")
			}
		})
	}
}

// TestStands: a stop is a silence beyond what an answer takes at best, whatever
// late answers say of the way.
func TestStands(t *testing.T) {
	const start = time.Hour
	for name, c := range map[string]struct {
		nearest, waited time.Duration // 0: no question out
		stands          bool
	}{
		"not asked":                 {ms, 0, false},
		"near, asked 301 ms ago":    {ms, StopLimit + ms, false},
		"near, longer":              {ms, StopLimit + 2*ms, true},
		"far, asked 700 ms ago":     {500 * ms, 700 * ms, false},
		"far, longer":               {500 * ms, 801 * ms, true},
		"never heard along the way": {0, 5 * time.Second, false},
	} {
		p := pulse{nearest: c.nearest}
		if c.waited != 0 {
			p.waiting = start - c.waited
		}
		for range 20 {
			p.rtt.Observe(900 * ms) // what waits behind a stop is answered late
		}
		if got := p.stands(start); got != c.stands {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// stand lets those slices stand still for 900 ms of a second, and the others
// be heard; answers come late, so that silence is allowed to be long.
func (f *fixture) stand(standing, well []*slice) {
	f.Helper()
	f.clock.Add(1) // what was said before is no answer to what is asked now
	for _, s := range append(standing, well...) {
		s.pulse.nearest = ms
		for range 8 {
			s.pulse.rtt.Observe(900 * ms)
			s.pulse.rtt.Observe(10 * ms)
		}
		f.ask(s, f.config.Now())
	}
	f.advance(900*ms, well...)
	f.advance(100*ms, append(standing, well...)...)
}

// TestGatewayThatStandsStill is left after the third stop, and not taken again
// for a minute, but when the other one is silent.
func TestGatewayThatStandsStill(t *testing.T) {
	f := newFixture(t)
	f.connect()
	a, b := f.slice(0, 1), f.slice(1, 1)
	both := []*slice{a, b}
	at := func() netip.AddrPort { return (&f.Client.gateways).at((&f.Client.gateways).current) }
	for i := range MaxStops {
		if at() != gatewayAddr(0) {
			t.Fatalf("left after %d stops", i)
		}
		f.stand(both, nil)
	}
	if at() != gatewayAddr(1) || a.condemned || b.condemned {
		t.Fatalf("at %v after %d stops, condemned %v %v", at(), MaxStops, a.condemned, b.condemned)
	}
	if next := f.Client.passOn(f.config.Now()); next != gatewayAddr(1) {
		t.Errorf("taken again at once: %v", next)
	}
	if next := f.Client.passOn(f.config.Now()); next != gatewayAddr(0) {
		t.Errorf("nobody else answers, and it is not tried: %v", next)
	}
}

// TestOneGatewayThatStandsStill stays: there is no other.
func TestOneGatewayThatStandsStill(t *testing.T) {
	f := newFixture(t)
	f.connect()
	f.Client.gateways.replace([]netip.AddrPort{gatewayAddr(0)}, gatewayAddr(0))
	a := f.slice(0, 1)
	for range 2 * MaxStops {
		f.stand([]*slice{a}, nil)
	}
	if !a.usable() || f.routed() != `["0.1"]` {
		t.Errorf("usable %v, route %s", a.usable(), f.routed())
	}
}

// TestAgentThatStandsStill: its slice is given up and stays so though it is heard
// in between; the gateway is not to blame.
func TestAgentThatStandsStill(t *testing.T) {
	f := newFixture(t)
	f.connect()
	stands, well := f.slice(0, 1), f.slice(1, 1)
	for i := range MaxStops {
		if stands.condemned {
			t.Fatalf("condemned after %d stops", i)
		}
		f.stand([]*slice{stands}, []*slice{well})
	}
	if !stands.condemned || well.condemned || f.routed() != `["1.1"]` {
		t.Fatalf("condemned %v and %v, route %s", stands.condemned, well.condemned, f.routed())
	}
	if s := silences(f.said()); len(s) != 1 || s[0].Number != 0 || s[0].Reason != "stands still again and again" {
		t.Errorf("said %+v", s)
	}
	f.advance(time.Second, stands, well)
	if !stands.condemned {
		t.Error("taken back: it would flap")
	}
	if (&f.Client.gateways).current != 0 {
		t.Error("the gateway was left")
	}
}

// TestLastSliceThatStandsStill stays in use, and when it is silent for good one that
// was given up takes its place.
func TestLastSliceThatStandsStill(t *testing.T) {
	f := newFixture(t)
	f.connect()
	a, b := f.slice(0, 1), f.slice(1, 1)
	for range MaxStops {
		f.stand([]*slice{a}, []*slice{b})
	}
	for range MaxStops {
		f.stand([]*slice{b}, []*slice{a})
	}
	if !a.condemned || b.condemned || f.routed() != `["1.1"]` {
		t.Fatalf("condemned %v and %v, route %s", a.condemned, b.condemned, f.routed())
	}
	f.clock.Add(1)
	f.ask(b, f.config.Now())
	f.advance(5*time.Second, a)
	if a.condemned || !b.condemned || f.routed() != `["0.1"]` {
		t.Errorf("condemned %v and %v, route %s", a.condemned, b.condemned, f.routed())
	}
}

// TestDirectWayThatStandsStill goes back to the gateway, for a minute.
func TestDirectWayThatStandsStill(t *testing.T) {
	f := newFixture(t)
	f.connect()
	s, sibling := f.slice(0, 1), f.slice(1, 1)
	s.direct.ways = []netip.AddrPort{gatewayAddr(1)}
	s.direct.way, s.direct.asked = gatewayAddr(1), gatewayAddr(1)
	f.aim(s, s.pair)
	for range MaxStops {
		f.stand([]*slice{s}, []*slice{sibling})
	}
	if s.direct.inUse() || s.direct.wait != StopHold || s.condemned {
		t.Errorf("direct %v, asked again after %v, condemned %v", s.direct.inUse(), s.direct.wait, s.condemned)
	}
}
