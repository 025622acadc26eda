package agent

import (
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// TestRestCostsNothing: of sessions at rest a node looks at few with each tick, however
// many it has: at each slice once in LookEvery, and at no session's mode.
func TestRestCostsNothing(t *testing.T) {
	const sessions = 400
	f := ruling(t)
	for range 3 { // both are heard
		f.pass(TickEvery, 2, 3)
	}
	f.crowd(sessions)
	f.pass(LookEvery, 2, 3)
	rows, _ := f.cost()
	looks := f.looks
	f.pass(4*LookEvery, 2, 3)
	if n := f.looks - looks; n > 5*sessions {
		t.Errorf("%d looks at %d sessions at rest in %v", n, sessions, 4*LookEvery)
	}
	if now, _ := f.cost(); now != rows {
		t.Errorf("%d rows were made of sessions at rest", now-rows)
	}
}

// TestDueInTime: what is to happen to a slice at a time happens with the tick after it,
// though nobody looked at it meanwhile.
func TestDueInTime(t *testing.T) {
	f := ruling(t)
	start := f.Agent.config.Now()
	held := func(n int, change func(*slice)) *slice {
		id, leases := numbered(n)
		s := f.holdSlice(sliceKey{id, 0, 1}, leases)
		change(s)
		f.touched(s)
		return s
	}
	for n, after := range []time.Duration{300 * time.Millisecond, 700 * time.Millisecond, 6300 * time.Millisecond} {
		s := held(n, func(s *slice) { f.keySlice(s); s.dropAt = start + after })
		over := held(n+10, func(s *slice) { f.keySlice(s); s.pair.Ends = int64(start + after) })
		older := held(n+20, func(s *slice) {
			f.keySlice(s)
			s.older, s.olderAt = f.keys(s, f.freshSPI(own)), start+after
		})
		for f.Agent.config.Now()+TickEvery < start+after {
			f.advance(TickEvery)
		}
		if !f.slices.holds(s) || !f.slices.holds(over) || older.older == nil {
			t.Errorf("before %v: revoked held %v, over held %v, older %v", after, f.slices.holds(s), f.slices.holds(over), older.older != nil)
		}
		f.advance(TickEvery)
		if f.slices.holds(s) || f.slices.holds(over) || older.older != nil {
			t.Errorf("after %v: revoked held %v, over held %v, older %v", after, f.slices.holds(s), f.slices.holds(over), older.older != nil)
		}
		start = f.Agent.config.Now()
	}
}

// TestCountsOfRoutes: who is fed, and so probed, is who is named in a route, and no
// longer than it is.
func TestCountsOfRoutes(t *testing.T) {
	f := ruling(t)
	view := f.crowd(4)
	if len(f.Agent.view.fed) != 3 || f.Agent.view.fed[2] != 2 {
		t.Fatalf("%v", f.Agent.view.fed)
	}
	row := view.Routes[0]
	row.Slices, row.Upward = row.Slices[:1], []uint32{2 << 20, 2<<20 | 1}
	f.hear(&protocol.Node{View: &protocol.View{Routes: []protocol.RouteRow{row}}})
	if f.Agent.view.fed[2] != 1 || f.Agent.view.raised[2] != 2 {
		t.Errorf("%v, %v", f.Agent.view.fed, f.Agent.view.raised)
	}
	f.hear(&protocol.Node{View: &protocol.View{Unroutes: []registry.SessionID{row.Session, view.Routes[2].Session}}})
	if f.probeTargets()[2] || !f.probeTargets()[3] || len(f.Agent.view.raised) != 0 {
		t.Errorf("%v, %v", f.Agent.view.fed, f.Agent.view.raised)
	}
}
