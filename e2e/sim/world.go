// Package sim runs the control plane of a mesh in virtual time, and lets one seed decide
// all that happens around it: how long what is sent takes, what is lost, who is cut off,
// killed or stopped, whose clock is set. The same seed is the same run, so whatever goes
// wrong can be looked at again.
//
// Real are the arbitrator, the registry, and the whole of node/arbiter, node/agent,
// node/client, node/gateway, node/dataplane and node/port, with TLS. Modelled are the
// network, the hosts, and Raft. It owns the order in which things happen, and no rule of
// the mesh: e2e/sim/check judges. See DESIGN.md.
package sim

import (
	"cmp"
	"container/heap"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/e2e/sim/plan"
	"github.com/meshcrypt/meshcrypt/e2e/sim/raftmodel"
)

// World is one run. It lives in a bubble of testing/synctest. What is not under mu
// belongs to the goroutine that drives it.
type World struct {
	testing.TB
	seed    uint64
	random  *rand.Rand
	began   time.Time
	todo    agenda
	number  uint64 // of the last thing to do
	net     *network
	trace   *trace
	mesh    *mesh
	watch   *watch
	wrong   []plan.Fault  // just now
	changed time.Duration // when that did last
	unclear int           // faults of the kind; see blur
	cluster *raftmodel.Cluster
	journal io.Writer // nil: nobody reads the log
	length  time.Duration
	killed  bool // at the end of the run: no process may begin after it
	orders  orders

	parkAfter time.Duration // of all clients; 0: as ever
	headless  uint64        // seconds of the mesh; 0: as ever
	trunks    bool          // gateways have them

	wake chan struct{} // something was sent, or noted
	mu   sync.Mutex    // protects sent
	sent []sending     // by the code under test, and not looked at
}

// sending is something that left a process. All of one instant are put in order by key,
// for the goroutines that sent them had none.
type sending struct {
	key string
	do  func()
}

func newWorld(t testing.TB, seed uint64) *World {
	w := &World{
		TB: t, seed: seed, random: rand.New(rand.NewPCG(seed, 0x6d657368)), began: time.Now(),
		trunks: seed%singlyEvery != 0,
		wake:   make(chan struct{}, 1), orders: orders{awaited: make(map[registry.CommandID]func())},
	}
	w.net = newNetwork(w)
	w.trace = newTrace(w)
	return w
}

// now is how long the run has lasted.
func (w *World) now() time.Duration { return time.Since(w.began) }

// thing is something to do at its time.
type thing struct {
	at     time.Duration
	number uint64
	do     func()
}

// agenda is what is to be done, the next first.
type agenda []thing

func (a agenda) Len() int { return len(a) }
func (a agenda) Less(i, j int) bool {
	return a[i].at < a[j].at || a[i].at == a[j].at && a[i].number < a[j].number
}
func (a agenda) Swap(i, j int) { a[i], a[j] = a[j], a[i] }
func (a *agenda) Push(x any)   { *a = append(*a, x.(thing)) }
func (a *agenda) Pop() any {
	old := *a
	last := old[len(old)-1]
	*a = old[:len(old)-1]
	return last
}

// after has something done later. No two things are done at one instant.
func (w *World) after(d time.Duration, do func()) {
	w.number++
	heap.Push(&w.todo, thing{w.now() + max(d, 1), w.number, do})
}

// leave is how code under test gives something to the world: it does not wait.
func (w *World) leave(key string, do func()) {
	w.mu.Lock()
	w.sent = append(w.sent, sending{key, do})
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// collect takes what was sent in this instant.
func (w *World) collect() (any bool) {
	w.mu.Lock()
	sent := w.sent
	w.sent = nil
	w.mu.Unlock()
	slices.SortStableFunc(sent, func(a, b sending) int { return cmp.Compare(a.key, b.key) })
	for _, s := range sent {
		s.do()
	}
	return len(sent) > 0
}

// until goes on until that time of the run.
func (w *World) until(until time.Duration) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		synctest.Wait()
		if w.collect() {
			continue
		}
		next := until
		if len(w.todo) > 0 {
			next = min(next, w.todo[0].at)
		}
		now := w.now()
		if next <= now {
			if now >= until {
				return
			}
			heap.Pop(&w.todo).(thing).do()
			if len(w.todo) > 0 { // the next one has an instant of its own
				w.todo[0].at = max(w.todo[0].at, now+1)
				heap.Fix(&w.todo, 0)
			}
			continue
		}
		timer.Reset(next - now)
		select {
		case <-timer.C:
		case <-w.wake:
		}
	}
}

// between draws a time.
func (w *World) between(least, most time.Duration) time.Duration {
	return least + time.Duration(w.random.Int64N(int64(most-least)+1))
}

// chance draws whether something of that probability happens.
func (w *World) chance(p float64) bool { return p > 0 && w.random.Float64() < p }
