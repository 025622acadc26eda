//go:build !e2e && !race

package sim

import (
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshcrypt/meshcrypt/e2e/sim/check"
	"github.com/meshcrypt/meshcrypt/e2e/sim/plan"
	"github.com/meshcrypt/meshcrypt/node/control"
)

var (
	first   = flag.Uint64("first", 1, "the first seed")
	seeds   = flag.Uint64("seeds", 300, "how many")
	traced  = flag.Bool("traced", false, "print what was decided")
	journal = flag.Bool("journal", false, "print what all processes log")
)

// TestMain has one processor: goroutines that are ready at one instant run in their order
// then. So there are no races to detect, and the tests of e2e/netns are not kept waiting for
// what the others have run already.
func TestMain(m *testing.M) {
	flag.Usage = func() { fmt.Fprintln(os.Stderr, "make sim SEEDS=300 FIRST=1: whole numbers, from 1 on") }
	flag.Parse()
	runtime.GOMAXPROCS(1)
	os.Exit(m.Run())
}

// TestSeeds: whatever goes wrong, nothing happens that must not, and all is well again in
// time.
func TestSeeds(t *testing.T) {
	if *seeds == 0 || *first+*seeds < *first {
		t.Fatalf("%d runs from %d on are none: nothing is shown by that", *seeds, *first)
	}
	for seed := *first; seed < *first+*seeds; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := Run(t, seed, journalOf())
			show(t, seed, r)
		})
	}
}

func journalOf() io.Writer {
	if *journal {
		return os.Stderr
	}
	return nil
}

// show says what was wrong, and how to see it again.
func show(t *testing.T, seed uint64, r Result) {
	if *traced {
		for _, line := range r.Lines {
			t.Log(line)
		}
	}
	for _, v := range r.Violations {
		t.Error(v)
	}
	if len(r.Violations) > 0 {
		t.Logf("the plan:\n%v\nagain: make sim FIRST=%d SEEDS=1 TRACE=1", r.Plan, seed)
	}
}

// TestSameSeedSameRun runs each of 20 seeds twice.
func TestSameSeedSameRun(t *testing.T) {
	last := ""
	odd := oddSeeds(*first, 20, func(seed uint64) bool {
		same := true // also where -run leaves this seed out
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			one, other := Run(t, seed, nil), Run(t, seed, nil)
			if same = one.Hash == other.Hash; !same {
				t.Logf("seed %d is %s and %s", seed, one.Hash, other.Hash)
				difference(t, one.Lines, other.Lines)
			}
			if one.Hash == last {
				t.Errorf("seed %d is the one before", seed)
			}
			if last = one.Hash; !same {
				last = "" // the one to compare with is not known, and may be run once more
			}
		})
		return same
	})
	if len(odd) > 0 {
		t.Errorf("not the same run twice: seeds %v", odd)
	}
}

// oddSeeds are those whose pairs differ. One of all may differ once: a goroutine that has not ended
// after 10 ms, as on a host that is busy with other things, is preempted by the run-time and goes
// on after the others of its instant. So what an agent says and the end of its stream may
// change places in the instant in which an arbiter loses its term. Nothing here keeps the run-time
// from that. What the code leaves open differs again, or with other seeds too. So do pairs
// on a host that is busier still, which this cannot tell from it: it fails there.
func oddSeeds(first, n uint64, same func(seed uint64) bool) (odd []uint64) {
	for seed := first; seed < first+n; seed++ {
		if !same(seed) {
			odd = append(odd, seed)
		}
	}
	if len(odd) == 1 && same(odd[0]) {
		return nil
	}
	return odd
}

// TestOddSeeds: one pair in all may differ once, and none twice.
func TestOddSeeds(t *testing.T) {
	for _, c := range []struct {
		differ   map[uint64]int // how often each does
		odd      []uint64
		pairsRun int
	}{
		{map[uint64]int{}, nil, 20},
		{map[uint64]int{20: 1}, nil, 21},
		{map[uint64]int{7: 2}, []uint64{7}, 21},
		{map[uint64]int{1: 1, 7: 1}, []uint64{1, 7}, 20},
	} {
		pairs := 0
		odd := oddSeeds(1, 20, func(seed uint64) bool {
			pairs++
			c.differ[seed]--
			return c.differ[seed] < 0
		})
		if !slices.Equal(odd, c.odd) || pairs != c.pairsRun {
			t.Errorf("%v: odd are %v after %d pairs, want %v after %d", c.differ, odd, pairs, c.odd, c.pairsRun)
		}
	}
}

// difference shows where two traces part.
func difference(t *testing.T, one, other []string) {
	for i := range one {
		if i >= len(other) || one[i] != other[i] {
			for j := max(0, i-3); j < min(i+3, len(one), len(other)); j++ {
				t.Logf("%s\n  | %s", one[j], other[j])
			}
			return
		}
	}
}

// TestWhoComesIsOnItsWay: a client that was parked has a second to be connected, and no longer.
func TestWhoComesIsOnItsWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.found(3, 1)
		w.until(startWithin)
		v := w.mesh.visitors[0]
		looks := func(parked bool) string {
			a := &answers{statuses: map[*visitor]control.ClientStatus{v: {Parked: parked, Health: "ok"}}}
			w.watch.lookAtVisitors(a)
			return w.watch.controls(a)
		}
		const lacks = "c1 has no control connection"
		if why := looks(false); why != lacks {
			t.Errorf("it never parked, and lacking is %q", why)
		}
		looks(true)
		w.until(w.now() + time.Minute)
		if why := looks(false); why != "" {
			t.Errorf("it comes, and lacking is %q", why)
		}
		w.until(w.now() + check.CalledWithin + apart)
		if why := looks(false); why != lacks {
			t.Errorf("it came and is not there, and lacking is %q", why)
		}
	})
}

// TestJudgeOfOwners: two owners have as long whether they hear each other or not, for others
// pass on what they say.
func TestJudgeOfOwners(t *testing.T) {
	one, other := plan.Who{Number: 0}, plan.Who{Number: 1}
	for name, f := range map[string]plan.Fault{
		"apart":   {Kind: plan.Part, Who: one, Other: other},
		"one way": {Kind: plan.PartOneWay, Who: one, Other: other},
		"cut off": {Kind: plan.Isolate, Who: one},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, 1)
			w.found(3, 0)
			w.do(f)
			judge := w.watch.judge
			for _, n := range w.mesh.members[:2] {
				judge.Holds(time.Second, n.key.ID(), parts[0].Inside, true)
			}
			judge.Tick(time.Second + check.TwoOwners)
			if v := judge.Violations(); len(v) != 0 {
				t.Errorf("%s: too early: %v", name, v)
			}
			judge.Tick(time.Second + check.TwoOwners + 1)
			if v := judge.Violations(); len(v) != 1 {
				t.Errorf("%s: not after %v: %v", name, check.TwoOwners, v)
			}
		})
	}
}
