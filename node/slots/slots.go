// Package slots decides whose TLS handshake is done next, and whose not at
// all, when there are more than this host should do: fairly among sources, and
// never at the cost of those it knows. Events and time go in, decisions come out.
//
// It owns the tickets of connections from accept to proof, the slots, the
// budgets, and what it remembers of sources. It does not own connections, the
// clock, or who is known: node/port tells it.
//
// A connection is silent until its hello is whole, and costs no slot. Then it
// queues, gets a slot for its handshake, and is unproven until whoever serves it
// knows who it is. Silent, queued and unproven ones stand in a room that never
// refuses: when it is full, the oldest one of the source that has most has to go, of
// those of the entrance that has most.
// Slots go round among the entrances, this host's own and the nodes that pass
// connections on, within one among its sources, and within a source among its parts;
// the newest first, for the oldest may have given up. While others wait, a handshake
// that has had Grace can be overtaken.
package slots

import (
	"cmp"
	"container/heap"
	"container/list"
	"time"
)

// Class is a kind of connection that has slots, room and budget of its own.
type Class uint8

// The classes.
const (
	Stranger   Class = iota
	Known            // from the address of a client whose session lives, or who logged in
	Member           // from the address of a node
	Relay            // a client's connection that a node passes on
	RelayKnown       // the same, where that node knows the client
	classes
)

// Rule is what a class may have. Zero rates are no limit.
type Rule struct {
	Slots     int     // handshakes at once
	PerSource int     // of them, of one source
	Room      int     // connections that are silent, queued or unproven
	Rate      float64 // handshakes a second
	Burst     float64
	// Expected is how many a second there are taken to be until it was measured.
	Expected float64
	// EachRate and EachBurst are those of one source.
	EachRate, EachBurst float64
}

// stage is how far a connection is.
type stage uint8

const (
	silent stage = iota
	queued
	shaking
	unproven
	gone
)

// Ticket is one connection's place. Its zero value has entered nothing.
type Ticket struct {
	class  Class
	stage  stage
	source *source
	part   *part
	since  time.Duration // when its handshake began
	place  *list.Element // in its part's room
	held   *list.Element // among its source's handshakes
	order  *list.Element // among its class's handshakes
	queue  *list.Element // in its part's queue
	young  *list.Element // among those that are let in
}

// Class is whom the ticket counts among.
func (t *Ticket) Class() Class { return t.class }

// Slots is the state of one port. It is not safe for concurrent use.
type Slots struct {
	pools [classes]pool
	young list.List // tickets of clients with a slot or behind it, the newest last
}

// New makes an empty one.
func New(rules [classes]Rule) *Slots {
	a := &Slots{}
	for c := range a.pools {
		a.pools[c] = pool{rule: rules[c], sources: map[Source]*source{}, doors: map[string]*entrance{}, tokens: rules[c].Burst}
	}
	return a
}

// Enter gives a new connection its place in the room. Whoever has to go for it
// is returned, and is out already.
func (a *Slots) Enter(t *Ticket, class Class, from Source) (evicted *Ticket) {
	evicted = a.makeRoom(class)
	*t = Ticket{class: class}
	a.pools[class].put(t, from)
	return evicted
}

func (a *Slots) makeRoom(class Class) (evicted *Ticket) {
	if p := &a.pools[class]; p.room >= p.rule.Room {
		evicted = p.oldest()
		a.Leave(evicted)
	}
	return evicted
}

// Ready says that the hello is whole: the connection waits for a slot of class,
// which is the one it entered, or a part of it that only the hello could tell.
// Whoever has to go for it there is returned, and is out already.
func (a *Slots) Ready(t *Ticket, class Class) (evicted *Ticket) {
	if t.stage != silent {
		return nil
	}
	if class != t.class {
		evicted = a.makeRoom(class)
		from := t.source.key
		from.Part = t.part.key
		a.pools[t.class].take(t)
		*t = Ticket{class: class}
		a.pools[class].put(t, from)
	}
	t.stage = queued
	a.pools[class].enqueue(t)
	return evicted
}

