package raftmodel

import (
	"time"

	"github.com/meshcrypt/meshcrypt/consensus"
)

// campaign is what a candidate has.
type campaign struct {
	granted int
	asks    bool // only whether it would be elected
	handed  bool // the leader asked it to stand
}

// follow makes a follower that knows no leader.
func (r *Replica) follow() {
	r.become(follower, nobody)
	r.await(r.about(consensus.HeartbeatTimeout))
}

// watch looks now whether the leader is heard.
func (r *Replica) watch() { r.await(0) }

// await looks whether a leader was heard, after a time.
func (r *Replica) await(d time.Duration) {
	r.after(d, func() {
		patience := consensus.HeartbeatTimeout
		if r.patient {
			patience = consensus.DiskPatience
		}
		switch {
		case r.now()-r.heard < patience:
			r.await(r.about(patience))
		case !r.votes(r.number):
			r.setLeader(nobody)
			r.await(r.about(patience))
		default:
			r.say("hears no leader in term %d", r.disk.term)
			r.stand(false)
		}
	})
}

func (r *Replica) setLeader(server int) {
	if r.leader != server {
		r.leader = server
		r.tell()
	}
}

// stand begins a campaign: first it asks whether it would be elected, but for one that
// the leader handed the lead to.
func (r *Replica) stand(handed bool) {
	r.become(candidate, nobody)
	r.campaign = campaign{handed: handed}
	r.standAgain()
	if handed {
		r.elect()
		return
	}
	r.campaign.asks, r.campaign.granted = true, 1
	r.poll(message{kind: preVote, term: r.disk.term + 1})
	r.count()
}

// standAgain is for a campaign that comes to nothing.
func (r *Replica) standAgain() {
	timeout := consensus.ElectionTimeout
	if r.patient {
		timeout = consensus.DiskPatience
	}
	r.after(r.about(timeout), func() { r.stand(false) })
}

// elect asks for votes in a new term.
func (r *Replica) elect() {
	r.era++
	r.campaign.asks, r.campaign.granted = false, 1
	r.enter(r.disk.term + 1)
	r.disk.write(func(i *Image) { i.votedIn, i.votedFor = i.term, r.number })
	r.say("stands in term %d", r.disk.term)
	r.standAgain()
	r.poll(message{kind: vote, term: r.disk.term, handed: r.campaign.handed})
	r.count()
}

// poll asks the other voters, telling them where this log ends; one that is behind, nobody.
func (r *Replica) poll(m message) {
	if r.behind() {
		return
	}
	m.end = r.disk.end()
	for _, v := range r.voters() {
		if v != r.number {
			r.send(v, m)
		}
	}
}

// count goes on when the votes are enough.
func (r *Replica) count() {
	switch {
	case r.campaign.granted < r.quorum():
	case r.campaign.asks:
		r.elect()
	default:
		r.lead()
	}
}

// takePreVote says whether this replica would vote.
func (r *Replica) takePreVote(from int, m message) {
	granted := r.mayElect(from, m) && m.term >= r.disk.term && r.votes(from)
	r.send(from, message{kind: preVoted, term: r.disk.term, era: m.era, granted: granted})
}

// mayElect holds for the question and the vote itself.
func (r *Replica) mayElect(from int, m message) bool {
	switch {
	case r.lacks(m.end): // by the filter before raft's own queue
	case len(r.servers) > 0 && !r.listed(from):
	case r.leader != nobody && r.leader != from && !m.handed:
	case m.end.before(r.disk.end()):
	default:
		return true
	}
	return false
}

// takeVote votes, once in a term. A newer term is entered even without a vote, if
// nothing keeps the question from raft.
func (r *Replica) takeVote(from int, m message) {
	refuse := message{kind: voted, term: r.disk.term, era: m.era}
	led := r.leader != nobody && r.leader != from && !m.handed
	if r.lacks(m.end) || len(r.servers) > 0 && !r.listed(from) || led || m.term < r.disk.term {
		r.send(from, refuse)
		return
	}
	if m.term > r.disk.term {
		r.enter(m.term)
		r.follow()
	}
	before := r.disk.votedIn == m.term && !r.cluster.flaws.votesTwice
	granted := r.votes(from) && (!before && !m.end.before(r.disk.end()) || before && r.disk.votedFor == from)
	if granted {
		r.disk.write(func(i *Image) { i.votedIn, i.votedFor = m.term, from })
		r.heard = r.now()
	}
	r.send(from, message{kind: voted, term: r.disk.term, era: m.era, granted: granted})
}

// takeAnswer counts a vote, or a promise of one.
func (r *Replica) takeAnswer(m message) {
	limit := r.disk.term
	if m.kind == preVoted {
		limit++
	}
	switch {
	case r.role != candidate || m.era != r.era || (m.kind == preVoted) != r.campaign.asks:
	case m.term > limit:
		r.enter(m.term)
		r.follow()
	case m.granted:
		r.campaign.granted++
		r.count()
	}
}

// takeHandOver stands at once.
func (r *Replica) takeHandOver() {
	if r.votes(r.number) && r.role != over {
		r.stand(true)
	}
}
