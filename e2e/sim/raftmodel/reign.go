package raftmodel

import (
	"errors"
	"slices"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus"
	"github.com/meshcrypt/meshcrypt/consensus/registry"
)

// reign is what a leader has.
type reign struct {
	began   uint64      // index of the term's first entry
	by      uint64      // the leadership's number
	peers   []*progress // by number; nil: not in the configuration
	queue   []proposal  // not in the log yet
	writes  bool        // the queue's first are on their way to disk
	flights []flight    // in the log, oldest first
	changes []change    // of the servers, that wait for the one before
	hands   *hand       // the lead is being handed over; nil: it is not
}

// proposal is an entry to be.
type proposal struct {
	entry entry
	done  func(registry.Result, error)
}

// flight is an entry whose proposer waits.
type flight struct {
	index uint64
	done  func(registry.Result, error)
}

// progress is how far another server is.
type progress struct {
	next, match uint64
	heard       time.Duration // its last answer
	waits       bool          // for an answer to the last message of entries
	number      uint64        // of that message
	refused     int           // times, in a row
}

// hand is a lead on its way to another.
type hand struct {
	to   int
	sent bool
	done func(error)
}

// lead begins a reign.
func (r *Replica) lead() {
	r.become(leader, r.number)
	r.say("leads term %d from %d.%d", r.disk.term, r.disk.end().term, r.disk.end().index)
	r.reign = reign{began: r.disk.end().index + 1, by: r.random.Uint64(), peers: make([]*progress, len(r.cluster.config.Servers))}
	r.meet()
	r.enqueue(proposal{entry: entry{kind: noop}})
	r.after(consensus.LeaderLease, r.checkLease)
	r.after(r.about(consensus.HeartbeatTimeout/10), r.beat)
	r.after(r.about(consensus.CommitTimeout), r.tellCommit)
}

// meet begins and ends replication by the newest configuration.
func (r *Replica) meet() {
	for i := range r.reign.peers {
		switch p := r.reign.peers[i]; {
		case !r.listed(i) || i == r.number:
			r.reign.peers[i] = nil
		case p == nil:
			r.reign.peers[i] = &progress{next: r.disk.end().index + 1, heard: r.now()}
			r.send(i, r.heartbeat())
		}
	}
}

func (r *Replica) heartbeat() message { return message{kind: beat, term: r.disk.term} }

func (r *Replica) beat() {
	for i, p := range r.reign.peers {
		if p != nil {
			r.send(i, r.heartbeat())
		}
	}
	r.after(r.about(consensus.HeartbeatTimeout/10), r.beat)
}

// tellCommit tells all how far the log is committed, and hears of who lost what it had.
func (r *Replica) tellCommit() {
	for i, p := range r.reign.peers {
		if p != nil {
			r.replicate(i)
		}
	}
	r.after(r.about(consensus.CommitTimeout), r.tellCommit)
}

// checkLease steps down when a majority of the voters was not heard lately.
func (r *Replica) checkLease() {
	heard, oldest := 0, time.Duration(0)
	for _, v := range r.voters() {
		p := r.reign.peers[v]
		switch silent := time.Duration(0); {
		case v == r.number:
			heard++
		case p != nil:
			if silent = r.now() - p.heard; silent <= consensus.LeaderLease {
				heard, oldest = heard+1, max(oldest, silent)
			}
		}
	}
	if heard < r.quorum() {
		r.say("gives up the lead of term %d: hears no majority", r.disk.term)
		r.follow()
		return
	}
	r.after(max(consensus.LeaderLease-oldest, LeaseLeast), r.checkLease)
}

// propose takes what is to be an entry.
func (r *Replica) propose(p proposal) {
	switch {
	case r.ended:
		r.fail(p.done, consensus.ErrClosed)
	case r.role != leader || r.reign.hands != nil:
		r.fail(p.done, consensus.ErrNotLeader)
	case len(r.reign.queue) >= MaxQueued:
		r.fail(p.done, consensus.ErrOutcomeUnknown)
	default:
		r.enqueue(p)
	}
}

func (r *Replica) fail(done func(registry.Result, error), err error) {
	if done != nil {
		r.cluster.effect(func() { done(registry.Result{}, err) })
	}
}

func (r *Replica) enqueue(p proposal) {
	r.reign.queue = append(r.reign.queue, p)
	r.write()
}

// write puts what is in the queue into the log together, once the disk is done with what
// went before.
func (r *Replica) write() {
	if r.reign.writes || len(r.reign.queue) == 0 {
		return
	}
	r.reign.writes = true
	r.after(r.between(WriteLeast, WriteMost), func() {
		if r.givenUp() { // a vote came when it had just heard so: it writes nothing
			r.follow()
			return
		}
		batch := r.reign.queue[:min(len(r.reign.queue), consensus.MaxAppendEntries)]
		r.reign.queue, r.reign.writes = r.reign.queue[len(batch):], false
		r.append(batch)
		r.write()
	})
}

func (r *Replica) append(batch []proposal) {
	next := r.disk.end().index + 1
	r.disk.write(func(i *Image) {
		for n, p := range batch {
			p.entry.place = place{next + uint64(n), i.term, r.reign.by}
			i.entries = append(i.entries, p.entry)
		}
	})
	for n, p := range batch {
		if p.done != nil {
			r.reign.flights = append(r.reign.flights, flight{next + uint64(n), p.done})
		}
	}
	r.advance() // by the servers that there were, as the library does
	if now, at := r.disk.configuration(); at != r.serversAt {
		r.servers, r.serversAt = now, at
		r.meet()
		r.advance()
	}
	for i, p := range r.reign.peers {
		if p != nil {
			r.replicate(i)
		}
	}
	r.tendServers()
}

