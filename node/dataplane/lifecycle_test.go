package dataplane

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/crypto/esp"
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
	if stood := e.Tick(); stood != StallLimit+1 {
		t.Errorf("the owner heard of a gap of %v", stood)
	}
	carry(o, good, 0)
	if got := o.ledger.stats(); got.Dropped[DropStalled] != 2 || got.Delivered[PortOuter] != 2 {
		t.Errorf("outbound: %+v", got)
	}
	if gap != StallLimit+1 {
		t.Errorf("heard of a gap of %v", gap)
	}
	w := inboundWorker(e, s)
	packet := seal(t, far, NewTCP("10.9.0.1:2", "10.1.0.2:1", 1, Pattern(9)).Bytes(), esp.NextIPv4)
	go func() { s.trains <- fakeTrain{packet, len(packet), addrPort("192.0.2.1:6484")} }()
	if err := w.step(); err != nil || w.ledger.stats().Dropped[DropStalled] != 1 {
		t.Errorf("inbound: %v, %+v", err, w.ledger.stats())
	}
	e.Publish(nodeTable(p))
	on := newHandOn(e, new(ledger), s, e.queues[0]).(*handOn)
	handed := Marker{Type: MarkerHandOn, Hops: 1, SPI: esp.MakeSPI(2, 1)}.Append(nil, NewTCP("10.9.0.1:2", "10.1.0.2:1", 1, Pattern(9)).Bytes())
	receive(t, on, s, handed, len(handed), "10.0.0.3:6484")
	if got := on.ledger.stats(); got.Dropped[DropStalled] != 1 || got.Delivered[PortOuter] != 0 {
		t.Errorf("handed on: %+v", got)
	}
	p.Agent = false
	e.Publish(clientTable(p))
	e.Resume()
	carry(o, good, 0)
	if got := o.ledger.stats(); got.Delivered[PortOuter] != 3 {
		t.Errorf("resumed: %+v", got)
	}
	e.Publish(nodeTable(p))
	receive(t, on, s, handed, len(handed), "10.0.0.3:6484")
	if got := on.ledger.stats(); got.Delivered[PortOuter] != 1 {
		t.Errorf("handed on, resumed: %+v", got)
	}
}

// stoppable is an engine that carries packets of a client by a clock of the test's.
func stoppable(t *testing.T) (now *atomic.Int64, e *Engine, o *outbound) {
	t.Helper()
	now = new(atomic.Int64)
	now.Store(1)
	p, _, _ := testPair(t)
	e = testEngine(t, Config{Clock: now.Load})
	e.Publish(clientTable(p))
	return now, e, outboundWorker(e)
}

// TestBusyOwnerStopsNobody: an owner that has much to do is no process that stood still, as
// long as anybody shows that this one runs; one that hangs is not waited for.
func TestBusyOwnerStopsNobody(t *testing.T) {
	for _, c := range []struct {
		who  string
		runs func(*Engine, func())
	}{
		{"a worker", func(_ *Engine, carry func()) { carry() }},
		{"a pulse", func(e *Engine, _ func()) { e.Pulse() }},
	} {
		t.Run(c.who, func(t *testing.T) {
			now, e, o := stoppable(t)
			send := func() { carry(o, NewTCP("10.1.0.2:1", "10.9.0.1:2", 1, Pattern(100)), 0) }
			stopped := func() uint64 { return o.ledger.stats().Dropped[DropStalled] }
			e.Pulse()
			now.Add(int64(time.Hour))
			if send(); stopped() != 0 {
				t.Fatal("a pulse is no tick: the rule is on before the first")
			}
			e.Tick()
			for range OwnerLimit / StallLimit {
				now.Add(int64(StallLimit))
				c.runs(e, send)
			}
			if send(); stopped() != 0 {
				t.Fatal("a busy owner stops its packets")
			}
			if now.Add(int64(StallLimit)); time.Duration(now.Load()) <= OwnerLimit {
				t.Fatal("not yet beyond the limit")
			}
			send()
			now.Add(int64(StallLimit) + 1) // until the owner goes on; nobody has to show anything
			if stood := e.Tick(); stopped() != 1 || stood <= OwnerLimit+StallLimit || !e.Hung() {
				t.Errorf("an owner that hangs is waited for: %d stopped, after %v, the owner %v", stopped(), stood, e.Hung())
			}
			e.Resume()
			now.Add(int64(StallLimit) + 1)
			if c.runs(e, send); e.Tick() != StallLimit+1 || e.Hung() {
				t.Error("nobody ran, and it is not noticed")
			}
		})
	}
}

