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
	before, ok := r.disk.termAt(m.previous.index)
	if !ok && m.previous.index > r.disk.snapshot.index || ok && before != m.previous.term {
		return false
	}
	fresh, ok := r.fresh(m.entries)
	if !ok {
		return false
	}
	if len(fresh) > 0 {
		r.disk.write(func(i *Image) { i.entries = append(i.entries, fresh...) })
		r.servers, r.serversAt = r.disk.configuration()
	}
	if to := min(m.commit, m.previous.index+uint64(len(m.entries))); to > r.commit {
		r.commit = to
		r.settle()
	}
	return true
}

// fresh are the entries that the log lacks; it removes those that are others. Not ok when
// these were committed.
func (r *Replica) fresh(list []entry) ([]entry, bool) {
	for n, e := range list {
		if e.index <= r.disk.snapshot.index {
			continue
		}
		if e.index > r.disk.end().index {
			return list[n:], true
		}
		have, ok := r.disk.at(e.index)
		if ok && have.term == e.term {
			continue
		}
		if r.guards(e.index) {
			return nil, false
		}
		r.disk.write(func(i *Image) { i.cut(e.index) })
		return list[n:], true
	}
	return nil, true
}

// takeSnapshot replaces what the follower has. It is taken unseen: a follower may be far
// behind for good reasons.
func (r *Replica) takeSnapshot(from int, m message) {
	answer := message{kind: installed, era: m.era, number: m.number}
	if r.obeys(from, m.term) {
		r.heard = r.now()
		s := m.snapshot
		if s.index > r.disk.snapshot.index {
			r.disk.write(func(i *Image) {
				if e, ok := i.at(s.index); ok && e.term == s.term {
					i.trim(s.index + 1)
				} else {
					i.entries = nil
				}
				i.snapshot = s
			})
			r.servers, r.serversAt = r.disk.configuration()
			if s.index > r.applied {
				r.install(s)
			}
			r.say("installs a snapshot up to %d.%d", s.term, s.index)
		}
		answer.granted, answer.previous = true, place{index: s.index}
	}
	answer.term, answer.end = r.disk.term, r.disk.end()
	r.answerLater(from, answer)
}
