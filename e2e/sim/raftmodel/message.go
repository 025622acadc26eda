package raftmodel

// kindOfMessage is what a message asks or answers.
type kindOfMessage int

const (
	preVote kindOfMessage = iota
	preVoted
	vote
	voted
	beat
	beaten
	entries
	appended
	install
	installed
	handOver
	reach
	reached
	outlived
)

// message is one from a server to another. An answer has the era of its question.
type message struct {
	kind        kindOfMessage
	incarnation uint64 // of the sender's registry
	term        uint64
	era         uint64
	number      uint64
	end         place // of the log of who sends
	granted     bool
	handed      bool
	previous    place // before the entries
	entries     []entry
	commit      uint64
	snapshot    snapshot
}

const (
	messageBytes  = 120
	entryBytes    = 40
	serverBytes   = 70
	snapshotBytes = 64 << 10
)

// bytes is about how long it would be.
func (m message) bytes() int {
	n := messageBytes
	for _, e := range m.entries {
		n += entryBytes + len(e.data) + serverBytes*len(e.servers)
	}
	if m.kind == install {
		n += snapshotBytes
	}
	return n
}

// send hands a message to the network. It comes to the process that runs there now, or
// to none; one from an ended process may still come.
func (r *Replica) send(to int, m message) {
	if m.era == 0 {
		m.era = r.era
	}
	m.incarnation = max(m.incarnation, r.incarnation())
	there, from := r.cluster.running[to], r.number
	r.cluster.effect(func() {
		r.cluster.config.Network.Send(from, to, m.bytes(), func() {
			if there != nil {
				r.cluster.turn(func() { there.run(func() { there.take(from, m) }) })
			}
		})
	})
}

// take is one message's effect.
func (r *Replica) take(from int, m message) {
	if r.role == over || r.outlives(from, m) {
		return
	}
	switch m.kind {
	case preVote:
		r.takePreVote(from, m)
	case vote:
		r.takeVote(from, m)
	case preVoted, voted:
		r.takeAnswer(m)
	case beat, entries:
		r.takeEntries(from, m)
	case install:
		r.takeSnapshot(from, m)
	case beaten, appended, installed:
		r.takeAppended(from, m)
	case handOver:
		r.takeHandOver()
	case reach:
		r.send(from, message{kind: reached, era: m.era, number: m.number})
	case reached:
		r.takeReached(m)
	}
}
