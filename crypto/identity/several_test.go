package identity

import (
	"slices"
	"testing"
)

// TestSeveral: a list of nodes is what it was made of.
func TestSeveral(t *testing.T) {
	a, b, c := NodeID{1}, NodeID{2}, NodeID{3}
	for _, ids := range [][]NodeID{{}, {a}, {b, a}} {
		m := SeveralOf(ids)
		if got := m.All(); !slices.Equal(got, ids) {
			t.Errorf("%v became %v", ids, got)
		}
		for at, id := range ids {
			if m.Index(id) != at {
				t.Errorf("%v is at %d of %v", id.Short(), m.Index(id), ids)
			}
		}
		for _, others := range [][]NodeID{{}, {a}, {b}, {b, a}, {a, b}, {b, a, c}} {
			if m.Are(others) != slices.Equal(ids, others) {
				t.Errorf("%v are %v: %t", ids, others, m.Are(others))
			}
		}
		if m.Index(c) != -1 {
			t.Errorf("%v is among %v", c.Short(), ids)
		}
	}
}
