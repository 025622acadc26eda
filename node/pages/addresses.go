package pages

import (
	"encoding/binary"
	"iter"
	"net/netip"
)

// Addresses is a view of a table whose rows have an IP address for their name.
// Each family has its own pages: IPv4, which most packets are, is found by one
// number, and an IPv4 address in IPv6 clothes is another one.
type Addresses[V any] struct{ four, six View[V] }

// Get finds a row; the zero value where there is none.
func (a *Addresses[V]) Get(at netip.Addr) V {
	if at.Is4() {
		return a.four.Get(key4(at))
	}
	return a.six.Get(key6(at))
}

// Len is how many rows there are.
func (a *Addresses[V]) Len() int { return a.four.count + a.six.count }

// All is every row, in no order.
func (a *Addresses[V]) All() iter.Seq2[netip.Addr, V] {
	return func(yield func(netip.Addr, V) bool) {
		for k, v := range a.four.All() {
			if !yield(netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, uint32(k.Low)))), v) {
				return
			}
		}
		for k, v := range a.six.All() {
			b := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, k.High), k.Low)
			if !yield(netip.AddrFrom16([16]byte(b)), v) {
				return
			}
		}
	}
}

func key4(a netip.Addr) Key {
	b := a.As4()
	return Number(binary.BigEndian.Uint32(b[:]))
}

func key6(a netip.Addr) Key {
	b := a.As16()
	return Key{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

// At is a view of given rows.
func At[V any](rows map[netip.Addr]V) Addresses[V] {
	var t AddressTable[V]
	for a, v := range rows {
		t.Put(a, v)
	}
	return t.View()
}

// AddressTable is rows by address that change. The zero value is empty. It is owned
// by one goroutine.
type AddressTable[V any] struct{ four, six Table[V] }

// Get finds a row; the zero value where there is none.
func (t *AddressTable[V]) Get(at netip.Addr) V {
	family, k := t.of(at)
	return family.Get(k)
}

// Put gives a row its value, and makes it where there is none.
func (t *AddressTable[V]) Put(at netip.Addr, value V) {
	family, k := t.of(at)
	family.Put(k, value)
}

// Delete takes a row away.
func (t *AddressTable[V]) Delete(at netip.Addr) {
	family, k := t.of(at)
	family.Delete(k)
}

func (t *AddressTable[V]) of(at netip.Addr) (*Table[V], Key) {
	if at.Is4() {
		return &t.four, key4(at)
	}
	return &t.six, key6(at)
}

// View is the table as it is now.
func (t *AddressTable[V]) View() Addresses[V] { return Addresses[V]{t.four.View(), t.six.View()} }

// Len is how many rows there are.
func (t *AddressTable[V]) Len() int { return t.four.Len() + t.six.Len() }

// Copied is how many pages were copied so far.
func (t *AddressTable[V]) Copied() uint64 { return t.four.Copied() + t.six.Copied() }
