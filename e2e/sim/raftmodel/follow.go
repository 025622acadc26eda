package raftmodel

// takeEntries is what a follower does with entries, or a heartbeat.
func (r *Replica) takeEntries(from int, m message) {
	answer := message{kind: appended, era: m.era, number: m.number}
	if m.kind == beat {
		answer.kind = beaten
	}
	if !r.obeys(from, m.term) {
		answer.term, answer.end = r.disk.term, r.disk.end()
		r.send(from, answer)
		return
	}
	answer.granted = m.kind == beat || r.takeAfter(m)
	r.heard = r.now()
	answer.term, answer.end = r.disk.term, r.disk.end()
	if m.kind == beat {
		r.send(from, answer)
		return
	}
	answer.previous.index = m.previous.index + uint64(len(m.entries))
	r.answerLater(from, answer)
}

// answerLater answers when the disk has what was sent.
func (r *Replica) answerLater(to int, answer message) {
	written := func() { r.run(func() { r.send(to, answer) }) }
	d := r.between(WriteLeast, WriteMost)
	r.cluster.effect(func() {
		r.cluster.config.Clock.After(d, func() { r.cluster.turn(written) })
	})
}

// obeys says whether a leader of a term is to be followed, and follows it.
func (r *Replica) obeys(from int, term uint64) bool {
	if term < r.disk.term {
		return false
	}
	if term > r.disk.term {
		r.enter(term)
		r.follow()
	} else if r.role != follower {
		r.follow()
	}
	if r.leader != from {
		r.setLeader(from)
		r.say("follows server %d in term %d", from, term)
	}
	return true
}

// takeAfter appends entries behind the one before them, and commits.
func (r *Replica) takeAfter(m message) bool {
	bound := max(r.incarnation(), m.incarnation)
	before, ok := r.disk.placeAt(m.previous.index)
	if ok && before != m.previous {
		r.guards(before.index, bound)
		return false
	}
	if !ok && m.previous.index > r.disk.snapshot.index {
		return false
	}
	fresh, ok := r.fresh(m.entries, bound)
	if !ok {
		return false
	}
	if len(fresh) > 0 {
		r.disk.write(func(i *Image) { i.entries = append(i.entries, fresh...) })
		r.servers, r.serversAt = r.disk.configuration()
	}
	r.joined(m.previous.index)
	if to := min(m.commit, m.previous.index+uint64(len(m.entries))); to > r.commit {
		r.commit = to
		r.settle()
	}
	return true
}

// fresh are the entries that the log lacks; it removes those that are others. Not ok when
// these were committed.
func (r *Replica) fresh(list []entry, incarnation uint64) ([]entry, bool) {
	for n, e := range list {
		if e.index > r.disk.end().index {
			return list[n:], true
		}
		if have, ok := r.disk.placeAt(e.index); have == e.place || !ok {
			continue // of what is trimmed nobody knows better
		}
		if r.guards(e.index, incarnation) {
			return nil, false
		}
		r.disk.write(func(i *Image) { i.cut(e.index) })
		return list[n:], true
	}
	return nil, true
}

// refusesSnapshot keeps what was committed from a leader that lacks it: a snapshot
// replaces everything. One of a recovered mesh does so on purpose.
func (r *Replica) refusesSnapshot(from int, m message) bool {
	own, s := r.incarnation(), m.snapshot
	if f := r.floor.fork; f != nil && f.Incarnation >= m.incarnation {
		return true
	}
	have, ok := r.disk.placeAt(s.index)
	less := s.index < r.applied || ok && have != s.place
	if t := r.took; less && from == t.from && m.incarnation == t.incarnation && m.term == t.term && s.index <= t.index {
		return true // it was on its way for long
	}
	return less && r.guards(s.index, max(own, m.incarnation))
}

// taken is the snapshot that was let in last: from whom, in which term of his, up to where.
type taken struct {
	from                     int
	incarnation, term, index uint64
}

// takeSnapshot replaces what the follower has.
func (r *Replica) takeSnapshot(from int, m message) {
	answer := message{kind: installed, era: m.era, number: m.number}
	if r.obeys(from, m.term) && !r.refusesSnapshot(from, m) {
		r.heard = r.now()
		r.took = taken{from, m.incarnation, m.term, m.snapshot.index}
		s, recovered := m.snapshot, m.incarnation > r.incarnation() // then it is another history
		if s.index > r.disk.snapshot.index || recovered {
			r.disk.write(func(i *Image) {
				if e, ok := i.at(s.index); ok && e.place == s.place {
					i.trim(s.index + 1)
				} else {
					i.entries = nil
				}
				i.snapshot = s
			})
			r.servers, r.serversAt = r.disk.configuration()
			if s.index > r.applied || recovered {
				r.install(s)
			}
			r.say("installs a snapshot up to %d.%d", s.term, s.index)
		}
		answer.granted, answer.previous = true, place{index: s.index}
	}
	answer.term, answer.end = r.disk.term, r.disk.end()
	r.answerLater(from, answer)
}
