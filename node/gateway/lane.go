package gateway

import (
	"cmp"
	"net/netip"
	"slices"
	"time"
)

// lane is one node's use of the ports.
type lane struct {
	used   int // ports 0..used-1 have or had a row of this node
	rows   int
	held   map[netip.Prefix]holding // row.place is where
	ofSA   map[sa]holding
	ofSPI  map[uint32]holding // by the SPI that made them, from wherever
	oldest queue
	// unused and answered are ports without a row, by whether the node answered
	// the row before: in that case it may still do so. Longest resting first.
	unused, answered []resting
}

// resting is a port between two rows of one node.
type resting struct {
	port  *port
	since int64 // clock
}

// sa is what one prefix does in the name of one SPI.
type sa struct {
	prefix netip.Prefix
	spi    uint32
}

func newLane() *lane {
	return &lane{held: map[netip.Prefix]holding{}, ofSA: map[sa]holding{}, ofSPI: map[uint32]holding{}}
}

func (l *lane) add(r *row) {
	l.rows++
	r.place = len(l.held[r.prefix])
	l.held[r.prefix] = append(l.held[r.prefix], r)
	of := sa{r.prefix, r.spi}
	l.ofSA[of] = append(l.ofSA[of], r)
	l.ofSPI[r.spi] = append(l.ofSPI[r.spi], r)
	l.oldest = append(l.oldest, r)
}

func (l *lane) remove(r *row, now int64) {
	l.rows--
	l.unhold(r)
	without(l.ofSA, sa{r.prefix, r.spi}, r)
	without(l.ofSPI, r.spi, r)
	rest := resting{r.port, now}
	if r.confirmed() {
		l.answered = append(l.answered, rest)
		return
	}
	l.unused = append(l.unused, rest)
}

// unhold removes a row from its prefix's, which may be thousands: the last takes
// its place.
func (l *lane) unhold(r *row) {
	all := l.held[r.prefix]
	last := len(all) - 1
	all[r.place], all[last].place = all[last], r.place
	all[last] = nil
	if l.held[r.prefix] = all[:last]; last == 0 {
		delete(l.held, r.prefix)
	}
}

// without removes a row from what one key holds.
func without[K comparable](all map[K]holding, of K, r *row) {
	kept := all[of]
	if at := slices.Index(kept, r); at >= 0 {
		kept = slices.Delete(kept, at, at+1)
	}
	if all[of] = kept; len(kept) == 0 {
		delete(all, of)
	}
}

// rested takes a port that has rested for so long; nil if there is none.
func (l *lane) rested(unused, answered time.Duration, now int64) *port {
	for _, at := range []struct {
		ports *[]resting
		rest  time.Duration
	}{{&l.unused, unused}, {&l.answered, answered}} {
		if len(*at.ports) == 0 || now-(*at.ports)[0].since < int64(at.rest) {
			continue
		}
		p := (*at.ports)[0].port
		*at.ports = (*at.ports)[1:]
		return p
	}
	return nil
}

// holding is some of a node's rows: those of a prefix, an SPI or both.
type holding []*row

// confirmed is those that the node answered, or with false those that wait for it.
func (h holding) confirmed(is bool) (some holding) {
	for _, r := range h {
		if r.confirmed() == is {
			some = append(some, r)
		}
	}
	return some
}

// oldest is what goes first: the first of those that wait, else the one whose
// last answer is the longest ago.
func (h holding) oldest() *row {
	return slices.MinFunc(h, func(x, y *row) int {
		return cmp.Or(cmp.Compare(x.answered.Load(), y.answered.Load()), cmp.Compare(x.made, y.made))
	})
}

// queue is rows in the order of their making. Rows that were confirmed or
// went since are skipped, and swept out by Tick.
type queue []*row

// pop takes the oldest row that may be evicted; nil if there is none.
func (q *queue) pop() *row {
	for len(*q) > 0 {
		r := (*q)[0]
		(*q)[0] = nil
		*q = (*q)[1:]
		if r.evictable() {
			return r
		}
	}
	return nil
}

func (q *queue) sweep() {
	kept := (*q)[:0]
	for _, r := range *q {
		if r.evictable() {
			kept = append(kept, r)
		}
	}
	clear((*q)[len(kept):])
	if *q = kept; len(kept) == 0 {
		*q = nil
	}
}

func (r *row) evictable() bool { return !r.gone && !r.confirmed() }
