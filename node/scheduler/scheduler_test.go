package scheduler

import (
	"context"
	"errors"
	"os"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestSeats(t *testing.T) {
	rest := max(CPUs, 2)
	first, second := rest+4, rest+6
	if fixed {
		rest, first, second = CPUs, CPUs, CPUs
	}
	for _, step := range []struct{ more, want int }{{0, rest}, {4, first}, {2, second}, {-2, first}, {-4, rest}} {
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

// The monitor alone is calm, and soon what it made is as any other thread.
func TestMonitorIsCalm(t *testing.T) {
	ctx, end := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- KeepMonitorCalm(ctx) }()
	if os.Geteuid() != 0 {
		if err := <-ended; !errors.Is(err, os.ErrPermission) {
			t.Errorf("without rights: %v", err)
		}
		end()
		return
	}
	defer func() {
		end()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	until(t, "the monitor to be calm", func() bool { return len(calmThreads(t)) == 1 })
	made := heir(t)
	threadsOfGoroutines(t) // new ones: that there are some is what is looked at
	until(t, "a thread that inherited that to be as the others", func() bool {
		is, err := slack(made)
		return err == nil && is != MonitorSlack
	})
	calm, err := monitor()
	if err != nil {
		t.Fatal(err)
	}
	until(t, "the monitor alone to be calm", func() bool { // it may have made another meanwhile
		all := calmThreads(t)
		return len(all) == 1 && all[0] == calm
	})
}

// TestSlackIsPutRight: also where there are as many threads as at the last look, for one ended as
// the monitor made another, or other software set it; then within lookEvery.
func TestSlackIsPutRight(t *testing.T) {
	calm, err := monitor()
	if err != nil {
		t.Fatal(err)
	}
	before, err := slack(calm)
	if os.Geteuid() != 0 {
		if setSlack(calm, MonitorSlack) == nil {
			t.Error("without rights it is set: this test is to go on")
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = setSlack(calm, before) })
	usual, err := slack("self")
	if err != nil {
		t.Fatal(err)
	}
	const count = 7 // as the runtime says
	at := time.Now()
	k := keeper{calm: calm, usual: usual}
	k.keep(at, count)
	made := heir(t)
	spoil := func(of, to string) {
		t.Helper()
		if err := setSlack(of, to); err != nil {
			t.Fatal(err)
		}
	}
	is := func(when string, right bool) {
		t.Helper()
		its, err := slack(made)
		monitors, err2 := slack(calm)
		if err != nil || err2 != nil || (its == usual) != right || (monitors == MonitorSlack) != right {
			t.Errorf("%s: slack %s, the monitor's %s, %v, %v", when, its, monitors, err, err2)
		}
	}
	for _, others := range []string{MonitorSlack, "20000000"} {
		spoil(calm, usual)
		spoil(made, others)
		k.keep(at.Add(lookEvery-1), count)
		is("before it is time", false)
		at = at.Add(lookEvery)
		k.keep(at, count)
		is("after "+others, true)
		spoil(calm, usual)
		spoil(made, others)
		k.keep(at, count+1)
		is("with one more", true)
		k.keep(at, count)
	}
}

// heir is a new thread as the monitor makes them.
func heir(t *testing.T) string {
	t.Helper()
	id, leave := make(chan int), make(chan struct{})
	t.Cleanup(func() { close(leave) })
	go func() { // ends with its thread
		runtime.LockOSThread()
		if err := unix.Prctl(unix.PR_SET_TIMERSLACK, 5_000_000, 0, 0, 0); err != nil {
			t.Error(err)
		}
		id <- unix.Gettid()
		<-leave
	}()
	return strconv.Itoa(<-id)
}

func calmThreads(t *testing.T) (calm []string) {
	t.Helper()
	threads, err := os.ReadDir(tasks)
	if err != nil {
		t.Fatal(err)
	}
	for _, thread := range threads {
		if is, err := slack(thread.Name()); err == nil && is == MonitorSlack {
			calm = append(calm, thread.Name())
		}
	}
	return calm
}

func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for range 1000 {
		if is() {
			return
		}
		<-time.After(10 * time.Millisecond)
	}
	t.Fatalf("no %s after 10 s", what)
}
