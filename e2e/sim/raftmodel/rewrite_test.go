package raftmodel

import (
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
)

// TestRewritten: who lags goes on alone from what it has, and one that ran on with a longer log
// of the history that was given up takes its state when it is added.
func TestRewritten(t *testing.T) {
	w := grown(11, 3, 0)
	last := w.leader()
	lags, gone := (last+1)%3, (last+2)%3
	w.cluster.Crash(lags)
	for range 5 {
		w.propose()
		w.run(200 * time.Millisecond)
	}
	w.cluster.Crash(gone)
	w.run(2 * time.Second)
	if w.leader() != nobody {
		t.Fatal("one of three leads")
	}
	w.cluster.Rewrite(lags, func(s *registry.State) { s.Cluster.Incarnation = 1 })
	end := w.cluster.disks[lags].end().index
	if w.highest <= end {
		t.Fatal("it does not lag")
	}
	for ; w.highest > end; w.highest-- {
		delete(w.committed, w.highest)
	}
	w.inOrder[last] = 0 // its state is another's
	w.open(lags)
	w.run(3 * time.Second)
	if w.leader() != lags {
		t.Fatal("it does not lead its own log")
	}
	begun(w.replicas[lags].AddStandby, w.cluster.config.Servers[last])
	w.run(time.Second)
	w.open(gone)
	begun(w.replicas[lags].AddStandby, w.cluster.config.Servers[gone])
	w.run(time.Second)
	w.propose()
	w.run(5 * time.Second)
	w.sameStates(t)
	if w.replicas[last].incarnation() != 1 {
		t.Error("who has the longer log keeps it")
	}
	for _, wrong := range w.wrong {
		t.Error(wrong)
	}
}
