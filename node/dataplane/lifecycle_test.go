package dataplane

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/mesh/link"
	"github.com/meshcrypt/meshcrypt/node/tun/tuntest"
)

func TestStallStopsEverythingUntilResumed(t *testing.T) {
	var now atomic.Int64
	now.Store(1)
	var gap time.Duration
	p, s, far := testPair(t)
	e := testEngine(t, Config{Clock: now.Load, Stalled: func(g time.Duration) { gap = g }})
	e.Publish(clientTable(p))
	o := outboundWorker(e)
	good := NewTCP("10.1.0.2:1", "10.9.0.1:2", 1, Pattern(100))
	step := func(d time.Duration) { now.Add(int64(d)) }
	step(time.Hour)
	carry(o, good, 0) // nobody ticks: the rule is off
	e.Tick()
	step(StallLimit)
	carry(o, good, 0) // at the limit
	e.Tick()
	step(StallLimit + 1)
	carry(o, good, 0)
	e.Tick()
	carry(o, good, 0)
	if got := o.ledger.stats(); got.Dropped[DropStalled] != 2 || got.Delivered[PortOuter] != 2 {
		t.Errorf("outbound: %+v", got)
	}
	if gap != StallLimit+1 {
		t.Errorf("heard of a gap of %v", gap)
	}
	w := inboundWorker(e, s)
	packet := seal(t, far, NewTCP("10.9.0.1:2", "10.1.0.2:1", 1, Pattern(9)).Bytes(), nextIPv4)
	go func() { s.trains <- fakeTrain{packet, len(packet), addrPort("192.0.2.1:6484")} }()
	if err := w.step(); err != nil || w.ledger.stats().Dropped[DropStalled] != 1 {
		t.Errorf("inbound: %v, %+v", err, w.ledger.stats())
	}
	e.Resume()
	carry(o, good, 0)
	if got := o.ledger.stats(); got.Delivered[PortOuter] != 3 {
		t.Errorf("resumed: %+v", got)
	}
}

func TestFaultyWorkerGivesUp(t *testing.T) {
	faults := make(chan error, 1)
	s := newFakeSocket()
	s.fault = errors.New("broken")
	e := testEngine(t, Config{Outer: []link.Socket{s}, Fault: func(err error) { faults <- err }})
	if err := e.Start(); err != nil {
		t.Fatal(err)
	}
	if err := <-faults; err != s.fault {
		t.Errorf("fault %v", err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if got := e.Stats().Lost; got != 3 {
		t.Errorf("%d lost by a socket that is gone, want 3", got)
	}
}

func TestLifecycleAndLimits(t *testing.T) {
	if _, err := New(Config{}); !errors.Is(err, ErrConfig) {
		t.Errorf("New without a device: %v", err)
	}
	e := testEngine(t, Config{})
	if err := e.Start(); err != nil {
		t.Fatal(err)
	}
	if err := e.Start(); !errors.Is(err, ErrClosed) {
		t.Errorf("second Start: %v", err)
	}
	for i := 1; i < MaxWorkers; i++ {
		if err := e.begin(nil, idleWorker(e)); err != nil {
			t.Fatalf("worker %d: %v", i, err)
		}
	}
	if err := e.Attach(newFakeSocket()); !errors.Is(err, ErrFull) {
		t.Errorf("beyond MaxWorkers: %v", err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if err := e.Attach(newFakeSocket()); !errors.Is(err, ErrClosed) {
		t.Errorf("Attach after Close: %v", err)
	}
	if len(e.workers) != 0 {
		t.Errorf("%d workers after Close", len(e.workers))
	}
}

// idleWorker waits at the engine's queue like any other worker.
func idleWorker(e *Engine) func(*ledger) worker {
	return func(*ledger) worker { return readOnly{e} }
}

func TestReasonsHaveNames(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range Reasons() {
		if seen[r.String()] || r.String() == "" || r.String() == "unknown" {
			t.Errorf("reason %d is named %q", r, r)
		}
		seen[r.String()] = true
	}
}

type readOnly struct{ engine *Engine }

func (r readOnly) step() error {
	_, err := r.engine.queues[0].Read(make([]byte, 1))
	return err
}

func TestInjectGoesToTheHostAsItIs(t *testing.T) {
	e := testEngine(t, Config{})
	p := NewUDP("10.1.0.2:1", "10.0.0.2:6484", Pattern(10)).Bytes()
	if err := e.Inject(p); err != nil {
		t.Fatal(err)
	}
	got := e.config.Device.(*tuntest.Device).TakeAll()
	if len(got) != 1 || string(got[0].Data) != string(p) || e.Queues() != 1 {
		t.Errorf("%d packets at the host", len(got))
	}
}
