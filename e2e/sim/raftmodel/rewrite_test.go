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
	w.cluster.Rewrite(lags, func(s *registry.State) { s.Cluster.Incarnation = 2 })
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
	if w.replicas[last].incarnation() != 2 {
		t.Error("who has the longer log keeps it")
	}
	for _, wrong := range w.wrong {
		t.Error(wrong)
	}
}

// TestRewrittenBesideOthersThatRanOn: the others were only cut off. However they went on, they
// decide nothing once all hear each other again, and who was rewritten leads on in its term.
func TestRewrittenBesideOthersThatRanOn(t *testing.T) {
	for seed := range uint64(30) {
		w := grown(seed, 3, 0)
		left := int(seed % 3)
		one, other := (left+1)%3, (left+2)%3
		w.apart(true)
		w.cluster.Crash(left)
		w.cluster.Rewrite(left, func(s *registry.State) { s.Cluster.Incarnation = 2 })
		w.open(left)
		if together := seed%2 == 1; together {
			w.cut[one][other], w.cut[other][one] = false, false
		}
		w.run(3 * time.Second)
		w.propose()
		w.run(3 * time.Second)
		term := w.replicas[left].disk.term
		w.apart(false)
		w.run(5 * time.Second)
		for i, r := range w.replicas {
			if leads := r.role == leader; leads != (i == left) || r.givenUp() == leads {
				t.Fatalf("seed %d: server %d, where %d was rewritten, leads %v, is given up %v", seed, i, left, leads, r.givenUp())
			}
		}
		if now := w.replicas[left].disk.term; now != term {
			t.Errorf("seed %d: term %d after %d", seed, now, term)
		}
		for _, i := range []int{one, other} {
			begun(w.replicas[left].AddStandby, w.cluster.config.Servers[i])
			w.run(time.Second)
		}
		w.run(3 * time.Second)
		w.sameStates(t)
	}
}

// apart cuts every server off from each other one, or heals that.
func (w *world) apart(cut bool) {
	for from := range w.cut {
		for to := range w.cut[from] {
			w.cut[from][to] = cut && from != to
		}
	}
}
