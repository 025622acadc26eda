package dataplane

import (
	"slices"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/mesh/link"
	"github.com/meshcrypt/meshcrypt/node/tun"
)

// An engine is busy at once, and calm after a while; its owner hears each change once.
func TestBusy(t *testing.T) {
	const look = int64(BusyEvery)
	const much = BusyRate * uint64(BusyEvery) / uint64(time.Second)
	var now int64
	var said []bool
	e := testEngine(t, Config{Clock: func() int64 { return now }, Busy: func(is bool) { said = append(said, is) }})
	l, wire, queue := new(ledger), new(calling), new(callingQueue)
	e.workers[l], e.queues = wire, []tun.Queue{queue}
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
		if calls := len(want) > 0 && want[len(want)-1]; wire.calls != calls || queue.calls != calls {
			t.Errorf("%s: waits in calls: %v, %v", what, wire.calls, queue.calls)
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
	expect("many again", true, false, true)
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	step(much)
	if len(said) != 4 || said[3] {
		t.Errorf("closed while busy: told %v", said)
	}
}

// calling is a socket that only notes how it is to wait.
type calling struct {
	link.Socket
	calls bool
}

func (c *calling) WaitInCalls(calls bool) { c.calls = calls }
func (c *calling) Close() error           { return nil }
func (c *calling) Lost() uint64           { return 0 }

type callingQueue struct {
	tun.Queue
	calls bool
}

func (c *callingQueue) WaitInCalls(calls bool) { c.calls = calls }
