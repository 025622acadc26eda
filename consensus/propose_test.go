package consensus

import (
	"context"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
)

// TestEnqueuedInOrder: many commands are on their way at once, and are applied in the
// order in which they were enqueued.
func TestEnqueuedInOrder(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, nil)
	leader := c.leader()
	const many = 500
	waits := make([]func() (registry.Result, error), many)
	for i := range waits {
		wait, err := leader.Enqueue(c.ctx(), c.command(tick(1)))
		c.ok(err)
		waits[i] = wait
	}
	last := uint64(0)
	for i, wait := range waits {
		result, err := wait()
		c.ok(err)
		if result.Index <= last {
			t.Fatalf("command %d is entry %d, the one before it %d", i, result.Index, last)
		}
		last = result.Index
	}
	c.agree(many)
}

// TestAskedLate: of a commit that is known nobody is told that its outcome is not, however
// late it is asked for. One in two was.
func TestAskedLate(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, nil)
	r := c.leader()
	for range 20 {
		ctx, cancel := context.WithCancel(c.ctx())
		wait, err := r.begin(ctx, &r.inflight, func(time.Duration) (any, error) { return 7, nil })
		c.ok(err)
		r.inflight.Wait()
		cancel()
		if got, err := wait(); err != nil || got != 7 {
			t.Fatalf("the outcome is %v, %v", got, err)
		}
	}
}
