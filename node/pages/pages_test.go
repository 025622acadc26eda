package pages

import (
	"maps"
	"math/rand/v2"
	"net/netip"
	"testing"
)

// TestAgainstMaps: after any changes a table has the rows of a map that changed alike,
// and a view those of the moment at which it was taken, whatever came later.
func TestAgainstMaps(t *testing.T) {
	for seed := range uint64(20) {
		random := rand.New(rand.NewPCG(seed, 1))
		var table Table[int]
		model, then := map[Key]int{}, map[Key]int{}
		view := table.View()
		for step := range 3000 {
			k := Key{uint64(random.IntN(2)), uint64(random.IntN(1500))}
			if grows := step < 1500; grows == (random.IntN(4) > 0) {
				table.Put(k, step)
				model[k] = step
			} else {
				table.Delete(k)
				delete(model, k)
			}
			if random.IntN(50) == 0 {
				same(t, view, then)
				view, then = table.View(), maps.Clone(model)
			}
		}
		same(t, view, then)
		for k := range model {
			table.Delete(k)
		}
		same(t, view, then)
		if table.Len() != 0 || len(table.now.shelves) != 0 {
			t.Fatalf("%d rows and %d shelves are left of an empty table", table.Len(), len(table.now.shelves))
		}
	}
}

func same(t *testing.T, v View[int], want map[Key]int) {
	t.Helper()
	if got := maps.Collect(v.All()); !maps.Equal(got, want) || v.Len() != len(want) {
		t.Fatalf("%d rows, said to be %d, want %d", len(got), v.Len(), len(want))
	}
	for k, n := range want {
		if v.Get(k) != n {
			t.Fatalf("%v: %d, want %d", k, v.Get(k), n)
		}
	}
	if v.Get(Key{9, 9}) != 0 {
		t.Fatal("finds what is not there")
	}
}

// TestChangeCopiesOnePage: one row costs one page, however many there are, also while
// there are views; the pages of all others are shared.
func TestChangeCopiesOnePage(t *testing.T) {
	for _, count := range []uint32{1, 1000, 50_000} {
		var table Table[int]
		for n := range count {
			table.Put(Number(n), 1)
		}
		before := table.View()
		made := table.Copied()
		table.Put(Number(0), 2)
		table.Delete(Number(count - 1))
		if n := table.Copied() - made; n != 2 {
			t.Errorf("%d rows: two changes copied %d pages", count, n)
		}
		own := 0
		for i, s := range table.now.shelves {
			if s != before.shelves[i] {
				own++
			}
		}
		if own > 2 {
			t.Errorf("%d rows: two changes copied %d of %d shelves", count, own, len(before.shelves))
		}
		if rows := float64(count) / float64(shelfLen*len(before.shelves)); rows > fullest {
			t.Errorf("%d rows: %f in a page", count, rows)
		}
	}
}

// TestAddresses: families are apart, also where an address of one is dressed as the
// other's.
func TestAddresses(t *testing.T) {
	rows := map[netip.Addr]string{}
	for _, a := range []string{"10.77.0.1", "::ffff:10.77.0.1", "::a4d:1", "fd77::1", "0.0.0.0", "::"} {
		rows[netip.MustParseAddr(a)] = a
	}
	view := At(rows)
	for a, want := range rows {
		if got := view.Get(a); got != want {
			t.Errorf("%s: %q", a, got)
		}
	}
	if got := maps.Collect(view.All()); !maps.Equal(got, rows) || view.Len() != len(rows) {
		t.Errorf("%v", got)
	}
	var table AddressTable[int]
	a, b := netip.MustParseAddr("10.77.0.1"), netip.MustParseAddr("fd77::1")
	table.Put(a, 1)
	table.Put(b, 2)
	before := table.View()
	table.Delete(a)
	if table.Get(a) != 0 || table.Get(b) != 2 || before.Get(a) != 1 || table.Len() != 1 || table.Copied() != 3 {
		t.Errorf("%d %d %d, %d rows, %d pages copied", table.Get(a), table.Get(b), before.Get(a), table.Len(), table.Copied())
	}
}

// TestPoolIsSpread: keys side by side do not crowd a page.
func TestPoolIsSpread(t *testing.T) {
	for name, key := range map[string]func(uint32) Key{
		"a pool":        func(n uint32) Key { return Number(10<<24 | n) },
		"a prefix":      func(n uint32) Key { return Key{0xfd77 << 48, uint64(n)} },
		"many prefixes": func(n uint32) Key { return Key{0xfd77<<48 | uint64(n), 1} },
		"a node's SPIs": func(n uint32) Key { return Number(7<<20 | n) },
	} {
		var table Table[int]
		for n := range uint32(20_000) {
			table.Put(key(n), 1)
		}
		most := 0
		for _, s := range table.now.shelves {
			for _, p := range s.pages {
				most = max(most, len(p))
			}
		}
		if most > 5*fullest {
			t.Errorf("%s: %d rows in one page", name, most)
		}
	}
}
