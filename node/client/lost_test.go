package client

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/node/probe"
)

// says lets an agent answer the client's last question.
func (f *fixture) says(s *slice, verdict probe.Verdict) {
	f.Helper()
	reply, _ := probe.Answer(probe.Ask(s.pulse.sequence, f.config.Now()-ms), verdict, 0)
	f.do(controlMessage{s.key, reply})
}

// do gives the loop one event.
func (f *fixture) do(e event) {
	f.turn(e)
	f.publishIfDirty()
}

// TestSliceLeavesALostAgent: one that answers and passes nothing on carries nothing while
// another can, spare or not; the arbiter hears of it, and status names it.
func TestSliceLeavesALostAgent(t *testing.T) {
	f := newFixture(t)
	f.connect()
	main, spare := f.slice(0, 1), f.slice(1, 1)
	spare.spare = true
	both := []*slice{main, spare}
	f.advance(time.Second, both...)
	f.says(main, probe.PathBroken)
	if f.advance(time.Second, both...); f.routed() != `["0.1"]` || f.status().Slices[0].State != "up" {
		t.Fatalf("an agent that hands on was left: %s", f.routed())
	}
	f.said()
	f.says(main, probe.PathLost)
	f.advance(time.Second, both...)
	if f.routed() != `["1.1"]` {
		t.Errorf("route %s", f.routed())
	}
	told := 0
	for _, m := range f.said() {
		if m.Silent != nil && m.Silent.Number == 0 {
			told++
		}
	}
	if s := f.status(); told != 1 || s.Health != "degraded" || s.Slices[0].State != "lost" || len(s.Problems) == 0 {
		t.Errorf("told %d times, %s: %+v, %q", told, s.Health, s.Slices, s.Problems)
	}
	f.says(main, probe.PathGood)
	if f.advance(time.Second, both...); f.routed() != `["0.1"]` || f.status().Slices[0].State != "up" {
		t.Errorf("not taken again: %s", f.routed())
	}
}

// TestLostAgentIsKept while there is no other that is better: none at all, a silent
// one, or one that is lost too.
func TestLostAgentIsKept(t *testing.T) {
	for _, other := range []string{"none", "silent", "lost"} {
		t.Run(other, func(t *testing.T) {
			f := newFixture(t)
			f.connect()
			main := f.slice(0, 1)
			heard := []*slice{main}
			switch other {
			case "silent":
				f.slice(1, 1)
			case "lost":
				heard = append(heard, f.slice(1, 1))
			}
			f.advance(time.Second, heard...)
			for _, s := range heard {
				f.says(s, probe.PathLost)
			}
			f.advance(time.Second, heard...)
			if !main.usable() {
				t.Error("left for nothing")
			}
		})
	}
}

// TestCutOffGatewayIsLeft: a gateway whose own agent alone is heard, and says that it is
// lost, is left though it answers; a lost agent is no reason while another is heard.
func TestCutOffGatewayIsLeft(t *testing.T) {
	for _, c := range []struct {
		name  string
		says  probe.Verdict
		other bool // another slice is heard by that gateway
		left  bool
	}{
		{"cut off", probe.PathLost, false, true},
		{"one agent is lost", probe.PathLost, true, false},
		{"the other agent is dead", probe.PathGood, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFixture(t)
			f.connect()
			near, far := f.slice(0, 1), f.slice(1, 1)
			f.advance(time.Second, near, far)
			before := f.Client.gateways.at(f.Client.gateways.current)
			heard := []*slice{near}
			if c.other {
				heard = append(heard, far)
			}
			f.says(near, c.says)
			left := false
			for begin := f.config.Now(); f.config.Now()-begin < time.Second && !left; {
				f.advance(TickEvery, heard...)
				if left = f.Client.gateways.at(f.Client.gateways.current) != before; left && f.config.Now()-begin > 250*ms {
					t.Errorf("left after %v: as late as without what it says", f.config.Now()-begin)
				}
			}
			if left != c.left {
				t.Errorf("left: %v", left)
			}
		})
	}
}

// TestCutOffGatewayIsLeftForWhatIsGranted: the arbiter has put other slices in the place
// of all that were silent, and none of those can be agreed through that gateway. Who is
// lost on each way is not left again and again as fast as it answers.
func TestCutOffGatewayIsLeftForWhatIsGranted(t *testing.T) {
	f := newFixture(t)
	f.connect()
	near, far, granted := f.slice(0, 1), f.slice(1, 1), f.slice(1, 2)
	granted.confirmed = false
	f.advance(time.Second, near, far)
	f.retire(far.key, f.config.Now())
	var left []time.Duration
	for begin := f.config.Now(); f.config.Now()-begin < 2*time.Second; {
		before := f.Client.gateways.current
		f.says(near, probe.PathLost)
		if f.advance(TickEvery, near); f.Client.gateways.current != before {
			left = append(left, f.config.Now()-begin)
		}
	}
	if len(left) < 2 || left[0] > 250*ms || len(left) > 5 {
		t.Errorf("left after %v", left)
	}
}

// TestCutOffIsSaidOnce: where every gateway is cut off from other nodes, as when a mesh has
// lost most of its nodes, a client fills no log, and says when that is over.
func TestCutOffIsSaidOnce(t *testing.T) {
	f := newFixture(t)
	var log bytes.Buffer
	f.config.Log = slog.New(slog.NewTextHandler(&log, nil))
	f.connect()
	near, far := f.slice(0, 1), f.slice(1, 1)
	f.advance(time.Second, near, far)
	for range 200 {
		f.says(near, probe.PathLost)
		f.advance(TickEvery, near)
	}
	each, all := strings.Count(log.String(), `msg="gateway is cut off`), strings.Count(log.String(), "every gateway is cut off")
	if each != f.Client.gateways.count() || all != 1 {
		t.Errorf("%d gateways named, %d times that it is all of them:\n%s", each, all, &log)
	}
	log.Reset()
	f.says(near, probe.PathGood)
	for range 10 {
		f.advance(TickEvery, near, far)
	}
	if n := strings.Count(log.String(), "reaches other nodes again"); n != 1 {
		t.Errorf("afterwards:\n%s", &log)
	}
}
