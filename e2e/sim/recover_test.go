//go:build !e2e && !race

package sim

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/e2e/sim/plan"
)

// recover is what an operator does at a host whose daemon is stopped, as node.Recover does it:
// its log becomes that of the mesh.
func (w *World) recover(n *member) {
	n.kill(true)
	w.cluster.Rewrite(n.number-1, func(state *registry.State) {
		c := registry.Command{ID: registry.CommandID{14: 1}, Reincarnate: &registry.Reincarnate{
			Incarnation: state.Cluster.Incarnation + 1, Epochs: state.NewestEpoch() + 1<<20}}
		w.ok(registry.Apply(state, state.Index, state.Term, c).Err())
		w.watch.judge.Recovered(w.now(), state)
	})
	n.back()
}

// TestMajorityOfDisksLost: two of three voters are gone, and an operator goes on with the third.
// Sessions run on; the others, who come back with their disks or without, follow it in a
// higher incarnation, and who was revoked stays so.
func TestMajorityOfDisksLost(t *testing.T) {
	for left := range 3 {
		for _, kind := range []plan.Kind{plan.EmptyDisk, plan.PowerOff} {
			t.Run(fmt.Sprintf("n%d is left, each of the others %v", left+1, kind), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, uint64(left+1))
					defer w.end()
					w.revokedWorld()
					back := w.loseMajority(left, kind)
					w.recover(w.mesh.members[left])
					w.until(w.now() + 3*time.Second)
					if d := w.watch.leader(); d == nil || d.number != left+1 {
						t.Error("the node that is left does not lead its own log")
					}
					back()
					w.expectRecovered(left)
				})
			})
		}
	}
}

// TestLaggardIsLeft: the one that is left lacks the end of the log. What was committed there
// is given up, and who has it follows when it comes back, or is heard again: the others may
// have been cut off only, from each other, too.
func TestLaggardIsLeft(t *testing.T) {
	for left := range 3 {
		for _, kind := range []plan.Kind{plan.PowerOff, plan.Isolate} {
			t.Run(fmt.Sprintf("n%d is left, each of the others %v", left+1, kind), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { laggardIsLeft(t, left, kind) })
			})
		}
	}
}

func laggardIsLeft(t *testing.T, left int, kind plan.Kind) {
	w := newWorld(t, uint64(left+1))
	defer w.end()
	w.revokedWorld()
	alone := plan.Fault{Kind: plan.Isolate, Who: plan.Who{Number: left}, At: w.now()}
	w.begun(alone)
	undo := w.do(alone)
	w.until(w.now() + 5*time.Second)
	for i := range 9 {
		w.order(registry.Command{CreateToken: &registry.CreateToken{Token: registry.Token{
			ID: fmt.Sprint("lost", i), Verify: []byte("v"), May: allRoles, Uses: 1, Expires: 1000}}}, func() {})
	}
	w.until(w.now() + 2*time.Second)
	back := w.loseMajority(left, kind)
	undo()
	w.over(alone)
	w.recover(w.mesh.members[left])
	w.until(w.now() + 3*time.Second)
	back()
	w.expectRecovered(left)
	if w.watch.judge.Registry().Tokens["lost0"] != nil {
		t.Error("nothing was lost: the one that is left had it all")
	}
}

// revokedWorld is a mesh of three, of three clients that are in, and one that is revoked.
func (w *World) revokedWorld() {
	w.length = time.Hour
	w.foundThree()
	w.after(time.Millisecond, w.watch.look)
	w.order(registry.Command{RevokeClient: &registry.RevokeClient{Name: w.mesh.passer.name}}, func() {})
	w.until(w.now() + 2*time.Second)
}

// loseMajority takes all nodes but one away, until nobody leads.
func (w *World) loseMajority(left int, kind plan.Kind) (back func()) {
	var undo []func()
	for i := range w.mesh.members {
		if i == left {
			continue
		}
		f := plan.Fault{Kind: kind, Who: plan.Who{Number: i}, At: w.now()}
		w.begun(f)
		undone := w.do(f)
		undo = append(undo, func() { undone(); w.over(f) })
	}
	w.until(w.now() + 8*time.Second)
	if w.watch.leader() != nil {
		w.Fatal("one of three leads")
	}
	return func() {
		for _, undone := range undo {
			undone()
		}
	}
}

// expectRecovered waits until all has come back that comes back after a fault.
func (w *World) expectRecovered(left int) {
	w.Helper()
	w.watch.judge.Healed(w.now())
	w.mesh.guest.ready = func() { w.watch.guest = true }
	w.mesh.guest.connect(left)
	w.until(w.now() + 20*time.Second)
	w.watch.judge.End(w.now())
	for _, v := range w.watch.judge.Violations() {
		w.Error(v)
	}
	if now := w.watch.judge.Registry(); !now.Clients.Get(w.mesh.passer.name).Revoked || now.Voters != 3 || w.active() != 4 {
		w.Errorf("incarnation %d, %d voters, %d sessions", now.Cluster.Incarnation, now.Voters, w.active())
	}
	if *traced || w.Failed() {
		for _, line := range w.trace.lines {
			w.Log(line)
		}
	}
	for _, n := range w.mesh.members {
		if n.daemon.obeys.Incarnation != 2 {
			w.Errorf("%s obeys incarnation %d", n.name, n.daemon.obeys.Incarnation)
		}
	}
}
