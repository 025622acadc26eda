package scheduler

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/metrics"
	"strings"
	"time"
)

const (
	// MonitorSlack is how much later than asked for the runtime's monitor may be woken, in
	// nanoseconds as the kernel writes it.
	MonitorSlack = "5000000"
	// threadsEvery is how often it is looked whether there are new threads, and lookEvery how
	// often at each of them whatever their number is: one may have ended as another began, and
	// other software may have set what is ours. A look takes some 10 µs for each.
	threadsEvery = time.Second
	lookEvery    = 5 * time.Second
)

// errNoMonitor is a process with one thread only.
var errNoMonitor = errors.New("scheduler: this process has no second thread")

// KeepMonitorCalm lets the kernel wake the runtime's monitor ("sysmon") up to
// MonitorSlack late, and no other thread, until ctx ends. When a process that did nothing
// has something to do, the monitor looks fifty times, every 20 µs, whether a goroutine is kept
// from its turn. A node is woken thousands of times a second, each time for less than that:
// its monitor never came to rest, took 8 % of the node's CPU, and moved its threads about.
//
// Timers, packets and turns are other threads' work and as ever, but that a thread that
// the monitor made inherits its slack, and has it for threadsEvery mostly, for lookEvery at
// most. So long stays what other software sets. The price: a long
// system call loses its seat after some 5 ms, not after 20 µs to 10 ms, and a goroutine that
// does not yield has to after 15 ms, not 10.
//
// It needs CAP_SYS_NICE, for the monitor is a thread that none of our goroutines
// runs on. Without it the error is os.ErrPermission, and all stays as it is.
func KeepMonitorCalm(ctx context.Context) error {
	calm, err := monitor()
	if err != nil {
		return err
	}
	usual, err := slack("self")
	if err == nil {
		err = setSlack(calm, MonitorSlack)
	}
	if err != nil {
		return err
	}
	k := keeper{calm: calm, usual: usual}
	ticker := time.NewTicker(threadsEvery)
	defer ticker.Stop()
	for {
		k.keep(time.Now(), threadCount())
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// keeper keeps the slack of all threads what it is to be.
type keeper struct {
	calm, usual string    // the monitor's thread, and the slack of all others
	known       uint64    // how many threads there were at the last look
	looked      time.Time // when that was
}

// keep looks at each thread when there are more or fewer, or it is time.
func (k *keeper) keep(now time.Time, count uint64) {
	if count == k.known && now.Sub(k.looked) < lookEvery {
		return
	}
	k.known, k.looked = count, now
	threads, _ := os.ReadDir(tasks)
	for _, thread := range threads {
		k.mend(thread.Name())
	}
}

// mend sets the slack of a thread, which may end meanwhile, unless it is as it is to be.
func (k *keeper) mend(thread string) {
	want := k.usual
	if thread == k.calm {
		want = MonitorSlack
	}
	if is, err := slack(thread); err == nil && is != want {
		_ = setSlack(thread, want)
	}
}

// tasks lists the threads of this process.
const tasks = "/proc/self/task"

// monitor is the id of the thread that the runtime started first, before any
// goroutine could need one (runtime.main); the kernel lists threads in the order in which they
// were made.
func monitor() (thread string, err error) {
	dir, err := os.Open(tasks)
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

// slack is how late a thread may be woken, in nanoseconds.
func slack(thread string) (string, error) {
	text, err := os.ReadFile(slackOf(thread))
	return strings.TrimSpace(string(text)), err
}

func setSlack(thread, slack string) error {
	if err := os.WriteFile(slackOf(thread), []byte(slack), 0); err != nil {
		return fmt.Errorf("scheduler: slack of a thread: %w", err)
	}
	return nil
}

// slackOf is where the kernel keeps it: see proc_pid_timerslack_ns(5).
func slackOf(thread string) string { return filepath.Join("/proc", thread, "timerslack_ns") }

// threadCount is how many threads the runtime has.
func threadCount() uint64 {
	s := []metrics.Sample{{Name: "/sched/threads/total:threads"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}
