package consensus

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
)

func (c *cluster) rewriteConfig(n int) RewriteConfig {
	return RewriteConfig{Dir: c.dirs[n], ID: id(n), Log: slog.New(slog.DiscardHandler)}
}

// TestRewriteMakesASoleVoter: one of three goes on alone from all it has, with
// what was changed; nobody of the others is asked.
func TestRewriteMakesASoleVoter(t *testing.T) {
	c := newCluster(t, 3, nil)
	c.must(c.leader(), tick(5))
	c.agree(5)
	for n := range c.nodes {
		c.stop(n)
	}
	err := Rewrite(c.rewriteConfig(2), func(s *registry.State) (*registry.State, error) {
		if s.Tick != 5 {
			t.Errorf("the replica has %d ticks", s.Tick)
		}
		s.Tick = 7
		return s, nil
	})
	c.ok(err)
	c.start(2, false)
	alone := c.leader()
	if servers := alone.Servers(); len(servers) != 1 || servers[0].ID != id(2) || !servers[0].Voter {
		t.Fatalf("servers %v", servers)
	}
	c.must(alone, tick(3))
	if got := ticks(alone); got != 10 {
		t.Errorf("%d ticks, want 10", got)
	}
}

// TestRewriteRefused leaves the replica as it was.
func TestRewriteRefused(t *testing.T) {
	c := newCluster(t, 1, nil)
	c.must(c.leader(), tick(5))
	c.stop(0)
	no := errors.New("no")
	if err := Rewrite(c.rewriteConfig(0), func(*registry.State) (*registry.State, error) { return nil, no }); !errors.Is(err, no) {
		t.Errorf("a refused rewrite: %v", err)
	}
	c.start(0, false)
	r := c.leader()
	ctx, cancel := context.WithTimeout(c.ctx(), 30*time.Second)
	defer cancel()
	c.ok(r.Barrier(ctx))
	if got := ticks(r); got != 5 {
		t.Errorf("%d ticks, want 5", got)
	}
}

// TestRewriteNeedsALog, unless it starts one.
func TestRewriteNeedsALog(t *testing.T) {
	config := RewriteConfig{Dir: t.TempDir(), ID: id(0), Log: slog.New(slog.DiscardHandler)}
	same := func(s *registry.State) (*registry.State, error) { return s, nil }
	if err := Rewrite(config, same); !errors.Is(err, ErrNoLog) {
		t.Errorf("without a log: %v", err)
	}
	config.Empty = true
	if err := Rewrite(config, same); err != nil {
		t.Errorf("from nothing: %v", err)
	}
}

// TestAllStopAndStart: three that were all stopped find themselves again, with
// all they had.
func TestAllStopAndStart(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, nil)
	c.must(c.leader(), tick(5))
	c.agree(5)
	for n := range c.nodes {
		c.stop(n)
	}
	for n := range c.nodes {
		c.start(n, false)
	}
	c.must(c.leader(), tick(1))
	c.agree(6)
}
