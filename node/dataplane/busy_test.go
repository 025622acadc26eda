package dataplane

import (
	"slices"
	"testing"
	"time"
)

// An engine is busy at once, and calm after a while; its owner hears each change once.
func TestBusy(t *testing.T) {
	const look = int64(BusyEvery)
	const much = BusyRate * uint64(BusyEvery) / uint64(time.Second)
	var now int64
	var said []bool
	e := testEngine(t, Config{Clock: func() int64 { return now }, Busy: func(is bool) { said = append(said, is) }})
	l := new(ledger)
	e.workers[l] = nil
	step := func(packets uint64) {
		l.take(PortOuter, int(packets))
		now += look
		e.Tick()
		e.Tick() // at the same moment: no look
	}
	expect := func(what string, want ...bool) {
		t.Helper()
		if !slices.Equal(said, want) {
			t.Fatalf("%s: told %v, want %v", what, said, want)
		}
	}
	step(100 * much) // nobody knows in what time
	step(much - 1)
	expect("few packets")
	step(much)
	expect("many", true)
	for range int64(CalmAfter)/look - 1 {
		step(0)
	}
	expect("calm for a moment", true)
	step(much)
	for range int64(CalmAfter)/look - 1 {
		step(0)
	}
	expect("busy once more meanwhile", true)
	step(0)
	expect("calm for long", true, false)
	step(much)
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	step(much)
	expect("closed while busy", true, false, true, false)
}
