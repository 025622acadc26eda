package gateway

import (
	"net/netip"
	"time"
)

// Prefix lengths that share one bucket: whoever owns one address of them can
// usually send from all.
const (
	prefixIPv4 = 24
	prefixIPv6 = 48
)

// bucket is the rows a source prefix may still make.
type bucket struct {
	tokens float64
	filled int64 // clock
}

func (b *bucket) fill(now int64) {
	b.tokens += float64(now-b.filled) * PrefixRate / float64(time.Second)
	b.tokens = min(b.tokens, PrefixBurst)
	b.filled = now
}

// allow takes one token of a prefix. When there are too many
// prefixes any of them starts afresh: a flood from many sources is bounded by
// the number of rows, not here.
func (m *making) allow(prefix netip.Prefix, now int64) bool {
	b := m.buckets[prefix]
	if b == nil {
		for other := range m.buckets {
			if len(m.buckets) < MaxPrefixes {
				break
			}
			delete(m.buckets, other)
		}
		b = &bucket{tokens: PrefixBurst, filled: now}
		m.buckets[prefix] = b
	}
	b.fill(now)
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// sourcePrefix is what a source shares its bucket with.
func sourcePrefix(a netip.Addr) (netip.Prefix, bool) {
	length := prefixIPv6
	if a.Is4() {
		length = prefixIPv4
	}
	prefix, err := a.WithZone("").Prefix(length)
	return prefix, err == nil
}

// rest forgets full buckets, and nodes of which no port was used for long.
func (m *making) rest(now int64) {
	for prefix, b := range m.buckets {
		if b.fill(now); b.tokens >= PrefixBurst {
			delete(m.buckets, prefix)
		}
	}
	for ix, l := range m.lanes {
		if l.atRest(now) {
			delete(m.lanes, ix)
		}
	}
	m.buckets, m.held, m.lanes = shrunk(m.buckets), shrunk(m.held), shrunk(m.lanes)
}
