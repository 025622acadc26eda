// Package scheduler fits Go's scheduler to this program: how many seats (Ps) its
// goroutines have, and how often the runtime's monitor looks at them. Both are
// the process's: whatever runs in it shares them.
//
// It does not own how many packet workers there are, nor when they are busy.
package scheduler

import (
	"os"
	"runtime"
	"sync"
)

// CPUs is how many CPUs this process may keep busy, as Go found them at its
// start: those of the machine, of its affinity and of its control group.
var CPUs = runtime.GOMAXPROCS(0)

// fixed is whether the user said how many seats there are, who is obeyed.
var fixed = os.Getenv("GOMAXPROCS") != ""

var (
	mu    sync.Mutex // protects taken
	taken int        // seats beside one for each CPU
)

// Seat gives goroutines so many seats more than there are, or takes them away
// again. There is one for each CPU. A packet worker that is busy spends its time in
// system calls, in which it keeps its seat until the monitor takes it away; with no more
// seats than CPUs the other workers wait for that, beside an idle CPU. Where there
// is little to do it is the other way round: whatever becomes ready finds a free
// seat, and wakes a thread for it, where it could have had its turn a little later.
// Each change stops all goroutines for some 50 µs.
func Seat(more int) {
	mu.Lock()
	defer mu.Unlock()
	taken += more
	if !fixed {
		runtime.GOMAXPROCS(CPUs + taken)
	}
}
