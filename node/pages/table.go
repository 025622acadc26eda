package pages

import (
	"math/bits"
	"slices"
)

// Table is rows that change. The zero value is empty. It is owned by one goroutine.
type Table[V any] struct {
	now     View[V]
	edition uint64 // shelves of this one are in no view yet
	shared  bool   // so are not now.shelves themselves
	copied  uint64
}

// Get finds a row; the zero value where there is none.
func (t *Table[V]) Get(k Key) V { return t.now.Get(k) }

// Len is how many rows there are.
func (t *Table[V]) Len() int { return t.now.count }

// Copied is how many pages were copied so far: what all changes have cost.
func (t *Table[V]) Copied() uint64 { return t.copied }

// View is the table as it is now. What changes later is not in it.
func (t *Table[V]) View() View[V] {
	t.edition++
	t.shared = true
	return t.now
}

// Put gives a row its value, and makes it where there is none.
func (t *Table[V]) Put(k Key, value V) {
	if t.now.count >= fullest*shelfLen*len(t.now.shelves) {
		t.resize(max(2*len(t.now.shelves), 1))
	}
	p := t.page(k)
	t.copied++
	if i := p.find(k); i >= 0 {
		*p = slices.Clone(*p)
		(*p)[i].value = value
		return
	}
	*p = append((*p)[:len(*p):len(*p)], row[V]{k, value})
	t.now.count++
}

// Delete takes a row away.
func (t *Table[V]) Delete(k Key) {
	if t.now.count == 0 {
		return
	}
	p := t.page(k)
	i := p.find(k)
	if i < 0 {
		return
	}
	t.copied++
	*p = slices.Concat((*p)[:i], (*p)[i+1:])
	if t.now.count--; t.now.count < emptiest*shelfLen*len(t.now.shelves) {
		t.resize(len(t.now.shelves) / 2)
	}
}

func (p page[V]) find(k Key) int {
	return slices.IndexFunc(p, func(r row[V]) bool { return r.key == k })
}

// page is the one of a key, where it may be replaced: in a shelf that no view has.
func (t *Table[V]) page(k Key) *page[V] {
	if t.shared {
		t.now.shelves, t.shared = slices.Clone(t.now.shelves), false
	}
	at := k.hash() >> t.now.shift
	s := &t.now.shelves[at/shelfLen]
	if (*s).edition != t.edition {
		*s = &shelf[V]{pages: (*s).pages, edition: t.edition}
	}
	return &(*s).pages[at%shelfLen]
}

// resize puts all rows on so many shelves, a power of two; none while there are no rows.
func (t *Table[V]) resize(count int) {
	old := t.now
	if count == 0 && old.count > 0 {
		return
	}
	t.now, t.shared = View[V]{shelves: make([]*shelf[V], count), shift: uint8(64 - bits.Len(uint(count*shelfLen-1)))}, false
	for i := range t.now.shelves {
		t.now.shelves[i] = &shelf[V]{edition: t.edition}
	}
	for k, v := range old.All() {
		p := t.page(k)
		*p = append(*p, row[V]{k, v})
		t.now.count++
	}
}
