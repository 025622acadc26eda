package gateway

import (
	"net/netip"
	"slices"
	"time"
)

// lane is one node's use of the ports.
type lane struct {
	used   int // ports 0..used-1 have or had a row of this node
	rows   int
	held   map[netip.Prefix]holding
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

func (l *lane) add(r *row) {
	l.rows++
	l.held[r.prefix] = append(l.held[r.prefix], r)
	l.ofSPI[r.spi] = append(l.ofSPI[r.spi], r)
	l.oldest = append(l.oldest, r)
}

func (l *lane) remove(r *row, now int64) {
	l.rows--
	without(l.held, r.prefix, r)
	without(l.ofSPI, r.spi, r)
	rest := resting{r.port, now}
	if r.confirmed() {
		l.answered = append(l.answered, rest)
		return
	}
	l.unused = append(l.unused, rest)
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

// holding is the rows that one prefix has of one node, in the order of their making.
type holding []*row

// of is those that were made by one SPI's packets.
func (h holding) of(spi uint32) (some holding) {
	for _, r := range h {
		if r.spi == spi {
			some = append(some, r)
		}
	}
	return some
}

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
		return int(min(max(x.answered.Load()-y.answered.Load(), -1), 1))
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
	*q = kept
}

func (r *row) evictable() bool { return !r.gone && !r.confirmed() }
