package agent

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshcrypt/meshcrypt/node/probe"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// told turns the loop until a request of another goroutine is answered.
func (f *fixture) told(request func(context.Context) error) error {
	f.Helper()
	answer := make(chan error, 1)
	go func() { answer <- request(f.Context()) }()
	var err error
	f.until("the request is answered", func() bool {
		select {
		case err = <-answer:
			return true
		default:
			return false
		}
	})
	return err
}

// TestLeaveAndDrainGoToTheArbiter: said once to the arbiter that is obeyed, and
// refused while there is none, so that an operator never waits for nobody.
func TestLeaveAndDrainGoToTheArbiter(t *testing.T) {
	f := newFixture(t)
	drain := func(on bool) func(context.Context) error {
		return func(ctx context.Context) error { return f.Drain(ctx, on) }
	}
	refused := func(when string) {
		t.Helper()
		for _, request := range []func(context.Context) error{f.Leave, drain(true)} {
			if err := f.told(request); !errors.Is(err, ErrNoArbiter) {
				t.Errorf("%s: %v", when, err)
			}
		}
	}
	refused("before a stream")
	f.open()
	refused("before the arbiter named its fence")
	f.hear(&protocol.Node{Fence: &protocol.Fence{Incarnation: 1, Term: 4}})
	refused("at an arbiter of an older term")
	f.obey(5)
	for _, request := range []func(context.Context) error{drain(true), drain(false), f.Leave} {
		f.ok(f.told(request))
	}
	drains := saying(f, func(m *protocol.Node) *protocol.Drain { return m.Drain })
	leaves := saying(f, func(m *protocol.Node) *protocol.Leave { return m.Leave })
	if len(drains) != 2 || !drains[0].On || drains[1].On || len(leaves) != 1 {
		t.Errorf("said %d drains, %d leaves", len(drains), len(leaves))
	}
	if len(f.left) != 0 {
		t.Error("left by asking: the arbiter has not answered")
	}
	f.do(streamLost{f.Agent.stream})
	refused("after the stream ended")
}

// TestAskersDoNotWaitForever: for a loop that does not turn, or that took the
// question and ended.
func TestAskersDoNotWaitForever(t *testing.T) {
	f := newFixture(t)
	f.obey(5)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for len(f.events) < MaxEvents {
		f.events <- nodeDatagram{}
	}
	if err := f.Leave(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("before a full queue: %v", err)
	}
	f.pump()
	if err := f.Drain(ctx, true); !errors.Is(err, context.Canceled) {
		t.Errorf("without an answer: %v", err)
	}
	if _, ok := f.Report(ctx); ok {
		t.Error("a report of nobody")
	}
}

// TestReport is what status shows.
func TestReport(t *testing.T) {
	f := newFixture(t).second()
	f.customer(f.offered()[0], nil).granted()
	f.pass(5*TickEvery, 2, 3)
	f.pass((ProbeMisses+2)*TickEvery, 3)
	var r Report
	f.ok(f.told(func(ctx context.Context) error {
		var ok bool
		if r, ok = f.Report(ctx); !ok {
			return errors.New("no report")
		}
		return nil
	}))
	if r.Term != 5 || r.Incarnation != 1 || !r.Heard || r.Slices != 1 || r.Routes != 1 || r.Path != probe.PathUnknown {
		t.Errorf("%+v", r)
	}
	if len(r.Silent) != 1 || r.Silent[0] != "c" || len(r.Parts) != 1 {
		t.Errorf("silent %v, parts %v", r.Silent, r.Parts)
	}
	if want := 10 * TickEvery; r.WordAge != want {
		t.Errorf("word of %v ago, want %v", r.WordAge, want)
	}
}

// TestRunEnds: with its context, also in the middle of a stream, which it
// closes.
func TestRunEnds(t *testing.T) {
	f := newFixture(t)
	f.line = newScriptedLine()
	dialed := make(chan struct{}, 1)
	f.Agent.config.Dial = func(context.Context) (Stream, error) {
		select {
		case dialed <- struct{}{}:
			return f.stream(), nil
		default:
			return Stream{}, errors.New("once is enough")
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		f.Agent.Run(ctx)
	}()
	<-dialed
	if _, ok := f.Report(ctx); !ok {
		t.Error("a running loop does not answer")
	}
	cancel()
	<-ended
	if !f.line.isClosed() {
		t.Error("the stream outlives the loop")
	}
}

// TestRedial: a node that hears of another arbiter leaves the one it has, or the attempt
// to reach one, and tries at once, however long it has waited by then.
func TestRedial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.line = newScriptedLine()
		type attempt struct {
			ctx    context.Context
			answer chan error
		}
		attempts := make(chan attempt)
		f.Agent.config.Dial = func(ctx context.Context) (Stream, error) {
			a := attempt{ctx, make(chan error, 1)}
			attempts <- a
			select {
			case err := <-a.answer:
				return f.stream(), err
			case <-ctx.Done():
				return Stream{}, ctx.Err()
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		kept := make(chan struct{})
		go func() { defer close(kept); f.Agent.keepStream(ctx) }()
		for range 9 {
			(<-attempts).answer <- errors.New("nobody")
		}
		begin := time.Now()
		f.Redial() // while it waits
		hanging := <-attempts
		f.Redial() // while it dials
		<-hanging.ctx.Done()
		(<-attempts).answer <- nil
		synctest.Wait()
		f.Redial() // while it obeys
		again := <-attempts
		if took := time.Since(begin); took != 0 || !f.line.isClosed() {
			t.Errorf("after %v; the old stream is closed: %t", took, f.line.isClosed())
		}
		again.answer <- errors.New("nobody")
		cancel()
		<-kept
	})
}
