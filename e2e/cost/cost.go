// Package cost measures what things cost in CPU time, which a machine that does
// other work at the same time changes little. It owns the clock and the metric that
// `make scale` reads; it does not own what is measured.
package cost

import (
	"runtime"
	"runtime/debug"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Metric is the unit of CPU time in the output of a benchmark.
const Metric = "cpu-ns/op"

// CPU is the time that all threads of this process have run.
func CPU() time.Duration { return read(unix.CLOCK_PROCESS_CPUTIME_ID) }

// ThreadCPU is the time that the caller's thread has run, which it must be locked to.
func ThreadCPU() time.Duration { return read(unix.CLOCK_THREAD_CPUTIME_ID) }

func read(clock int32) time.Duration {
	var t unix.Timespec
	// The clocks are there on every Linux, and the address is good.
	_ = unix.ClockGettime(clock, &t)
	return time.Duration(t.Nano())
}

// Measure reports the CPU time of op alone; prepare, unless nil, goes before each.
func Measure(b *testing.B, prepare, op func(i int)) {
	b.Helper()
	var spent time.Duration
	i := 0
	for ; b.Loop(); i++ {
		if prepare != nil {
			prepare(i)
		}
		before := CPU()
		op(i)
		spent += CPU() - before
	}
	Report(b, spent/time.Duration(i))
}

const (
	perTurn      = 40 // operations of a turn of Worst1Percent
	collectEvery = 50 // turns: then what they left is collected
)

// Worst1Percent reports what 99 of 100 operations do not exceed, on the thread that
// does them. What the collector does is left out: while it works it takes its share from
// whoever allocates, and how often it does says how large the heap is, not what an
// operation costs. It works between the turns.
func Worst1Percent(b *testing.B, op func(i int)) {
	b.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	var all []time.Duration
	for b.Loop() {
		if len(all)%(perTurn*collectEvery) == 0 {
			runtime.GC()
		}
		for range perTurn { // some hundred operations would say little of the worst
			before := ThreadCPU()
			op(len(all))
			all = append(all, ThreadCPU()-before)
		}
	}
	slices.Sort(all)
	Report(b, all[len(all)*99/100])
}

// Report says what an operation cost.
func Report(b *testing.B, cost time.Duration) { b.ReportMetric(float64(cost.Nanoseconds()), Metric) }
