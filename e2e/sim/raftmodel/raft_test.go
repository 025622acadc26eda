package raftmodel

import (
	"bytes"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
)

const seeds = 150

// grown is a world of so many voters that lead each other, and some standbys.
func grown(seed uint64, voters, standbys int) *world {
	w := newWorld(seed, voters+standbys)
	w.cluster.Bootstrap(0)
	for i := range voters + standbys {
		w.open(i)
	}
	w.run(3 * time.Second)
	for i := 1; i < voters+standbys; i++ {
		leads := w.replicas[w.leader()]
		begun(leads.AddStandby, w.cluster.config.Servers[i])
		w.run(time.Second)
		if i < voters {
			begun(leads.AddVoter, w.cluster.config.Servers[i])
			w.run(time.Second)
		}
	}
	return w
}

// disturb does one thing to the world.
func (w *world) disturb() {
	one, other := w.random.IntN(len(w.replicas)), w.random.IntN(len(w.replicas))
	running := w.cluster.running[one] != nil
	switch w.random.IntN(10) {
	case 0:
		w.cut[one][other] = true
	case 1:
		w.cut[one][other], w.cut[other][one] = true, true
	case 2, 3:
		for _, row := range w.cut {
			clear(row)
		}
	case 4:
		w.cluster.Crash(one)
	case 5, 6:
		if !running {
			w.open(one)
		}
	case 7:
		w.cluster.Stop(one)
	case 8:
		w.cluster.Continue(one)
	case 9:
		w.loss = float64(w.random.IntN(4)) / 10
		w.slowest = []time.Duration{time.Millisecond, 20 * time.Millisecond, 300 * time.Millisecond}[w.random.IntN(3)]
	}
}

// storm disturbs a world for so long, with proposals all the while, and heals it.
func (w *world) storm(d time.Duration) {
	for end := w.now + d; w.now < end; {
		if w.random.IntN(3) == 0 {
			w.disturb()
		}
		w.propose()
		w.run(time.Duration(1+w.random.IntN(200)) * time.Millisecond)
	}
	w.heal()
}

func (w *world) heal() {
	for _, row := range w.cut {
		clear(row)
	}
	w.loss, w.slowest = 0, 5*time.Millisecond
	for i := range w.replicas {
		w.cluster.Continue(i)
		if w.cluster.running[i] == nil {
			w.open(i)
		}
	}
}

// TestSafeAndLive is Raft's promise under loss, delay, cuts, stops and crashes: nothing
// that was committed is ever another command, and the log goes on when all is well again.
func TestSafeAndLive(t *testing.T) {
	committed := 0
	for seed := range uint64(seeds) {
		w := grown(seed, 3, int(seed%3))
		w.storm(20 * time.Second)
		w.run(5 * time.Second)
		before := len(w.done)
		w.propose()
		w.run(time.Second)
		if w.leader() == nobody || len(w.done) == before {
			t.Errorf("seed %d: the log does not go on after all is well", seed)
		}
		w.sameStates(t)
		for _, line := range w.wrong {
			t.Error(line)
		}
		committed += len(w.done)
	}
	if committed < seeds*10 {
		t.Errorf("%d commands were committed in all: the storms let nothing happen", committed)
	}
}

// sameStates holds that all replicas have the same registry.
func (w *world) sameStates(t *testing.T) {
	t.Helper()
	var first []byte
	for i, r := range w.replicas {
		var state bytes.Buffer
		r.View(func(s *registry.State) {
			if err := registry.WriteSnapshot(&state, s); err != nil {
				t.Fatal(err)
			}
		})
		if first == nil {
			first = state.Bytes()
		}
		if !bytes.Equal(first, state.Bytes()) {
			t.Errorf("seed %d: server %d has another registry than server 0", w.seed, i)
		}
	}
}

// TestSameSeedSameTrace: a failure that cannot be seen again is worth little.
func TestSameSeedSameTrace(t *testing.T) {
	for seed := range uint64(20) {
		one, again := grown(seed, 3, 1), grown(seed, 3, 1)
		one.storm(10 * time.Second)
		again.storm(10 * time.Second)
		if one.hash() != again.hash() {
			t.Errorf("seed %d: two runs differ", seed)
		}
	}
	if grown(1, 3, 0).hash() == grown(2, 3, 0).hash() {
		t.Error("seeds change nothing")
	}
}

// TestPlantedBugsAreSeen: what the checks above do not see, they do not hold.
func TestPlantedBugsAreSeen(t *testing.T) {
	for name, flaw := range map[string]flaws{
		"a vote twice in a term":          {votesTwice: true},
		"an older term's entry by counts": {countsOlder: true, oneByOne: true},
	} {
		seen := false
		for seed := uint64(0); seed < 2_000 && !seen; seed++ {
			w := grown(seed, 3, 0)
			w.cluster.flaws = flaw
			w.storm(20 * time.Second)
			w.run(3 * time.Second)
			seen = len(w.wrong) > 0
			if seen {
				t.Logf("%s: %s", name, w.wrong[0])
				w = grown(seed, 3, 0)
				w.cluster.flaws = flaws{oneByOne: flaw.oneByOne}
				w.storm(20 * time.Second)
				if len(w.wrong) > 0 {
					t.Errorf("%s: seen without it, too: %s", name, w.wrong[0])
				}
			}
		}
		if !seen {
			t.Errorf("%s: nothing noticed it", name)
		}
	}
}
