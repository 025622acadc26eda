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
	taken int        // seats beside those at rest
)

// least is how many seats there are on one CPU, too: who waits in a system call for what
// comes next keeps his until the monitor takes it away, and that may take 15 ms. With one
// seat all else waits for it, at each packet: a round trip through a node took 7 ms, not 0.3.
const least = 2

// Seat gives goroutines so many seats more than there are, or takes them away
// again. From the first call on there is one for each CPU, and never less than two. A
// packet worker that is busy spends its time in system calls, in which it keeps its seat
// until the monitor takes it away; with no more seats than CPUs the other workers wait for
// that, beside an idle CPU. Where there is little to do it is the other way round: whatever
// becomes ready finds a free seat, and wakes a thread for it, where it could have had its
// turn a little later. Each change stops all goroutines for some 50 µs.
func Seat(more int) {
	mu.Lock()
	defer mu.Unlock()
	taken += more
	if !fixed {
		runtime.GOMAXPROCS(max(CPUs, least) + taken)
	}
}
