package arbiter

import (
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
)

// TestNoTimeIsLost: all of a long wait is committed, in steps that the registry takes, and
// what became of a command nobody knows is neither lost nor counted twice.
func TestNoTimeIsLost(t *testing.T) {
	f := newFixture(t)
	a := f.still()
	a.tickedAt = a.config.Now()
	turn := func() {
		a.advanceTime(a.config.Now())
		f.decide(a)
	}
	passes := func(what string, wait time.Duration) {
		t.Helper()
		before := f.store.state.Tick
		f.now.Add(int64(wait))
		for range 10 {
			turn()
		}
		if got := f.store.state.Tick - before; got != registry.Tick(wait.Seconds()) {
			t.Errorf("%s: of %v %d s have passed", what, wait, got)
		}
	}
	passes("a weekend", 60*time.Hour)
	passes("a moment", AdvanceSeconds*time.Second)
	for name, fate := range map[string]loss{"lost": lost, "answer lost": deaf} {
		left := 3
		f.store.lose = func(registry.Command) loss {
			if left--; left >= 0 {
				return fate
			}
			return arrives
		}
		passes(name, 30*time.Hour)
	}
	for range MaxProposals {
		a.submit(proposal{})
	}
	before := f.store.state.Tick
	f.now.Add(int64(time.Minute))
	a.advanceTime(a.config.Now()) // there is no room for it
	proposed(a)
	if turn(); f.store.state.Tick-before != 60 {
		t.Errorf("after it could not be proposed %d s of 60 have passed", f.store.state.Tick-before)
	}
}

// TestTimeIsOneCommandAtATime: a log that takes long gets no queue of them.
func TestTimeIsOneCommandAtATime(t *testing.T) {
	f := newFixture(t)
	a := f.still()
	for range 10 {
		f.now.Add(int64(time.Minute))
		a.advanceTime(a.config.Now())
	}
	if n := len(proposed(a)); n != 1 {
		t.Errorf("%d commands are on their way", n)
	}
}
