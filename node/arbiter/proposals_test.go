package arbiter

import (
	"context"
	"errors"
	"testing"

	"github.com/meshcrypt/meshcrypt/consensus"
	"github.com/meshcrypt/meshcrypt/consensus/registry"
)

// slowStore commits nothing before it is told to.
type slowStore struct {
	*memoryStore
	enqueued chan registry.Command
	commit   chan struct{}
	full     error
}

func (s *slowStore) Enqueue(_ context.Context, c registry.Command) (wait func() (registry.Result, error), err error) {
	s.enqueued <- c
	if s.full != nil {
		return nil, s.full
	}
	return func() (registry.Result, error) {
		<-s.commit
		return registry.Result{Index: c.AdvanceTick.Elapsed}, nil
	}, nil
}

// TestProposalsAreOnTheirWayTogether: no command waits for the outcome of the one
// before it, and the outcomes are told in the order of the commands.
func TestProposalsAreOnTheirWayTogether(t *testing.T) {
	f := newFixture(t)
	a := f.still()
	const many = 20
	store := &slowStore{memoryStore: f.store, enqueued: make(chan registry.Command, many), commit: make(chan struct{})}
	a.config.Store = store
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); a.propose(ctx) }()
	for n := range uint64(many) {
		a.submit(proposal{command: registry.Command{ID: a.commandID(), AdvanceTick: &registry.AdvanceTick{Elapsed: n + 1}}})
	}
	for range many { // or the test hangs: nothing is committed yet
		<-store.enqueued
	}
	close(store.commit)
	for n := range uint64(many) {
		if got := (<-a.events).(outcome); got.err != nil || got.result.Index != n+1 {
			t.Errorf("outcome %d is that of command %d, %v", n+1, got.result.Index, got.err)
		}
	}
	cancel()
	<-ended
}

// TestRefusedByTheLog: what the log does not take has an outcome like any other.
func TestRefusedByTheLog(t *testing.T) {
	f := newFixture(t)
	a := f.still()
	a.config.Store = &slowStore{memoryStore: f.store, enqueued: make(chan registry.Command, 1), full: consensus.ErrNotLeader}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); a.propose(ctx) }()
	a.submit(proposal{command: registry.Command{ID: a.commandID(), AdvanceTick: &registry.AdvanceTick{Elapsed: 1}}})
	if got := (<-a.events).(outcome); !errors.Is(got.err, consensus.ErrNotLeader) {
		t.Errorf("outcome %+v", got)
	}
	cancel()
	<-ended
}
