// Package sorted is a map in the order of its keys of which a copy costs nothing:
// copies share what they have in common, and a change makes new only the way from
// the root to what it changes. A reader of a copy needs no lock.
//
// The package owns the tree and its balance. It does not own the values: what is
// put in must not be changed any more, only replaced.
package sorted

import "iter"

// Map is a weight-balanced tree. The zero Map has no order: make one with New. To
// copy the struct is to copy the map.
type Map[K, V any] struct {
	compare func(a, b K) int
	root    *entry[K, V]
}

// entry is one key and the tree below it. It never changes once it is in a map.
type entry[K, V any] struct {
	value       V
	key         K
	left, right *entry[K, V]
	size        int // entries of this tree
}

// A tree is in balance while neither side weighs more than delta times the other;
// ratio decides between a single and a double rotation. Hirai and Yamamoto,
// "Balancing weight-balanced trees" (2011), prove this pair.
const (
	delta = 3
	ratio = 2
)

// New is an empty map ordered by compare.
func New[K, V any](compare func(a, b K) int) Map[K, V] { return Map[K, V]{compare: compare} }

// Len is how many keys there are.
func (m Map[K, V]) Len() int { return m.root.len() }

// Get is a key's value; the zero value if the key is absent.
func (m Map[K, V]) Get(key K) V {
	v, _ := m.Find(key)
	return v
}

// Has reports whether a key is present.
func (m Map[K, V]) Has(key K) bool {
	_, ok := m.Find(key)
	return ok
}

// Find is a key's value, and whether the key is present.
func (m Map[K, V]) Find(key K) (value V, ok bool) {
	for e := m.root; e != nil; {
		switch c := m.compare(key, e.key); {
		case c < 0:
			e = e.left
		case c > 0:
			e = e.right
		default:
			return e.value, true
		}
	}
	return value, false
}

// Rank is how many keys come before one.
func (m Map[K, V]) Rank(key K) (n int) {
	for e := m.root; e != nil; {
		if m.compare(key, e.key) <= 0 {
			e = e.left
			continue
		}
		n += e.left.len() + 1
		e = e.right
	}
	return n
}

// All are the entries in order.
func (m Map[K, V]) All() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) { m.root.walk(yield) }
}

// From are the entries in order, from a key on.
func (m Map[K, V]) From(key K) iter.Seq2[K, V] {
	return func(yield func(K, V) bool) { m.from(m.root, key, yield) }
}

// Put gives a key a value.
func (m *Map[K, V]) Put(key K, value V) { m.root = m.put(m.root, key, value) }

// Delete takes a key out, if it is there.
func (m *Map[K, V]) Delete(key K) {
	if m.Has(key) {
		m.root = m.delete(m.root, key)
	}
}

func (m Map[K, V]) from(e *entry[K, V], key K, yield func(K, V) bool) bool {
	if e == nil {
		return true
	}
	if m.compare(key, e.key) > 0 {
		return m.from(e.right, key, yield)
	}
	return m.from(e.left, key, yield) && yield(e.key, e.value) && e.right.walk(yield)
}

func (m Map[K, V]) put(e *entry[K, V], key K, value V) *entry[K, V] {
	if e == nil {
		return join(key, value, nil, nil)
	}
	switch c := m.compare(key, e.key); {
	case c < 0:
		return balance(e, m.put(e.left, key, value), e.right)
	case c > 0:
		return balance(e, e.left, m.put(e.right, key, value))
	}
	return join(key, value, e.left, e.right)
}

func (m Map[K, V]) delete(e *entry[K, V], key K) *entry[K, V] {
	switch c := m.compare(key, e.key); {
	case c < 0:
		return balance(e, m.delete(e.left, key), e.right)
	case c > 0:
		return balance(e, e.left, m.delete(e.right, key))
	case e.left == nil:
		return e.right
	case e.right == nil:
		return e.left
	}
	next := e.right.first()
	return balance(next, e.left, m.delete(e.right, next.key))
}

func (e *entry[K, V]) len() int {
	if e == nil {
		return 0
	}
	return e.size
}

func (e *entry[K, V]) weight() int { return e.len() + 1 }

func (e *entry[K, V]) first() *entry[K, V] {
	for e.left != nil {
		e = e.left
	}
	return e
}

func (e *entry[K, V]) walk(yield func(K, V) bool) bool {
	return e == nil || e.left.walk(yield) && yield(e.key, e.value) && e.right.walk(yield)
}

func join[K, V any](key K, value V, left, right *entry[K, V]) *entry[K, V] {
	return &entry[K, V]{key: key, value: value, left: left, right: right, size: left.len() + right.len() + 1}
}

// balance is the tree of e's key between two others, one of which has changed by
// one entry.
func balance[K, V any](e, left, right *entry[K, V]) *entry[K, V] {
	switch {
	case left.len()+right.len() < 2:
	case right.weight() > delta*left.weight():
		return turnLeft(e, left, right)
	case left.weight() > delta*right.weight():
		return turnRight(e, left, right)
	}
	return join(e.key, e.value, left, right)
}

func turnLeft[K, V any](e, left, right *entry[K, V]) *entry[K, V] {
	if right.left.weight() < ratio*right.right.weight() {
		return join(right.key, right.value, join(e.key, e.value, left, right.left), right.right)
	}
	middle := right.left
	return join(middle.key, middle.value,
		join(e.key, e.value, left, middle.left), join(right.key, right.value, middle.right, right.right))
}

func turnRight[K, V any](e, left, right *entry[K, V]) *entry[K, V] {
	if left.right.weight() < ratio*left.left.weight() {
		return join(left.key, left.value, left.left, join(e.key, e.value, left.right, right))
	}
	middle := left.right
	return join(middle.key, middle.value,
		join(left.key, left.value, left.left, middle.left), join(e.key, e.value, middle.right, right))
}
