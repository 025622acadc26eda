package scheduler

import (
	"errors"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

func TestSeats(t *testing.T) {
	first, second := CPUs+4, CPUs+6
	if fixed {
		first, second = CPUs, CPUs
	}
	for _, step := range []struct{ more, want int }{{4, first}, {2, second}, {-2, first}, {-4, CPUs}} {
		Seat(step.more)
		if got := runtime.GOMAXPROCS(0); got != step.want {
			t.Errorf("after %+d: %d seats, want %d", step.more, got, step.want)
		}
	}
}

// No goroutine ever runs on the thread that is made slow.
func TestMonitorIsNobodysThread(t *testing.T) {
	thread, err := monitor()
	if err != nil {
		t.Fatal(err)
	}
	for id := range threadsOfGoroutines(t) {
		if thread == strconv.Itoa(id) {
			t.Errorf("thread %s runs goroutines", thread)
		}
	}
}

// threadsOfGoroutines is all threads of the process that run any: each of more goroutines
// than there are threads holds one at the same time.
func threadsOfGoroutines(t *testing.T) map[int]bool {
	t.Helper()
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	ids, leave := make(chan int), make(chan struct{})
	var all sync.WaitGroup
	defer all.Wait()
	defer close(leave)
	seen := make(map[int]bool)
	for range len(tasks) + 8 {
		all.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			ids <- unix.Gettid()
			<-leave
		})
	}
	for range len(tasks) + 8 {
		seen[<-ids] = true
	}
	if len(seen) != len(tasks)+8 {
		t.Fatalf("%d threads for %d goroutines", len(seen), len(tasks)+8)
	}
	return seen
}

func TestMonitorIsCalm(t *testing.T) {
	if err := CalmMonitor(); os.Geteuid() != 0 {
		if !errors.Is(err, os.ErrPermission) {
			t.Fatalf("without rights: %v", err)
		}
		return
	} else if err != nil {
		t.Fatal(err)
	}
	thread, err := monitor()
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(slackOf(thread))
	if err != nil {
		t.Fatal(err)
	}
	if want := strconv.FormatInt(MonitorSlack.Nanoseconds(), 10); strings.TrimSpace(string(got)) != want {
		t.Errorf("the monitor's slack is %s ns, want %s", got, want)
	}
	if own, err := os.ReadFile(slackOf("self")); err != nil || strings.TrimSpace(string(own)) == strings.TrimSpace(string(got)) {
		t.Errorf("the first thread's slack is %s, %v: as the monitor's", own, err)
	}
}
