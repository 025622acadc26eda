package node

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/meshcrypt/meshcrypt/node/scheduler"
)

func TestBusyWorkersHaveSeats(t *testing.T) {
	scheduler.Seat(0)
	rest := runtime.GOMAXPROCS(0)
	seatWorkers(true)
	got := runtime.GOMAXPROCS(0)
	seatWorkers(false)
	want := rest + 2*workers()
	if os.Getenv("GOMAXPROCS") != "" {
		want = rest // what the user said
	}
	if got != want {
		t.Errorf("%d seats, want %d for %d CPUs and %d workers of a port", got, want, scheduler.CPUs, workers())
	}
	if is := runtime.GOMAXPROCS(0); is != rest {
		t.Errorf("%d seats afterwards, want %d", is, rest)
	}
}

// oneCPUVariable has this test's own next process say how many seats it has.
const oneCPUVariable = "MESHCRYPT_TEST_ONE_CPU"

// TestOneCPUHasTwoSeats: where a process may use one CPU only a daemon and a client have two
// seats all the same, or each packet would wait until the monitor takes the reader's away.
func TestOneCPUHasTwoSeats(t *testing.T) {
	if os.Getenv(oneCPUVariable) != "" {
		nowhere := filepath.Join(os.DevNull, "nowhere")
		_ = Run(context.Background(), RunConfig{DataDir: nowhere})
		daemon := runtime.GOMAXPROCS(1)
		_ = Connect(context.Background(), ConnectConfig{RunDir: nowhere})
		fmt.Printf("%d CPU, seats %d and %d\n", scheduler.CPUs, daemon, runtime.GOMAXPROCS(0))
		return
	}
	runtime.LockOSThread() // for good: no other goroutine is to have one CPU only
	var all, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		t.Fatal(err)
	}
	for cpu := 0; one.Count() == 0; cpu++ {
		if all.IsSet(cpu) {
			one.Set(cpu)
		}
	}
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe", "-test.run", "^"+t.Name()+"$")
	said := func(v string) bool { return strings.HasPrefix(v, "GOMAXPROCS=") }
	cmd.Env = append(slices.DeleteFunc(os.Environ(), said), oneCPUVariable+"=1")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), "1 CPU, seats 2 and 2\n") {
		t.Errorf("%v: %s", err, out)
	}
}