// TestStopsWhileItsOwnerConfirms: a process that stands still once more, while its owner
// confirms its slices after a stop, has confirmed nothing; one that only takes long for it has.
func TestStopsWhileItsOwnerConfirms(t *testing.T) {
	now, e, o := stoppable(t)
	carried := func() bool {
		was := o.ledger.stats().Dropped[DropStalled]
		carry(o, NewTCP("10.1.0.2:1", "10.9.0.1:2", 1, Pattern(100)), 0)
		return o.ledger.stats().Dropped[DropStalled] == was
	}
	e.Tick()
	now.Add(int64(StallLimit) + 1)
	if carried() || e.Tick() != StallLimit+1 {
		t.Fatal("the first stop is not noticed")
	}
	const second = 10 * time.Second
	now.Add(int64(second))
	if e.Resume(); carried() {
		t.Error("carried under keys of before the second stop")
	}
	if stood := e.Tick(); stood < second {
		t.Errorf("the owner hears of %v", stood)
	}
	for range 4 {
		now.Add(int64(StallLimit))
		if carried() {
			t.Fatal("carried before the owner has confirmed")
		}
	}
	if e.Resume(); !carried() || e.Tick() != 0 {
		t.Error("an owner that took long is not heard")
	}
}

// TestOneStopIsHeardOfOnce: not again from a worker that saw it and had to wait; nor does one
// that read the clock long ago take back that this process runs.
func TestOneStopIsHeardOfOnce(t *testing.T) {
	var now atomic.Int64
	now.Store(int64(time.Hour))
	heard := 0
	e := testEngine(t, Config{Clock: now.Load, Stalled: func(time.Duration) { heard++ }})
	e.Tick()
	seen, gap := now.Add(int64(time.Minute)), int64(time.Minute)
	e.Tick()
	e.Resume()
	if e.stall.stop(seen, gap, false); e.stall.check(now.Load()) || heard != 1 {
		t.Errorf("stopped anew, heard %d times", heard)
	}
	now.Add(int64(StallLimit))
	e.Pulse()
	e.stall.runs(seen)
	if now.Add(1); e.stall.check(now.Load()) {
		t.Error("a late worker stopped everything")
	}
}

// TestOwnerThatConfirmsRuns: the time in which it is late counts from then.
func TestOwnerThatConfirmsRuns(t *testing.T) {
	for name, confirm := range map[string]func(*Engine){"resume": (*Engine).Resume, "revive": (*Engine).Revive} {
		var now atomic.Int64
		now.Store(1)
		e := testEngine(t, Config{Clock: now.Load})
		e.Tick()
		if name == "revive" {
			e.Halt()
		}
		now.Add(int64(StallLimit))
		confirm(e)
		now.Add(int64(StallLimit))
		if e.stall.check(now.Load()) {
			t.Errorf("%s: it is taken for one that stood still", name)
		}
	}
}

// TestHaltOutlivesResume: who halts the engine because its keys may be in use
// elsewhere is not undone by an owner that was busy with a stop of before.
func TestHaltOutlivesResume(t *testing.T) {
	now, e, o := stoppable(t)
	good := NewTCP("10.1.0.2:1", "10.9.0.1:2", 1, Pattern(100))
	carried := func(want uint64) {
		t.Helper()
		carry(o, good, 0)
		if got := o.ledger.stats().Delivered[PortOuter]; got != want {
			t.Errorf("%d packets left, want %d", got, want)
		}
	}
	e.Tick()
	carried(1)
	now.Add(int64(StallLimit) + 1)
	e.Tick()
	e.Halt()
	e.Resume()
	carried(1)
	if stood := e.Tick(); stood != 0 {
		t.Errorf("the owner is told of a stop of %v", stood)
	}
	e.Resume()
	carried(1)
	e.Revive()
	carried(2)
	now.Add(int64(StallLimit) + 1)
	carried(2)
	e.Revive()
	carried(2)
	e.Resume()
	carried(3)
}

// TestLateTickHearsTheWholeGap: a worker stops the engine early in a pause that
// goes on; the owner must not take it for a short one.
func TestLateTickHearsTheWholeGap(t *testing.T) {
	var now atomic.Int64
	now.Store(1)
	p, _, _ := testPair(t)
	e := testEngine(t, Config{Clock: now.Load}) // and nobody listens
	e.Publish(clientTable(p))
	if stood := e.Tick(); stood != 0 {
		t.Errorf("stood still for %v before it began", stood)
	}
	now.Add(int64(StallLimit) + 1)
	carry(outboundWorker(e), NewTCP("10.1.0.2:1", "10.9.0.1:2", 1, Pattern(100)), 0)
	now.Add(int64(time.Hour))
	for range 2 { // until it is resumed
		if stood := e.Tick(); stood != time.Hour+StallLimit+1 {
			t.Fatalf("the owner heard of a gap of %v", stood)
		}
	}
	if e.Resume(); e.Tick() != 0 {
		t.Error("still stopped")
	}
}

