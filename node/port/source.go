package port

import (
	"net/netip"
	"time"
)

// sources holds one token bucket per source. Its memory is bounded by two
// generations of MaxSources: when the young one is full it becomes the old
// one, and a source seen again moves over. Owned by the port's lock.
type sources struct {
	young, old map[netip.Prefix]bucket
}

type bucket struct {
	tokens float64
	at     time.Time
}

// take reports whether one more connection of the source is allowed.
func (s *sources) take(source netip.Addr, now time.Time) bool {
	key := sourceOf(source)
	b := s.load(key, now)
	ok := b.tokens >= 1
	if ok {
		b.tokens--
	}
	s.store(key, b)
	return ok
}

// refund gives the token of a connection back.
func (s *sources) refund(source netip.Addr, now time.Time) {
	key := sourceOf(source)
	b := s.load(key, now)
	b.tokens = min(b.tokens+1, SourceBurst)
	s.store(key, b)
}

func (s *sources) load(key netip.Prefix, now time.Time) bucket {
	b, ok := s.young[key]
	if !ok {
		b, ok = s.old[key]
	}
	if !ok {
		return bucket{tokens: SourceBurst, at: now}
	}
	if gone := now.Sub(b.at).Seconds(); gone > 0 {
		b.tokens = min(b.tokens+gone*SourceRate, SourceBurst)
		b.at = now
	}
	return b
}

func (s *sources) store(key netip.Prefix, b bucket) {
	if _, known := s.young[key]; !known && len(s.young) >= MaxSources {
		s.old, s.young = s.young, nil
	}
	if s.young == nil {
		s.young = make(map[netip.Prefix]bucket)
	}
	s.young[key] = b
}

// sourceOf is the address of an IPv4 host, and the /64 of an IPv6 one, who
// has all of it. An address that is none shares the zero prefix.
func sourceOf(a netip.Addr) netip.Prefix {
	bits := 64
	if a.Is4() {
		bits = 32
	}
	p, err := a.WithZone("").Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}
