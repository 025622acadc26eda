package sorted

import (
	"cmp"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

func (m Map[K, V]) check(t *testing.T, e *entry[K, V]) {
	t.Helper()
	if e == nil {
		return
	}
	if e.size != e.left.len()+e.right.len()+1 {
		t.Fatalf("a tree of %d and %d says %d", e.left.len(), e.right.len(), e.size)
	}
	if l, r := e.left.weight(), e.right.weight(); e.size > 2 && (l > delta*r || r > delta*l) {
		t.Fatalf("out of balance: %d and %d", l, r)
	}
	m.check(t, e.left)
	m.check(t, e.right)
}

// TestAgainstGoMap: a sorted map says what Go's says, in order and in balance.
func TestAgainstGoMap(t *testing.T) {
	chance := rand.New(rand.NewPCG(1, 2))
	m, want := New[int, int](cmp.Compare[int]), map[int]int{}
	for i := range 20_000 {
		key := chance.IntN(600)
		if chance.IntN(2) == 0 || i < 500 {
			m.Put(key, i)
			want[key] = i
		} else {
			m.Delete(key)
			delete(want, key)
		}
		if v, ok := m.Find(key); v != want[key] || ok != (v != 0 || m.Has(key)) || m.Len() != len(want) {
			t.Fatalf("step %d: %d is %d, %v; %d of %d keys", i, key, v, ok, m.Len(), len(want))
		}
		if i%97 != 0 {
			continue
		}
		m.check(t, m.root)
		keys := slices.Sorted(maps.Keys(want))
		if got := slices.Collect(keysOf(m.All())); !slices.Equal(got, keys) {
			t.Fatalf("step %d: keys %v, want %v", i, got, keys)
		}
		at, _ := slices.BinarySearch(keys, key)
		if got := slices.Collect(keysOf(m.From(key))); !slices.Equal(got, keys[at:]) || m.Rank(key) != at {
			t.Fatalf("step %d: from %d on %v, want %v; rank %d", i, key, got, keys[at:], m.Rank(key))
		}
	}
}

func keysOf(all func(func(int, int) bool)) func(func(int) bool) {
	return func(yield func(int) bool) { all(func(k, _ int) bool { return yield(k) }) }
}

// TestCopyStandsStill: what becomes of a map its copies do not see.
func TestCopyStandsStill(t *testing.T) {
	m := New[int, int](cmp.Compare[int])
	for i := range 100 {
		m.Put(i, i)
	}
	was := m
	for i := range 100 {
		m.Put(i, -1)
		m.Put(1000+i, -1)
		m.Delete(i)
	}
	n := 0
	for k, v := range was.All() {
		if k != n || v != n {
			t.Fatalf("%d is %d", k, v)
		}
		n++
	}
	if n != 100 || was.Len() != 100 {
		t.Fatalf("%d entries", n)
	}
}

// TestStops: a reader may leave early.
func TestStops(t *testing.T) {
	m := New[int, int](cmp.Compare[int])
	for i := range 50 {
		m.Put(i, i)
	}
	seen := 0
	for range m.From(10) {
		if seen++; seen == 3 {
			break
		}
	}
	if seen != 3 {
		t.Fatalf("saw %d", seen)
	}
}

// TestPutMakesOnlyTheWayNew: what a change costs grows with the depth.
func TestPutMakesOnlyTheWayNew(t *testing.T) {
	m := New[int, int](cmp.Compare[int])
	for i := range 1 << 16 {
		m.Put(i, i)
	}
	key := 0
	made := testing.AllocsPerRun(200, func() { key += 7; m.Put(key, 0); m.Put(1<<20+key, 0); m.Delete(key) })
	if made > 3*28 {
		t.Fatalf("%.0f entries made for three changes of %d", made, m.Len())
	}
}