// TestKeysEndByTheClock: from its end on a pair neither seals nor opens, on
// every way, though its owner has not noticed (design 5: hard 15 minutes).
func TestKeysEndByTheClock(t *testing.T) {
	const end = int64(KeyLife)
	var now atomic.Int64
	p, s, far := testPair(t)
	p.Ends = end
	e := testEngine(t, Config{Clock: now.Load})
	up := NewTCP("10.1.0.2:1", "10.9.0.1:2", 1, Pattern(100))
	down := NewTCP("10.9.0.1:2", "10.1.0.2:1", 1, Pattern(100)).Bytes()
	out, in := outboundWorker(e), inboundWorker(e, s)
	on := newHandOn(e, new(ledger), s, e.queues[0]).(*handOn)
	handed := Marker{Type: MarkerHandOn, Hops: 1, SPI: esp.MakeSPI(2, 1)}.Append(nil, down)
	for _, at := range []struct{ clock, passed, dropped int64 }{{end - 1, 1, 0}, {end, 1, 1}, {end + 1, 1, 2}} {
		now.Store(at.clock)
		p.Agent = false
		e.Publish(clientTable(p))
		carry(out, up, 0)
		packet := seal(t, far, down, esp.NextIPv4)
		receive(t, in, s, packet, len(packet), "192.0.2.1:6484")
		e.Publish(nodeTable(p))
		receive(t, on, s, handed, len(handed), "10.0.0.3:6484")
		for way, got := range map[string]Stats{
			"sealed": out.ledger.stats(), "opened": in.ledger.stats(), "handed on": on.ledger.stats(),
		} {
			passed := got.Delivered[PortOuter] + got.Delivered[PortTUN]
			if int64(passed) != at.passed || int64(got.Dropped[DropExhausted]) != at.dropped || got.Balance() != 0 {
				t.Errorf("%s at %v: %+v", way, time.Duration(at.clock), got)
			}
		}
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

// TestNothingIsSealedWithoutKeys: a pair that its peer has not answered yet drops, by
// name, and harms nothing (I11).
func TestNothingIsSealedWithoutKeys(t *testing.T) {
	p, s, _ := testPair(t)
	p.Out = nil
	e := testEngine(t, Config{})
	e.Publish(clientTable(p))
	o := outboundWorker(e)
	carry(o, NewTCP("10.1.0.2:1", "10.9.0.1:2", 1, Pattern(9)), 0)
	carry(o, NewTCP("10.1.0.2:1", "10.9.0.1:2", 1, Pattern(3000)), 1000)
	if got := o.ledger.stats(); got.Dropped[DropNoSlice] != 4 || got.Balance() != 0 {
		t.Errorf("sealed: %+v", got)
	}
	e.Publish(nodeTable(p))
	on := newHandOn(e, new(ledger), s, e.queues[0]).(*handOn)
	handed := Marker{Type: MarkerHandOn, Hops: 1, SPI: esp.MakeSPI(2, 1)}.Append(nil, NewTCP("10.9.0.1:2", "10.1.0.2:1", 1, Pattern(9)).Bytes())
	receive(t, on, s, handed, len(handed), "10.0.0.3:6484")
	if got := on.ledger.stats(); got.Dropped[DropEarly] != 1 || got.Balance() != 0 {
		t.Errorf("handed on: %+v", got)
	}
}

// TestStoppedKeysSayNothing: control messages neither, and that is an error, no panic.
func TestStoppedKeysSayNothing(t *testing.T) {
	p, s, _ := testPair(t)
	p.Out.Stop()
	if err := p.SendControl([]byte("probe")); !errors.Is(err, esp.ErrExhausted) {
		t.Errorf("a control message: %v", err)
	}
	if err := p.Try(link.Path{Remote: addrPort("192.0.2.9:6484")}, 1); !errors.Is(err, esp.ErrExhausted) {
		t.Errorf("a question: %v", err)
	}
	if len(s.sent) != 0 {
		t.Errorf("%d datagrams were sent", len(s.sent))
	}
}

// TestEverySocketIsServed: outside and inside, however many there are.
func TestEverySocketIsServed(t *testing.T) {
	sockets := []link.Socket{newFakeSocket(), newFakeSocket(), newFakeSocket(), newFakeSocket()}
	e := testEngine(t, Config{Outer: sockets[:2], Inside: sockets[2:]})
	if err := e.Start(); err != nil {
		t.Fatal(err)
	}
	for i, s := range sockets {
		served := 0
		for _, by := range e.workers {
			if by == s {
				served++
			}
		}
		if served != 1 {
			t.Errorf("socket %d is served by %d workers", i, served)
		}
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
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
