package node

import (
	"os"
	"runtime"
	"sync"
)

// processors is how many CPUs this process may keep busy, as Go found them at
// its start: those of the machine, of its affinity and of its control group.
var processors = runtime.GOMAXPROCS(0)

// workers is how many TUN queues and sockets a port has.
func workers() int { return min(processors, MaxWorkers) }

// seatWorkers gives Go's scheduler a seat (a P) more for each TUN queue and each
// outer socket. A packet worker spends its time in system calls, in which it
// keeps its seat until the runtime's monitor takes it away, some 20 µs to 10 ms
// later; with no more seats than CPUs the other workers wait for that, beside an
// idle CPU. Whoever set GOMAXPROCS is obeyed.
var seatWorkers = sync.OnceFunc(func() {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(processors + 2*workers())
	}
})
