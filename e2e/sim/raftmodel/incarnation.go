package raftmodel

import "github.com/meshcrypt/meshcrypt/consensus"

// givenUp says that the mesh was recovered in a later incarnation than this replica's; the
// rules are those of consensus/incarnation.go.
func (r *Replica) givenUp() bool { return r.floor.known.Incarnation > max(r.incarnation(), 1) }

// outlives says that a message is of an incarnation that was given up, or is the answer to
// one that was. It does nothing else then: neither hears of the other's term.
func (r *Replica) outlives(from int, m message) bool {
	if m.kind == outlived || asks(m.kind) {
		r.hear(m.incarnation)
	}
	switch newest := max(r.incarnation(), r.floor.known.Incarnation); {
	case m.kind == outlived:
	case !asks(m.kind) || newest <= max(m.incarnation, 1):
		return false
	default:
		r.send(from, message{kind: outlived, era: m.era, incarnation: newest})
	}
	return true
}

// asks says that a message is one that says its sender's incarnation.
func asks(kind kindOfMessage) bool {
	switch kind {
	case preVote, vote, beat, entries, install:
		return true
	}
	return false
}

// hear notes a later incarnation, by which this replica decides nothing any more.
func (r *Replica) hear(incarnation uint64) {
	if incarnation <= max(r.incarnation(), r.floor.known.Incarnation, 1) {
		return
	}
	r.floor.learn(consensus.Known{Incarnation: incarnation})
	r.say("is given up: the mesh is of incarnation %d", incarnation)
	if r.role == leader {
		r.follow()
	}
	r.tendPatience()
}