// replicate sends what a server lacks, one message at a time.
func (r *Replica) replicate(to int) {
	p := r.reign.peers[to]
	if p.waits {
		return
	}
	m := message{kind: entries, term: r.disk.term, commit: r.commit}
	most := consensus.MaxAppendEntries
	if r.cluster.flaws.oneByOne {
		most = 1
	}
	list, ok := r.disk.from(p.next, most)
	before, known := r.disk.placeAt(p.next - 1)
	if ok && known {
		m.entries, m.previous = list, before
	} else {
		m.kind, m.snapshot = install, r.disk.snapshot
	}
	p.number++
	p.waits, m.number = true, p.number
	number := p.number
	r.send(to, m)
	r.after(Resend, func() {
		if r.reign.peers[to] == p && p.waits && p.number == number {
			p.waits = false
			r.replicate(to)
		}
	})
}

// takeAppended is what a server answers to entries, a snapshot or a heartbeat.
func (r *Replica) takeAppended(from int, m message) {
	if r.role != leader || m.era != r.era {
		return
	}
	if m.term > r.disk.term {
		r.say("gives up the lead of term %d: %d is there", r.disk.term, m.term)
		r.enter(m.term)
		r.follow()
		return
	}
	p := r.reign.peers[from]
	if p == nil {
		return
	}
	p.heard = r.now()
	if m.kind == beaten || !p.waits || m.number != p.number {
		return
	}
	p.waits = false
	if !m.granted {
		if m.kind == appended {
			p.next = max(1, min(p.next-1, m.end.index+1))
		}
		p.refused++
		r.after(min(WriteMost<<min(p.refused, 16), RefusedMost), func() { r.keepUp(from, p) })
		return
	}
	p.refused = 0
	p.match, p.next = max(p.match, m.previous.index), m.previous.index+1
	r.advance()
	r.tendServers()
	if r.role == leader {
		r.keepUp(from, p)
	}
}

// keepUp sends more to a server that lacks more, and the lead to whom it is promised.
func (r *Replica) keepUp(to int, p *progress) {
	if r.reign.peers[to] != p {
		return
	}
	if p.match < r.disk.end().index {
		r.replicate(to)
	} else if h := r.reign.hands; h != nil && h.to == to && !h.sent {
		h.sent = true
		r.send(to, message{kind: handOver, term: r.disk.term})
	}
}

// advance commits what a majority has, if it is of this term or before what is.
func (r *Replica) advance() {
	var have []uint64
	for _, v := range r.voters() {
		switch p := r.reign.peers[v]; {
		case v == r.number:
			have = append(have, r.disk.end().index)
		case p != nil:
			have = append(have, p.match)
		default:
			have = append(have, 0)
		}
	}
	if len(have) == 0 {
		return
	}
	slices.Sort(have)
	most := have[(len(have)-1)/2]
	if (most >= r.reign.began || r.cluster.flaws.countsOlder) && most > r.commit {
		r.commit = most
		r.settle()
	}
}

// tendServers begins the next change, and ends a leader that was removed.
func (r *Replica) tendServers() {
	r.alter()
	if !r.listed(r.number) && r.serversAt <= r.commit {
		r.say("is no server of the log any more")
		r.become(over, nobody)
	}
}

// answer tells a proposer what became of its entry.
func (r *Replica) answer(e entry, result registry.Result) {
	f := &r.reign.flights
	for r.role == leader && len(*f) > 0 && (*f)[0].index <= e.index {
		done := (*f)[0].done
		if (*f)[0].index == e.index {
			r.cluster.effect(func() { done(result, nil) })
		} else {
			r.fail(done, consensus.ErrOutcomeUnknown)
		}
		*f = (*f)[1:]
	}
}

// drop ends a reign: nobody knows what becomes of what is in the log, and what is not
// there never will be.
func (r *Replica) drop(why error) {
	for _, f := range r.reign.flights {
		r.fail(f.done, errors.Join(consensus.ErrOutcomeUnknown, why))
	}
	for _, p := range r.reign.queue {
		r.fail(p.done, errors.Join(consensus.ErrNotLeader, why))
	}
	for _, c := range r.reign.changes {
		r.fail(c.done, errors.Join(consensus.ErrNotLeader, why))
	}
	if h := r.reign.hands; h != nil {
		r.cluster.effect(func() { h.done(nil) })
	}
	r.reign = reign{}
}

// transfer hands the lead to a voter; nobody: to the one that is furthest.
func (r *Replica) transfer(to int, done func(error)) {
	if r.role != leader || r.reign.hands != nil {
		r.cluster.effect(func() { done(consensus.ErrNotLeader) })
		return
	}
	if to == nobody {
		to = r.furthest()
	}
	if to == nobody || r.reign.peers[to] == nil {
		r.cluster.effect(func() { done(errNoPeer) })
		return
	}
	h := &hand{to: to, done: done}
	r.reign.hands = h
	r.after(consensus.ElectionTimeout, func() {
		if r.reign.hands == h {
			r.reign.hands = nil
			r.cluster.effect(func() { done(errNoTransfer) })
		}
	})
	r.keepUp(to, r.reign.peers[to])
}

// furthest is the other voter that has most of the log; nobody: there is none.
func (r *Replica) furthest() int {
	best := nobody
	for _, v := range r.voters() {
		p := r.reign.peers[v]
		if p != nil && (best == nobody || p.match > r.reign.peers[best].match) {
			best = v
		}
	}
	return best
}

var (
	errNoPeer     = errors.New("raftmodel: there is nobody to hand the lead to")
	errNoTransfer = errors.New("raftmodel: the lead was not taken in time")
)
