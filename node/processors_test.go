package node

import (
	"os"
	"runtime"
	"testing"
)

func TestWorkersHaveSeats(t *testing.T) {
	seatWorkers()
	want := processors + 2*workers()
	if os.Getenv("GOMAXPROCS") != "" {
		want = processors // what the user said
	}
	if got := runtime.GOMAXPROCS(0); got != want {
		t.Errorf("%d seats, want %d for %d CPUs and %d workers of a port", got, want, processors, workers())
	}
}
