//go:build !e2e && !race

package sim

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/e2e/sim/plan"
	"github.com/meshcrypt/meshcrypt/node/control"
)

// statuses is how the clients are just now.
func (w *World) statuses() map[*visitor]control.ClientStatus {
	a := &answers{statuses: make(map[*visitor]control.ClientStatus)}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for _, v := range w.mesh.visitors {
		if v.process.runs() {
			go v.ask(ctx, a)
		}
	}
	w.until(w.now() + apart)
	return a.statuses
}

// parked is how many clients are, and how many are connected.
func (w *World) parked() (parked, connected int) {
	for _, s := range w.statuses() {
		switch {
		case s.Parked:
			parked++
		case s.Control:
			connected++
		}
	}
	return parked, connected
}

// active counts the sessions.
func (w *World) active() (n int) {
	for range w.watch.judge.Registry().Sessions.Active() {
		n++
	}
	return n
}

// parkedWorld is a mesh of three whose three clients have parked.
func parkedWorld(t *testing.T) *World {
	w := newWorld(t, 1)
	w.parkWithin(t, 90*time.Second)
	return w
}

// foundThree is a mesh of three nodes, to which three clients have come.
func (w *World) foundThree() {
	w.found(3, 3)
	w.journal = journalOf()
	w.cluster.Bootstrap(0)
	for i, n := range w.mesh.members {
		n.start(i == 0)
	}
	w.until(startWithin - 2*time.Second)
	for i, v := range w.mesh.visitors {
		v.connect(i)
	}
	w.until(startWithin)
}

// parkWithin has three clients log in, and park within that time.
func (w *World) parkWithin(t *testing.T, within time.Duration) {
	w.foundThree()
	if _, connected := w.parked(); connected != 3 {
		t.Fatalf("%d clients are connected", connected)
	}
	w.until(w.now() + within)
	w.expectParked("at rest", 3)
}

// expectParked fails the test unless so many clients are parked, and the others connected.
func (w *World) expectParked(when string, parked int) {
	w.Helper()
	if is, connected := w.parked(); is != parked || connected != 3-parked || w.active() != 3 {
		w.Errorf("%s: %d are parked, %d connected, of %d sessions", when, is, connected, w.active())
	}
}

// TestParkedClientsStay: beyond their headless time, under the same arbiter and another.
func TestParkedClientsStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := parkedWorld(t)
		defer w.end()
		const headless = 15 * time.Minute
		w.until(w.now() + headless + 2*time.Minute)
		w.expectParked("beyond headless", 3)
		w.depose()
		w.until(w.now() + time.Minute)
		w.expectParked("under another arbiter", 3)
		w.until(w.now() + headless + 2*time.Minute)
		w.expectParked("beyond headless under another arbiter", 3)
	})
}

// TestParkedClientsWithoutWord: while one agent alone is left, which hears no arbiter, its
// clients come in vain, and end when their last word is as old as headless time, and no sooner.
func TestParkedClientsWithoutWord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.headless = 150
		w.parkWithin(t, 90*time.Second)
		defer w.end()
		leads := w.roles().leads
		for _, other := range []int{leads, (leads + 1) % 3} {
			w.do(plan.Fault{Kind: plan.PowerOff, Who: plan.Who{Number: other}})
		}
		const headless = 150 * time.Second
		alone := w.now()
		w.until(alone + headless - 35*time.Second) // an agent is asked every 15 s, and says whole seconds
		for _, v := range w.mesh.visitors {
			select {
			case <-v.ended:
				t.Errorf("%s ended before its time", v.name)
			default:
			}
		}
		w.until(alone + headless + 2*time.Second)
		for _, v := range w.mesh.visitors {
			select {
			case <-v.ended:
			default:
				t.Errorf("%s goes on without a word", v.name)
			}
		}
	})
}

// TestParkedClientsAreCalled: when an agent is gone, whose slices are then elsewhere, and
// they park again; when their session is ended, of which they hear; and one that is
// parked says goodbye.
func TestParkedClientsAreCalled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := parkedWorld(t)
		defer w.end()
		undo := w.do(plan.Fault{Kind: plan.PowerOff, Who: plan.Who{Number: (w.roles().leads + 1) % 3}})
		w.until(w.now() + 30*time.Second)
		up := 0
		for _, status := range w.statuses() {
			for _, s := range status.Slices {
				if s.State == "up" {
					up++
				}
			}
		}
		if up != 6 {
			t.Errorf("%d slices are up, of two of each client", up)
		}
		undo()
		w.until(w.now() + 3*time.Minute)
		w.expectParked("after an agent was gone", 3)

		leaves, kicked := w.mesh.visitors[0], w.mesh.visitors[1]
		id := w.watch.sessionOf(kicked).ID
		log := w.watch.leader().replica.Load()
		go func() {
			r, err := log.Propose(context.Background(), registry.Command{
				ID: registry.CommandID{15: 99}, EndSession: &registry.EndSession{Session: id, Reason: "kicked"},
			})
			if err = errors.Join(err, r.Err()); err != nil {
				t.Error(err)
			}
		}()
		leaves.cancel()
		w.until(w.now() + 5*time.Second)
		for _, v := range []*visitor{leaves, kicked} {
			select {
			case <-v.ended:
			default:
				t.Errorf("%s goes on", v.name)
			}
		}
		if n := w.active(); n != 1 {
			t.Errorf("%d sessions are active", n)
		}
	})
}
