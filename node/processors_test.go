package node

import (
	"os"
	"runtime"
	"testing"

	"github.com/meshcrypt/meshcrypt/node/scheduler"
)

func TestBusyWorkersHaveSeats(t *testing.T) {
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
