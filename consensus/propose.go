package consensus

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
)

// Propose commits a command and returns what Apply answered.
func (r *Raft) Propose(ctx context.Context, c registry.Command) (registry.Result, error) {
	wait, err := r.Enqueue(ctx, c)
	if err != nil {
		return registry.Result{}, err
	}
	return wait()
}

// Enqueue puts a command into raft's queue, which keeps the order.
func (r *Raft) Enqueue(ctx context.Context, c registry.Command) (wait func() (registry.Result, error), err error) {
	raw, err := registry.EncodeCommand(c)
	if err != nil {
		return nil, err
	}
	if err := r.fsm.failure(); err != nil {
		return nil, err
	}
	queued := make(chan struct{})
	response, err := r.begin(ctx, &r.inflight, func(timeout time.Duration) (any, error) {
		future := r.raft.Apply(raw, timeout)
		close(queued)
		return future.Response, future.Error()
	})
	if err != nil {
		return nil, outcome(err)
	}
	select {
	case <-queued:
	case <-ctx.Done():
	}
	return func() (registry.Result, error) {
		answer, err := response()
		if err != nil {
			return registry.Result{}, outcome(err)
		}
		return r.result(answer.(func() any)())
	}, nil
}

// result is what Apply answered.
func (r *Raft) result(response any) (registry.Result, error) {
	result, ok := response.(registry.Result)
	if !ok {
		return registry.Result{}, ErrOutcomeUnknown
	}
	if err := r.fsm.failure(); err != nil && result.Code == registry.ErrUnknown.Code {
		return result, err
	}
	return result, nil
}

// Barrier returns once everything committed before is applied here.
func (r *Raft) Barrier(ctx context.Context) error {
	_, err := r.await(ctx, func(timeout time.Duration) (any, error) {
		return nil, r.raft.Barrier(timeout).Error()
	})
	if errors.Is(err, raft.ErrLeadershipLost) {
		return fmt.Errorf("%w: %w", ErrNotLeader, err) // a barrier is nothing that may have had an effect
	}
	if err != nil {
		return outcome(err)
	}
	return r.fsm.failure()
}

// outcome tells what is known to have had no effect from what may have had one.
func outcome(err error) error {
	switch {
	case errors.Is(err, ErrClosed):
		return err
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return fmt.Errorf("%w: %w", ErrNotLeader, err)
	case errors.Is(err, raft.ErrRaftShutdown):
		return fmt.Errorf("%w: %w", ErrOutcomeUnknown, ErrClosed)
	}
	return fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
}

// await runs a call of raft that cannot be given up, and gives up waiting for it
// when ctx ends. Close waits for the call.
func (r *Raft) await(ctx context.Context, call func(timeout time.Duration) (any, error)) (any, error) {
	return r.awaitAmong(ctx, &r.inflight, call)
}

// awaitAmong is await of a call that is one of those.
func (r *Raft) awaitAmong(ctx context.Context, calls *sync.WaitGroup, call func(timeout time.Duration) (any, error)) (any, error) {
	wait, err := r.begin(ctx, calls, call)
	if err != nil {
		return nil, err
	}
	return wait()
}

// begin is the first half of await.
func (r *Raft) begin(ctx context.Context, calls *sync.WaitGroup, call func(timeout time.Duration) (any, error)) (wait func() (any, error), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	type answer struct {
		value any
		err   error
	}
	done := make(chan answer, 1)
	timeout := EnqueueTimeout
	if deadline, ok := ctx.Deadline(); ok {
		timeout = min(timeout, max(time.Until(deadline), time.Millisecond))
	}
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return nil, ErrClosed
	}
	calls.Go(func() {
		value, err := call(timeout)
		done <- answer{value, err}
	})
	r.mu.Unlock()
	return func() (any, error) {
		select {
		case a := <-done:
			return a.value, a.err
		case <-ctx.Done():
		}
		select {
		case a := <-done: // whoever asks late is told what is known
			return a.value, a.err
		default:
			return nil, ctx.Err()
		}
	}, nil
}