// Next gives out the slots that can be given now. The overtaken have lost theirs
// and are out already. Of clients, strangers or known, no more than most are let in at once,
// from the slot until they are proved, or are not young any more.
func (a *Slots) Next(now time.Duration, most int) (granted, overtaken []*Ticket) {
	for e := a.young.Front(); e != nil && now-e.Value.(*Ticket).since >= Young; e = a.young.Front() {
		a.unlist(e.Value.(*Ticket))
	}
	for c := range a.pools {
		a.pools[c].refill(now)
	}
	one := func(c Class) bool {
		p := &a.pools[c]
		t, victim := p.next(now)
		if t == nil {
			return false
		}
		if victim != nil {
			a.Leave(victim)
			overtaken = append(overtaken, victim)
		}
		p.grant(t, now)
		granted = append(granted, t)
		if c <= Known {
			t.young = a.young.PushBack(t)
		}
		return true
	}
	for c := Member; c < classes; c++ {
		for one(c) {
		}
	}
	for more := true; more; {
		more = a.young.Len() < most && one(Known)
		more = a.young.Len() < most && one(Stranger) || more
	}
	for c := range a.pools {
		a.pools[c].speed.look(now, a.pools[c].waiting > 0, a.pools[c].rule)
	}
	return granted, overtaken
}

// unlist says that a client is let in no more.
func (a *Slots) unlist(t *Ticket) {
	if t.young != nil {
		a.young.Remove(t.young)
		t.young = nil
	}
}

// Waiting reports whether a connection waits for its slot.
func (a *Slots) Waiting() bool {
	for c := range a.pools {
		if a.pools[c].ring.Len() > 0 {
			return true
		}
	}
	return false
}

// Done says that the handshake is over: the slot is free, and the connection
// stands in the room until it is proved or leaves. Whoever has to go for it is
// returned, and is out already.
func (a *Slots) Done(t *Ticket) (evicted *Ticket) {
	if t.stage != shaking {
		return nil
	}
	evicted = a.makeRoom(t.class)
	p := &a.pools[t.class]
	p.unhold(t)
	t.stage = unproven
	p.enter(t)
	return evicted
}

// Prove says that somebody stands behind the connection: it counts no more, and
// its source gets back what its handshake cost.
func (a *Slots) Prove(t *Ticket, now time.Duration) {
	if t.stage == gone || t.source == nil {
		return
	}
	p, key := &a.pools[t.class], t.source.key
	if t.stage == shaking || t.stage == unproven {
		p.buckets.refund(key, now, p.rule)
	}
	a.Leave(t)
}

// Settle lets an unproven connection go on without a place in the room.
func (a *Slots) Settle(t *Ticket) {
	if t.stage == unproven {
		a.Leave(t)
	}
}

// Leave takes a connection out, whatever it was at.
func (a *Slots) Leave(t *Ticket) {
	if t == nil || t.stage == gone || t.source == nil {
		return
	}
	a.unlist(t)
	a.pools[t.class].take(t)
	t.stage = gone
	t.source, t.part = nil, nil // its connection may stay for days
}

// pool is the state of one class.
type pool struct {
	rule    Rule
	sources map[Source]*source
	doors   map[string]*entrance
	fullest fullest[*entrance]
	ring    list.List // of entrances that have somebody waiting; the next one first
	shaking list.List // tickets with a slot, the oldest first
	room    int
	waiting int
	tokens  float64
	at      time.Duration
	buckets buckets
	speed   speed
	told    bookings
	booked  time.Duration // the last appointment
	spread  float64       // of those who get none, in horizons
	crowd   time.Duration // since when somebody has an appointment
}

func (p *pool) put(t *Ticket, from Source) {
	partKey := from.Part
	from.Part = Source{}.Part
	s := p.sources[from]
	if s == nil {
		s = &source{key: from, door: p.doorOf(from.Via)}
		p.sources[from] = s
		s.door.sources++
		heap.Push(&s.door.fullest, s)
	}
	t.source, t.part = s, s.partOf(partKey)
	p.enter(t)
}

func (p *pool) doorOf(name string) *entrance {
	e := p.doors[name]
	if e == nil {
		e = &entrance{name: name}
		p.doors[name] = e
		heap.Push(&p.fullest, e)
	}
	return e
}

func (p *pool) enter(t *Ticket) {
	t.place = t.part.room.PushBack(t)
	p.count(t.source, 1)
}

// count notes how many more of a source are in the room.
func (p *pool) count(s *source, more int) {
	s.room += more
	s.door.room += more
	p.room += more
	heap.Fix(&s.door.fullest, s.index)
	heap.Fix(&p.fullest, s.door.index)
}

