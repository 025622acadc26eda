//go:build e2e

package netns

import (
	"cmp"
	"fmt"
	"slices"
	"testing"
)

// egressKind is how the destination answers: by a route to the pool, to the
// mesh's own address, or as the host of an agent itself (the final mile).
type egressKind string

const (
	routed       egressKind = "routed"
	masquerading egressKind = "masquerade"
	local        egressKind = "local"
)

// row is one line of the matrix: a mesh, a client and a way between them. On
// every row the same traffic goes up and down.
type row struct {
	outer, inner families
	egress       egressKind
	agents, mtu  int
}

// The axes of the matrix.
var (
	axisOuter  = []families{ipv4, ipv6}
	axisInner  = []families{ipv4, ipv6}
	axisEgress = []egressKind{routed, masquerading, local}
	axisAgents = []int{1, 2, 3, 4}
	axisMTU    = []int{1280, 1500, 9000}
)

func (r row) String() string {
	return fmt.Sprintf("%s, %d agents, MTU %d", r.world(), r.agents, r.mtu)
}

// allRows is the whole matrix in the order in which worlds are built: a world
// stands for families and an egress kind, and grows by agents.
func allRows() (rows []row) {
	for _, outer := range axisOuter {
		for _, inner := range axisInner {
			for _, egress := range axisEgress {
				for _, agents := range axisAgents {
					for _, mtu := range axisMTU {
						rows = append(rows, row{outer, inner, egress, agents, mtu})
					}
				}
			}
		}
	}
	return rows
}

// world is what the rows of one mesh have in common.
func (r row) world() string { return fmt.Sprintf("%v in %v, %v", r.inner, r.outer, r.egress) }

// sameWorld is how many rows, from the first one on, one world serves.
func sameWorld(rows []row) (n int) {
	for n < len(rows) && rows[n].world() == rows[0].world() {
		n++
	}
	return n
}

// pair is two settings of one row.
type pair struct {
	axis, other int
	a, b        any
}

func (r row) pairs() (pairs []pair) {
	settings := []any{r.outer, r.inner, r.egress, r.agents, r.mtu}
	for i, a := range settings {
		for j, b := range settings[i+1:] {
			pairs = append(pairs, pair{i, i + 1 + j, a, b})
		}
	}
	return pairs
}

// coverPairs picks few rows in which every pair of settings of two axes meets:
// again and again the row with most pairs that were in none before. Faults of
// one setting, and of two together, show in it; the order of rows stays.
func coverPairs(rows []row) (picked []row) {
	seen := make(map[pair]bool)
	news := func(r row) (n int) {
		for _, p := range r.pairs() {
			if !seen[p] {
				n++
			}
		}
		return n
	}
	for {
		best := slices.MaxFunc(rows, func(a, b row) int { return cmp.Compare(news(a), news(b)) })
		if news(best) == 0 {
			break
		}
		picked = append(picked, best)
		for _, p := range best.pairs() {
			seen[p] = true
		}
	}
	slices.SortFunc(picked, func(a, b row) int { return cmp.Compare(slices.Index(rows, a), slices.Index(rows, b)) })
	return picked
}

// TestCoverPairs: every pair of every row is in a picked one, and they are few.
func TestCoverPairs(t *testing.T) {
	rows := allRows()
	if want := len(axisOuter) * len(axisInner) * len(axisEgress) * len(axisAgents) * len(axisMTU); len(rows) != want {
		t.Errorf("%d rows, want %d", len(rows), want)
	}
	picked := coverPairs(rows)
	covered := make(map[pair]bool)
	for _, r := range picked {
		for _, p := range r.pairs() {
			covered[p] = true
		}
	}
	for _, r := range rows {
		for _, p := range r.pairs() {
			if !covered[p] {
				t.Errorf("%v: %v with %v meet in no picked row", r, p.a, p.b)
			}
		}
	}
	if n := len(picked); n < len(axisAgents)*len(axisMTU) || n > 20 {
		t.Errorf("%d rows picked of %d", n, len(rows))
	}
}
