package consensus

import (
	"errors"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// TestRefusers: who refuses a snapshot is offered it again later each time, is told of once,
// and is another case when its log ends elsewhere.
func TestRefusers(t *testing.T) {
	r, now := newRefusers(), time.Now()
	r.ends("a", 7)
	if !r.due("a", now) {
		t.Error("nothing was refused, and it has to wait")
	}
	for i, wait := range []time.Duration{1, 2, 4, 8, 10, 10} {
		wait *= time.Minute
		if first := r.refused("a", now); first != (i == 0) {
			t.Errorf("refusal %d is told: %v", i, first)
		}
		if r.ends("a", 7); r.due("a", now.Add(wait-1)) || !r.due("a", now.Add(wait)) || !r.due("b", now) {
			t.Errorf("refusal %d waits otherwise than %v", i, wait)
		}
		now = now.Add(wait)
	}
	r.refused("a", now)
	if r.ends("a", 0); !r.due("a", now) || !r.refused("a", now) {
		t.Error("one that was made anew has to wait")
	}
	for i := range MaxStreams + 2 { // I10
		r.ends(raft.ServerID(rune(i)), 1)
	}
	if len(r.all) > MaxStreams {
		t.Errorf("%d are remembered", len(r.all))
	}
}

// TestSnapshotIsNotOfferedForEver: a voter that keeps committed changes gets the snapshot of
// a leader that lacks them once, not every few seconds.
func TestSnapshotIsNotOfferedForEver(t *testing.T) {
	t.Parallel()
	var told heard
	c, leader, _ := ledTwice(t, &told, shortLogs, func(c *cluster) { c.network.isolate(id(0)) })
	for range 40 {
		c.must(leader, tick(5))
	}
	c.ok(leader.Snapshot(c.ctx()))
	holder := c.nodes[0]
	_ = holder.file.keep(Known{Incarnation: 9, Term: 1, Index: 1})
	holder.floor.fork = &Known{Incarnation: 9, Term: 1, Index: 1}
	c.network.heal(id(0))
	of := func() (u refuser) {
		r := c.leader().refusers
		r.mu.Lock()
		defer r.mu.Unlock()
		return *r.of(serverID(id(0)))
	}
	c.until("it refused one", func() bool { return of().wait > 0 })
	c.silence(20)
	if of().wait != RefusedFirst || !errors.Is(holder.Disk(), ErrFork) {
		t.Errorf("it was offered again: %+v, %v", of(), holder.Disk())
	}
}
