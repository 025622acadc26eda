// Package pages holds tables that a loop changes row by row while others read
// them without a lock. A Table is the loop's; a View is how the table was at one
// moment, and never changes. Rows stand in small pages: a change copies the one page
// that it is in, and nothing else of the table, however large that is.
//
// It owns how rows are found, copied and given back. It does not own what the rows
// point to, and does not publish: who has a View stores it where readers look.
package pages

import (
	"iter"
	"math/bits"
)

// Key is the name of a row: a number, or an address of 128 bits.
type Key struct{ High, Low uint64 }

// Number is the key of an SPI or an IPv4 address.
func Number(n uint32) Key { return Key{Low: uint64(n)} }

// hash spreads keys that lie side by side, as addresses of a pool do, over all
// pages. Who chooses the keys of a table is trusted with it: its own node does.
func (k Key) hash() uint64 {
	hi, lo := bits.Mul64(k.Low^bits.RotateLeft64(k.High, 32)^0x9e3779b97f4a7c15, 0xd6e8feb86659fd93)
	return hi ^ lo
}

type row[V any] struct {
	key   Key
	value V
}

// page is rows whose keys are hashed alike. It is copied, never changed.
type page[V any] []row[V]

// shelf is pages side by side.
type shelf[V any] struct {
	pages   [shelfLen]page[V]
	edition uint64 // of the table when it was made
}

// View is a table at one moment. The zero value is empty. It is safe for concurrent use.
type View[V any] struct {
	shelves []*shelf[V]
	shift   uint8 // of a hash, to the number of its page
	count   int
}

// Get finds a row; the zero value where there is none.
func (v *View[V]) Get(k Key) (value V) {
	if v.count == 0 {
		return value
	}
	at := k.hash() >> (v.shift & 63)
	rows := v.shelves[at/shelfLen].pages[at%shelfLen]
	for i := range rows {
		if rows[i].key == k {
			return rows[i].value
		}
	}
	return value
}

// Len is how many rows there are.
func (v *View[V]) Len() int { return v.count }

// All is every row, in no order.
func (v *View[V]) All() iter.Seq2[Key, V] {
	return func(yield func(Key, V) bool) {
		for _, s := range v.shelves {
			for _, p := range s.pages {
				for i := range p {
					if !yield(p[i].key, p[i].value) {
						return
					}
				}
			}
		}
	}
}

// Numbered is a view of given rows.
func Numbered[V any](rows map[uint32]V) View[V] {
	var t Table[V]
	for n, v := range rows {
		t.Put(Number(n), v)
	}
	return t.View()
}
