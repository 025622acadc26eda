package slots

import (
	"math"
	"time"
)

// Who cannot have a slot soon is told when to come again, rather than kept: a crowd that
// waits gives up, comes anew, and makes of each login several handshakes that come to
// nothing. One source's claims never move others' appointments by more than one of its own.

// Appoint says in how long a connection whose hello is whole had better come again, because
// its turn would not come soon; 0: it may queue. Only who understands that is asked for.
func (a *Slots) Appoint(t *Ticket, now time.Duration) (in time.Duration) {
	if t.stage != silent {
		return 0
	}
	p, s := &a.pools[t.class], t.source
	if p.told.keeps(s.key, now, p.eachStep()) {
		return 0
	}
	each := p.step()
	wait := time.Duration(p.ahead(s)) * each
	if wait <= Soon {
		return 0
	}
	return p.appoint(s.key, now+wait, each, now)
}

// Postpone says in how long one had better come again whose turn did not come in time.
func (a *Slots) Postpone(t *Ticket, now time.Duration) (in time.Duration) {
	if t.stage == gone || t.source == nil {
		return 0
	}
	p := &a.pools[t.class]
	each := p.step()
	return p.appoint(t.source.key, now+time.Duration(p.waiting)*each, each, now)
}

// ahead is how many have their turns before the newest of a source: of each entrance and of
// each source one, whatever they have waiting.
func (p *pool) ahead(s *source) int {
	doors, sources := p.ring.Len(), s.door.ring.Len()
	if s.door.turn == nil {
		doors++
	}
	if s.turn == nil {
		sources++
	}
	return min(p.waiting, doors*sources)
}

// step is how long one turn takes, as it was measured lately.
func (p *pool) step() time.Duration {
	return time.Duration(float64(time.Second) / p.speed.a(p.rule))
}

// eachStep is that of one source at most.
func (p *pool) eachStep() time.Duration {
	if p.rule.EachRate == 0 {
		return 0
	}
	return time.Duration(float64(time.Second) / p.rule.EachRate)
}

// appoint gives the next free moment that is not before earliest. Beyond the horizon none is
// promised: those come in the second half of it, spread.
func (p *pool) appoint(key Source, earliest, each, now time.Duration) time.Duration {
	due, noted := p.told.further(key, now, p.eachStep())
	if !noted {
		due = max(p.booked, earliest) + each
	}
	if most := p.horizon(now); due-now > most {
		p.spread = math.Mod(p.spread+0.309, 0.5) // golden: any few in a row are far apart
		return most/2 + time.Duration(p.spread*float64(most))
	}
	if !noted {
		p.booked = due
	}
	p.told.note(key, due, now)
	return max(due-now, each)
}

// horizon is how far away a moment is promised at most: as long as there has been a crowd, Near
// at least. Who has gone with an appointment cannot be called sooner, and the pace by which it was
// given may be a guess, or that of an election. A host that was slow for a while and is not any
// more has nothing to do for no longer than that, or than Near.
func (p *pool) horizon(now time.Duration) time.Duration {
	if p.booked < now {
		p.crowd = now // nobody has an appointment any more
	}
	return min(max(now-p.crowd, Near), MaxWait)
}

// speed is how many turns a second there were lately, while others waited. What was done once
// can be done again, so more counts at once; less may be an election, or a host that others use
// for a moment, and counts by Slower. Who is told to come too early comes once more, which costs
// little; until somebody comes who was told too late the host has nothing to do.
type speed struct {
	since   time.Duration
	turns   int
	rate    float64 // 0: not measured yet
	pressed bool    // somebody waited all the time since
}

// look is called at each round of turns.
func (s *speed) look(now time.Duration, waiting bool, r Rule) {
	if past := now - s.since; past >= SpeedOver {
		had, is := s.a(r), float64(s.turns)/past.Seconds()
		if r.Rate > 0 {
			is = min(is, r.Rate) // a burst is no pace
		}
		switch {
		case s.pressed:
			had = max(is, had-Slower*(had-is), SlowestRate)
		case had < r.Expected:
			had = min(had*Faster, r.Expected) // nobody had to wait for his turn
		}
		*s = speed{since: now, rate: had, pressed: waiting}
	}
	s.pressed = s.pressed && waiting
}

// a second's turns.
func (s *speed) a(r Rule) float64 {
	if s.rate > 0 {
		return s.rate
	}
	return max(r.Expected, SlowestRate)
}

// bookings are the appointments of sources, in two generations of MaxSources at most; none
// is kept for longer than both last.
type bookings struct {
	young, old map[Source]booking
	since      time.Duration // of the young generation
}

// booking is that of one source: its connections may come from the first moment on, and have
// appointments until the last.
type booking struct{ from, until time.Duration }

func (b *bookings) find(key Source, now time.Duration) (have booking, ok bool) {
	if have, ok = b.young[key]; !ok {
		have, ok = b.old[key]
	}
	return have, ok && now-have.until < MaxWait
}

// keeps reports whether a source comes by appointment; one is used up then.
func (b *bookings) keeps(key Source, now, each time.Duration) bool {
	have, ok := b.find(key, now)
	if !ok || now < have.from {
		return false
	}
	if have.from += max(each, 1); have.from > have.until {
		delete(b.young, key)
		delete(b.old, key)
		return true
	}
	b.put(key, have, now)
	return true
}

// further is the next appointment of a source that has one, at its own pace.
func (b *bookings) further(key Source, now, each time.Duration) (due time.Duration, ok bool) {
	have, ok := b.find(key, now)
	return max(have.until, now) + each, ok
}

func (b *bookings) note(key Source, due, now time.Duration) {
	have, ok := b.find(key, now)
	if !ok {
		have.from = due
	}
	have.until = due
	b.put(key, have, now)
}

func (b *bookings) put(key Source, have booking, now time.Duration) {
	if _, known := b.young[key]; !known && (len(b.young) >= MaxSources || now-b.since > MaxWait) {
		b.old, b.young, b.since = b.young, nil, now
	}
	if b.young == nil {
		b.young = make(map[Source]booking)
	}
	b.young[key] = have
}
