package arbiter

import (
	"context"
	"errors"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

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
// before it, what comes meanwhile waits for all of them and goes together too, and the
// outcomes are told in the order of the commands.
func TestProposalsAreOnTheirWayTogether(t *testing.T) {
	f := newFixture(t)
	a := f.still()
	const many = 20
	store := &slowStore{memoryStore: f.store, enqueued: make(chan registry.Command, 2*many), commit: make(chan struct{})}
	a.config.Store = store
	said := uint64(0)
	say := func() {
		for range many {
			said++
			a.submit(proposal{command: registry.Command{ID: a.commandID(), AdvanceTick: &registry.AdvanceTick{Elapsed: said}}})
		}
	}
	say()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); a.propose(ctx) }()
	for n := uint64(1); n <= 2*many; n++ {
		if n == 1 || n == many+1 {
			for range many { // or the test hangs: nothing of these is committed yet
				<-store.enqueued
			}
		}
		if n == 1 {
			say()
		}
		if n <= many && len(store.enqueued) > 0 {
			t.Fatalf("%d commands are enqueued while command %d and those that went with it are written", len(store.enqueued), n)
		}
		store.commit <- struct{}{}
		if got := (<-a.events).(outcome); got.err != nil || got.result.Index != n {
			t.Errorf("outcome %d is that of command %d, %v", n, got.result.Index, got.err)
		}
	}
	cancel()
	<-ended
}

// TestRushMakesFewRounds: what comes faster than RoundsRate gathers, however fast the disks
// are; what comes alone begins at once.
func TestRushMakesFewRounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const commands, apart = 300, time.Millisecond
		store := &countingStore{}
		a := &Arbiter{config: Config{Store: store}, proposals: make(chan proposal, commands), events: make(chan event, commands)}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); a.propose(ctx) }()
		begun := time.Now()
		go func() {
			for range commands {
				a.submit(proposal{})
				<-time.After(apart)
			}
		}()
		for n := range commands {
			<-a.events
			if took := time.Since(begun); n == 0 && took > writing {
				t.Errorf("the first command took %v, and there was nothing to wait for", took)
			}
		}
		took, rounds := time.Since(begun), store.rounds.Load()
		if most := RoundsFree + int64(RoundsRate*took.Seconds()) + 1; rounds > most {
			t.Errorf("%d rounds of %d commands in %v, at most %d", rounds, commands, took, most)
		}
		cancel()
		<-ended
	})
}

// writing is how long the disk of a countingStore takes for what is enqueued together.
const writing = 5 * time.Millisecond

// countingStore counts how often its disk writes.
type countingStore struct {
	consensus.Store
	flying, rounds atomic.Int64
}

func (s *countingStore) Enqueue(context.Context, registry.Command) (wait func() (registry.Result, error), err error) {
	if s.flying.Add(1) == 1 {
		s.rounds.Add(1)
	}
	written := time.Now().Add(writing)
	return func() (registry.Result, error) {
		defer s.flying.Add(-1)
		<-time.After(time.Until(written))
		return registry.Result{}, nil
	}, nil
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

// TestOutcomesAreToldAtOnce: a round is longer than the log's queue, so with a slow disk the
// rest of it waits to be enqueued. Who was written already does not wait for that.
func TestOutcomesAreToldAtOnce(t *testing.T) {
	f := newFixture(t)
	a := f.still()
	store := &slowStore{memoryStore: f.store, enqueued: make(chan registry.Command), commit: make(chan struct{}, 2)}
	a.config.Store = store
	for range 2 {
		a.submit(proposal{command: registry.Command{ID: a.commandID(), AdvanceTick: &registry.AdvanceTick{Elapsed: 1}}})
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); a.propose(ctx) }()
	<-store.enqueued
	store.commit <- struct{}{}
	select {
	case <-a.events:
	case <-time.After(10 * time.Second):
		t.Error("the first outcome waits until the second command is enqueued")
	}
	<-store.enqueued
	store.commit <- struct{}{}
	<-a.events
	cancel()
	<-ended
}

// TestRoundOfOneMakesLittle: at rest a round is one command, and there are some each second.
func TestRoundOfOneMakesLittle(t *testing.T) {
	const rounds, most = 50, 4 << 10
	f := newFixture(t)
	a := f.still()
	store := &slowStore{memoryStore: f.store, enqueued: make(chan registry.Command, rounds), commit: make(chan struct{}, rounds)}
	a.config.Store = store
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); a.propose(ctx) }()
	var before, after runtime.MemStats
	for n := range rounds {
		if n == 1 {
			runtime.ReadMemStats(&before)
		}
		store.commit <- struct{}{}
		a.submit(proposal{command: registry.Command{ID: a.commandID(), AdvanceTick: &registry.AdvanceTick{Elapsed: 1}}})
		<-a.events
	}
	runtime.ReadMemStats(&after)
	if each := (after.TotalAlloc - before.TotalAlloc) / (rounds - 1); each > most {
		t.Errorf("%d bytes are made for a round, at most %d", each, most)
	}
	cancel()
	<-ended
}
