package slots

import "time"

// buckets holds one token bucket per source, also while nothing of it is there.
// Memory is bounded by two generations of MaxSources: when the young one is full
// it becomes the old one, and a source seen again moves over.
type buckets struct {
	young, old map[Source]bucket
}

type bucket struct {
	tokens float64
	at     time.Duration
}

func (b *buckets) has(key Source, now time.Duration, r Rule) bool {
	return b.load(key, now, r).tokens >= 1
}

func (b *buckets) take(key Source, now time.Duration, r Rule) {
	have := b.load(key, now, r)
	have.tokens = max(0, have.tokens-1)
	b.store(key, have)
}

func (b *buckets) refund(key Source, now time.Duration, r Rule) {
	have := b.load(key, now, r)
	have.tokens = min(have.tokens+1, r.EachBurst)
	b.store(key, have)
}

func (b *buckets) load(key Source, now time.Duration, r Rule) bucket {
	have, ok := b.young[key]
	if !ok {
		have, ok = b.old[key]
	}
	if !ok {
		return bucket{tokens: r.EachBurst, at: now}
	}
	if gone := (now - have.at).Seconds(); gone > 0 {
		have.tokens = min(have.tokens+gone*r.EachRate, r.EachBurst)
		have.at = now
	}
	return have
}

func (b *buckets) store(key Source, have bucket) {
	if _, known := b.young[key]; !known && len(b.young) >= MaxSources {
		b.old, b.young = b.young, nil
	}
	if b.young == nil {
		b.young = make(map[Source]bucket)
	}
	b.young[key] = have
}
