package consensus

import (
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
)

// TestKept: a replica that nobody leads has applied nothing since its start, and its log has
// all that was committed.
func TestKept(t *testing.T) {
	c := newCluster(t, 3, nil)
	c.must(c.leader(), tick(7))
	c.until("all have it", func() bool {
		for _, r := range c.nodes {
			if ticks(r) != 7 {
				return false
			}
		}
		return true
	})
	for n := range c.nodes {
		c.stop(n)
	}
	c.start(0, false)
	r := c.nodes[0]
	state, err := r.Kept()
	if err != nil || ticks(r) != 0 || state.Tick != 7 {
		t.Errorf("applied are %d ticks, the log has %+v (%v)", ticks(r), state, err)
	}
}

// TestKeptBehindASnapshot: where a recovery's snapshot ends with an entry that is no command,
// as after an election, nothing of the log is missing.
func TestKeptBehindASnapshot(t *testing.T) {
	c := newCluster(t, 1, nil)
	c.must(c.leader(), tick(1))
	c.stop(0)
	c.start(0, false)
	c.leader()
	c.stop(0)
	c.ok(Rewrite(c.rewriteConfig(0), func(s *registry.State) (*registry.State, error) { return s, nil }))
	c.start(0, false)
	c.must(c.leader(), tick(2))
	c.stop(0)
	config := c.listening(0)
	config.Heartbeat, config.Election = time.Hour, time.Hour // it applies nothing
	r, err := Open(config)
	c.ok(err)
	c.nodes[0] = r
	if state, err := r.Kept(); err != nil || ticks(r) != 1 || state.Tick != 3 {
		t.Errorf("applied are %d ticks, the log has %+v (%v)", ticks(r), state, err)
	}
}
