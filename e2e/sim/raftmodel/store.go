package raftmodel

import (
	"context"
	"fmt"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus"
	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/node/arbiter"
)

var _ arbiter.Store = (*Replica)(nil)

// begin does something in the replica's process whose outcome comes later, and returns a
// wait for it. The wait ends with ctx, too.
func (r *Replica) begin(ctx context.Context, do func(done func(registry.Result, error))) (wait func() (registry.Result, error)) {
	type answer struct {
		result registry.Result
		err    error
	}
	came := make(chan answer, 1)
	r.later(func() { do(func(result registry.Result, err error) { came <- answer{result, err} }) },
		func() { came <- answer{err: consensus.ErrClosed} })
	return func() (registry.Result, error) {
		select {
		case a := <-came:
			return a.result, a.err
		case <-ctx.Done():
			return registry.Result{}, fmt.Errorf("%w: %w", consensus.ErrOutcomeUnknown, ctx.Err())
		}
	}
}

// later does something in the replica's process, once it goes on; or says that it ended.
func (r *Replica) later(do, gone func()) {
	r.cluster.turn(func() {
		if r.ended {
			r.cluster.effect(gone)
			return
		}
		r.run(do)
	})
}

// ProposeThen commits a command and calls back with what Apply answered, in the clock's
// or the network's goroutine.
func (r *Replica) ProposeThen(c registry.Command, then func(registry.Result, error)) {
	raw, err := registry.EncodeCommand(c)
	if err != nil {
		then(registry.Result{}, err)
		return
	}
	r.later(func() { r.propose(proposal{entry: entry{data: raw}, done: then}) },
		func() { then(registry.Result{}, consensus.ErrClosed) })
}

// Propose commits a command and returns what Apply answered.
func (r *Replica) Propose(ctx context.Context, c registry.Command) (registry.Result, error) {
	wait, err := r.Enqueue(ctx, c)
	if err != nil {
		return registry.Result{}, err
	}
	return wait()
}

// Enqueue puts a command behind all that were enqueued before.
func (r *Replica) Enqueue(ctx context.Context, c registry.Command) (wait func() (registry.Result, error), err error) {
	raw, err := registry.EncodeCommand(c)
	if err != nil {
		return nil, err
	}
	return r.begin(ctx, func(done func(registry.Result, error)) {
		r.propose(proposal{entry: entry{data: raw}, done: done})
	}), nil
}

// Barrier returns once everything committed before is applied here.
func (r *Replica) Barrier(ctx context.Context) error {
	wait := r.begin(ctx, func(done func(registry.Result, error)) {
		r.propose(proposal{entry: entry{kind: barrier}, done: done})
	})
	_, err := wait()
	return err
}

// View lends the state for reading.
func (r *Replica) View(read func(*registry.State)) {
	r.view.RLock()
	defer r.view.RUnlock()
	read(r.state)
}

// Changes is signalled after the state changed.
func (r *Replica) Changes() <-chan struct{} { return r.changes }

// Leadership tells the newest view of who leads.
func (r *Replica) Leadership() <-chan consensus.Leadership { return r.leadership }

// Failed yields nothing: the model's replicas are all of one build.
func (r *Replica) Failed() <-chan error { return r.failed }

// Leader is the present leader, if this replica knows one.
func (r *Replica) Leader() (id identity.NodeID, known bool) {
	r.cluster.turn(func() {
		if known = r.leader != nobody; known {
			id = r.cluster.config.Servers[r.leader]
		}
	})
	return id, known
}

// Stats is where this replica stands.
func (r *Replica) Stats() (s consensus.Stats) {
	r.cluster.turn(func() {
		d := r.disk
		s = consensus.Stats{
			Leader: r.role == leader, Term: d.term, Commit: r.commit, Applied: r.applied,
			Last: d.end().index, Stored: uint64(len(d.entries)), Snapshot: d.snapshot.index,
		}
		if !s.Leader && r.heard > 0 {
			s.LastContact = time.Unix(0, 0).Add(r.heard)
		}
	})
	return s
}

// Reign is the index of the first entry of the last term that this replica led.
func (r *Replica) Reign() (first uint64) {
	r.cluster.turn(func() { first = r.reign.began })
	return first
}

// Snapshot writes one now.
func (r *Replica) Snapshot(context.Context) error {
	r.cluster.turn(func() {
		if !r.ended {
			r.shorten()
		}
	})
	return nil
}

// Close ends the process as one does that is told to: it has no goodbye for the others.
func (r *Replica) Close() error {
	r.cluster.turn(func() {
		if !r.ended {
			r.end("closes")
		}
	})
	return nil
}
