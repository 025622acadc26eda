package sim

import (
	"io"
	"runtime"
	"runtime/debug"
	"slices"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"

	"github.com/meshcrypt/meshcrypt/e2e/sim/check"
	"github.com/meshcrypt/meshcrypt/e2e/sim/plan"
)

// Times of a run.
const (
	startWithin = 6 * time.Second  // until then there are three voters, and all clients are in
	breaks      = 12 * time.Second // in which there are faults
	settles     = 16 * time.Second // after the last fault
	rests       = 42 * time.Second // in place of that where clients park, whose orders come in it
)

// parkEvery is in which runs clients park, and after how little rest.
const (
	parkEvery = 3
	parkAfter = 800 * time.Millisecond
	// neverParks is longer than any run: whose clients rest in other runs stay connected.
	neverParks = time.Hour
)

// Result is what came of a run.
type Result struct {
	Plan       plan.Plan
	Hash       string // of what was decided
	Lines      []string
	Violations []check.Violation
}

// Run is the run of a seed. The log of all processes goes to journal, if there is one.
// Garbage is collected before it and not within it, which would change the order of
// goroutines: each run leaves some 100 MB.
func Run(t *testing.T, seed uint64, journal io.Writer) (r Result) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	runtime.GC() // or wait for the one that is under way
	cryptotest.SetGlobalRandom(t, seed)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, seed)
		w.journal = journal
		r = w.run()
	})
	return r
}

// run is one run of this world.
func (w *World) run() Result {
	shape := plan.Shape{Nodes: 3 + w.random.IntN(2), Voters: 3, Clients: 3, Start: startWithin, Settle: settles}
	w.parkAfter = neverParks
	if w.seed%parkEvery == 2 {
		shape.Parks, shape.Settle, w.parkAfter = true, rests, parkAfter
	}
	shape.Length = startWithin + breaks + shape.Settle
	w.length = shape.Length
	w.found(shape.Nodes, shape.Clients)
	p := plan.Draw(w.seed, shape)
	w.cluster.Bootstrap(0)
	for i, n := range w.mesh.members {
		w.after(time.Duration(i)*w.between(1, time.Millisecond), func() { n.start(i == 0) })
	}
	for i, v := range w.mesh.visitors {
		w.after(w.between(startWithin-2*time.Second, startWithin-time.Second), func() { v.connect(i) })
	}
	w.follow(p)
	w.obey(p)
	if w.seed%passersEvery == 0 {
		w.after(passersFrom, func() { w.passers(p.Healed()) })
	}
	if w.trunks {
		n, both := w.mesh.members[w.random.IntN(shape.Nodes)], w.chance(0.5)
		w.after(w.between(startWithin, startWithin+breaks), func() { w.breakTrunk(n, both) })
	}
	w.after(startWithin-time.Second, w.watch.look)
	w.after(p.Healed()+apart, w.healed)
	w.until(w.length)
	w.watch.judge.End(w.now())
	r := Result{Plan: p, Hash: w.trace.hash(), Lines: w.trace.lines, Violations: w.watch.judge.Violations()}
	w.end()
	return r
}

// healed is when the last fault is over: somebody new comes.
func (w *World) healed() {
	w.trace.note("plan", "all is over")
	w.watch.judge.Healed(w.now())
	guest := w.mesh.guest
	guest.ready = func() { w.watch.guest = true }
	guest.connect(w.random.IntN(len(w.mesh.members)))
}

// end kills all that runs, so that nothing is left in the bubble.
func (w *World) end() {
	w.killed = true
	for _, v := range append(slices.Clone(w.mesh.visitors), w.mesh.passer, w.mesh.guest) {
		if v.process != nil {
			v.process.kill(false)
		}
	}
	for _, n := range w.mesh.members {
		n.daemon.kill(false)
	}
	w.until(w.now() + time.Minute)
}