// take undoes put, and what came after it.
func (p *pool) take(t *Ticket) {
	p.unqueue(t)
	p.unhold(t)
	p.exit(t)
	s := t.source
	if t.part.idle() {
		s.drop(t.part)
	}
	if s.idle() {
		heap.Remove(&s.door.fullest, s.index)
		delete(p.sources, s.key)
		if s.door.sources--; s.door.sources == 0 {
			heap.Remove(&p.fullest, s.door.index)
			delete(p.doors, s.door.name)
		}
	}
}

func (p *pool) exit(t *Ticket) {
	if t.place == nil {
		return
	}
	t.part.room.Remove(t.place)
	t.place = nil
	p.count(t.source, -1)
}

func (p *pool) enqueue(t *Ticket) {
	s := t.source
	t.queue = t.part.queue.PushFront(t)
	s.waiting++
	p.waiting++
	if s.turn == nil {
		s.turn = s.door.ring.PushBack(s)
	}
	if s.door.turn == nil {
		s.door.turn = p.ring.PushBack(s.door)
	}
}

func (p *pool) unqueue(t *Ticket) {
	if t.queue == nil {
		return
	}
	s := t.source
	t.part.queue.Remove(t.queue)
	t.queue = nil
	p.waiting--
	if s.waiting--; s.waiting == 0 {
		s.door.ring.Remove(s.turn)
		s.turn = nil
	}
	if s.door.ring.Len() == 0 {
		p.ring.Remove(s.door.turn)
		s.door.turn = nil
	}
}

func (p *pool) unhold(t *Ticket) {
	if t.held == nil {
		return
	}
	t.source.held.Remove(t.held)
	p.shaking.Remove(t.order)
	t.held, t.order = nil, nil
}

// oldest is who has to go when the room is full.
func (p *pool) oldest() *Ticket {
	if len(p.fullest) == 0 {
		return nil
	}
	return p.fullest[0].oldest()
}

func (p *pool) refill(now time.Duration) {
	if p.rule.Rate > 0 {
		p.tokens = min(p.rule.Burst, p.tokens+max(0, now-p.at).Seconds()*p.rule.Rate)
	}
	p.at = now
}

// next finds whose turn it is, and who has to make room for it.
func (p *pool) next(now time.Duration) (t, victim *Ticket) {
	if p.rule.Rate > 0 && p.tokens < 1 {
		return nil, nil
	}
	if p.shaking.Len() >= p.rule.Slots {
		if victim = late(&p.shaking, now); victim == nil {
			return nil, nil
		}
	}
	for e := p.ring.Front(); e != nil; e = e.Next() {
		if t, own := p.nextOf(e.Value.(*entrance), now); t != nil {
			return t, cmp.Or(own, victim)
		}
	}
	return nil, nil
}

// nextOf is the same of one entrance; own is of the source that has all it may.
func (p *pool) nextOf(door *entrance, now time.Duration) (t, own *Ticket) {
	for e := door.ring.Front(); e != nil; e = e.Next() {
		s := e.Value.(*source)
		if p.rule.EachRate > 0 && !p.buckets.has(s.key, now, p.rule) {
			continue
		}
		if s.held.Len() < p.rule.PerSource {
			return s.newest(), nil
		}
		if own := late(&s.held, now); own != nil {
			return s.newest(), own
		}
	}
	return nil, nil
}

// late is the oldest handshake, if it has had its time.
func late(held *list.List, now time.Duration) *Ticket {
	if e := held.Front(); e != nil {
		if t := e.Value.(*Ticket); now-t.since >= Grace {
			return t
		}
	}
	return nil
}

func (p *pool) grant(t *Ticket, now time.Duration) {
	s := t.source
	s.rotate(t.part)
	p.unqueue(t)
	if s.turn != nil {
		s.door.ring.MoveToBack(s.turn)
	}
	if s.door.turn != nil {
		p.ring.MoveToBack(s.door.turn)
	}
	p.exit(t)
	t.stage, t.since = shaking, now
	t.held, t.order = s.held.PushBack(t), p.shaking.PushBack(t)
	p.tokens--
	p.speed.turns++
	if p.rule.EachRate > 0 {
		p.buckets.take(s.key, now, p.rule)
	}
}
