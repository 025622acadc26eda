package node

import (
	"strings"
	"testing"
)

// TestLeaderWithoutDescriptors: another voter leads, every node says which host lacks what,
// and it is not elected again while that lasts. With nobody else it leads on.
func TestLeaderWithoutDescriptors(t *testing.T) {
	t.Parallel()
	w := threeVoters(t)
	first := w.members[0]
	w.until("the first leads", func() bool { return w.arbiter() == first })
	first.scarce.Store(true)
	w.until("another one leads", func() bool { a := w.arbiter(); return a != nil && a != first })
	w.says(first, "the daemon has all the files open that it may", "prlimit")
	for _, other := range w.members[1:] {
		w.says(other, "on n1 the daemon has all the files open that it may", "prlimit")
	}
	second := w.arbiter()
	for _, m := range w.members {
		m.scarce.Store(true)
	}
	w.says(first, "on "+second.self.Name+" the daemon has all the files open that it may")
	said := func() int {
		return w.journal.count("this node can open no more connections: it turns clients away, and leaves the lead to others")
	}
	w.until("all three say it", func() bool { return said() >= 3 }) // the third looks a little later
	if n := said(); n != 3 {
		t.Errorf("said %d times by three nodes", n)
	}
	for _, m := range w.members {
		m.scarce.Store(false)
	}
	w.until("nobody lacks anything", func() bool {
		for _, m := range w.members {
			if report, ok := m.agent.Report(w.Context()); !ok || len(m.lackingNodes(report.Heard)) > 0 {
				return false
			}
		}
		return true
	})
}

// TestFullTableOfFlows: said before it is full, and not where there is none.
func TestFullTableOfFlows(t *testing.T) {
	for _, c := range []struct {
		flows, most int
		full        bool
	}{{0, 0, false}, {94_999, 100_000, false}, {95_000, 100_000, true}, {100_000, 100_000, true}} {
		if says := fullTable(c.flows, c.most); (len(says) > 0) != c.full || c.full && !strings.Contains(says[0], "nf_conntrack_max=200000") {
			t.Errorf("%d of %d: %q", c.flows, c.most, says)
		}
	}
}
