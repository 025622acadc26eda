package scheduler

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// MonitorSlack is how much later than asked for the runtime's monitor may be woken.
const MonitorSlack = 5 * time.Millisecond

// errNoMonitor is a process with one thread only.
var errNoMonitor = errors.New("scheduler: this process has no second thread")

// CalmMonitor lets the kernel wake the runtime's monitor ("sysmon") up to
// MonitorSlack late. When a process that did nothing has something to do, the monitor
// looks fifty times, every 20 µs, whether a goroutine is kept from its turn. A node is
// woken thousands of times a second, each time for less than that: its monitor
// never came to rest, took 8 % of the node's CPU, and moved its threads about.
//
// Nothing else of the process is late: timers, packets and turns are other threads' work.
// The price: a long system call loses its seat after some 5 ms, not after 20 µs to
// 10 ms, and a goroutine that does not yield has to after 15 ms, not 10.
//
// It needs CAP_SYS_NICE, for the monitor is a thread that none of our goroutines
// runs on. Without it the error is os.ErrPermission, and all stays as it is.
func CalmMonitor() error {
	thread, err := monitor()
	if err != nil {
		return err
	}
	slack := strconv.FormatInt(MonitorSlack.Nanoseconds(), 10)
	if err := os.WriteFile(slackOf(thread), []byte(slack), 0); err != nil {
		return fmt.Errorf("scheduler: the runtime's monitor: %w", err)
	}
	return nil
}

// slackOf is the file that a thread's slack is written to: see proc_pid_timerslack_ns(5).
func slackOf(thread string) string { return filepath.Join("/proc", thread, "timerslack_ns") }

// monitor is the id of the thread that the runtime started first, before any
// goroutine could need one (runtime.main); the kernel lists threads in the order in which they
// were made.
func monitor() (thread string, err error) {
	dir, err := os.Open("/proc/self/task")
	if err != nil {
		return "", fmt.Errorf("scheduler: %w", err)
	}
	defer dir.Close()
	threads, err := dir.Readdirnames(2)
	if err == nil && len(threads) < 2 {
		err = errNoMonitor
	}
	if err != nil {
		return "", err
	}
	return threads[1], nil
}
