//go:build !e2e && !race

package sim

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshcrypt/meshcrypt/e2e/sim/check"
	"github.com/meshcrypt/meshcrypt/e2e/sim/plan"
)

// roles are who does what, by number: of the first part.
type roles struct{ leads, egress, second int }

func (w *World) roles() roles {
	p := w.watch.judge.Registry().Parts[0]
	return roles{w.watch.leader().number - 1, w.memberOf(p.Egress).number - 1, w.memberOf(p.Second).number - 1}
}

// TestOwnersThatDoNotHearEachOther: a second does not hear its egress for long, and a third
// node hears both. Whoever leads, one of the two has the address all the time.
func TestOwnersThatDoNotHearEachOther(t *testing.T) {
	led := make(map[string]bool)
	for name, cut := range map[string]func(egress, second plan.Who) plan.Fault{
		"apart": func(egress, second plan.Who) plan.Fault {
			return plan.Fault{Kind: plan.Part, Who: egress, Other: second}
		},
		"egress unheard": func(egress, second plan.Who) plan.Fault {
			return plan.Fault{Kind: plan.PartOneWay, Who: egress, Other: second}
		},
		"second unheard": func(egress, second plan.Who) plan.Fault {
			return plan.Fault{Kind: plan.PartOneWay, Who: second, Other: egress}
		},
	} {
		for before := range 3 {
			for _, meanwhile := range []bool{false, true} {
				t.Run(fmt.Sprint(name, before, meanwhile), func(t *testing.T) {
					led[fmt.Sprint(name, ", ", ownersApart(t, before, meanwhile, cut))] = true
				})
			}
		}
		for _, who := range []string{"egress", "second", "third"} {
			if !led[name+", "+who] {
				t.Errorf("%s: the %s never led: %v", name, who, led)
			}
		}
	}
}

// ownersApart is one run in which the leader changed so often before the cut, and
// meanwhile; it says who led in the end.
func ownersApart(t *testing.T, before int, meanwhile bool, cut func(egress, second plan.Who) plan.Fault) (led string) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.found(3, 0)
		defer w.end()
		w.cluster.Bootstrap(0)
		for i, n := range w.mesh.members {
			n.start(i == 0)
		}
		w.after(startWithin-time.Second, w.watch.look)
		w.until(startWithin)
		for range before {
			w.depose()
		}
		r := w.roles()
		f := cut(plan.Who{Number: r.egress}, plan.Who{Number: r.second})
		f.Lasts = 8 * time.Second
		end := w.now() + f.Lasts
		w.follow(plan.Plan{Faults: []plan.Fault{f}})
		two := w.twoUntil(w.now() + 2*time.Second)
		if meanwhile {
			w.depose()
		}
		switch w.roles().leads {
		case r.egress:
			led = "egress"
		case r.second:
			led = "second"
		default:
			led = "third"
		}
		two = max(two, w.twoUntil(end))
		w.oneOwner("apart")
		two = max(two, w.twoUntil(end+4*time.Second))
		w.oneOwner("together")
		t.Logf("the %s leads: two owners for %v", led, two)
		if two > check.TwoOwners { // the judge has more patience where a way is dead in one direction
			t.Errorf("two owners for %v", two)
		}
		if t.Failed() || *traced {
			for _, line := range w.trace.lines {
				t.Log(line)
			}
		}
	})
	return led
}

// twoUntil lets time pass, and is for how long two nodes had the first part's address at a stretch.
func (w *World) twoUntil(end time.Duration) (longest time.Duration) {
	var since time.Duration
	for now := w.now(); now < end; now = w.now() {
		owners := 0
		for _, n := range w.mesh.members {
			if n.daemon.holding[parts[0].Inside] {
				owners++
			}
		}
		if owners < 2 {
			since = now
		}
		longest = max(longest, now-since)
		w.until(now + 10*time.Millisecond)
	}
	return longest
}

// depose has another node lead: the clock of the one that does is wrong.
func (w *World) depose() {
	undo := w.do(plan.Fault{Kind: plan.Clock, Who: plan.Who{Number: w.roles().leads}, Step: -time.Hour})
	w.until(w.now() + 2*time.Second)
	undo()
	w.until(w.now() + time.Second)
}

// oneOwner fails the test unless one node answers for each moving address, and nobody did
// beside it for long.
func (w *World) oneOwner(when string) {
	w.Helper()
	for _, v := range w.watch.judge.Violations() {
		w.Errorf("%s: %v", when, v)
	}
	for _, p := range parts {
		owners := 0
		for _, n := range w.mesh.members {
			if n.daemon.holding[p.Inside] {
				owners++
			}
		}
		if owners != 1 {
			w.Errorf("%s: %v has %d owners", when, p.Inside, owners)
		}
	}
}
