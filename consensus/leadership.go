package consensus

import (
	"slices"

	"github.com/hashicorp/raft"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// Leadership tells the newest view of who leads.
func (r *Raft) Leadership() <-chan Leadership { return r.leadership }

// Leader is the present leader, if this replica knows one.
func (r *Raft) Leader() (identity.NodeID, bool) {
	_, server := r.raft.LeaderWithID()
	id, ok := nodeID(server)
	return id, ok
}

func nodeID(server raft.ServerID) (id identity.NodeID, ok bool) {
	return id, id.UnmarshalText([]byte(server)) == nil
}

// watch looks again after every event that raft reports, so that an event lost
// in a full channel costs nothing.
func (r *Raft) watch() {
	defer r.raft.DeregisterObserver(r.observer)
	var told, said Leadership
	for {
		select {
		case <-r.closing:
			return
		case <-r.raft.LeaderCh():
		case <-r.observed:
		}
		if seen := r.look(); seen != told {
			said = r.sayLeader(seen, said)
			if seen.Leader != told.Leader {
				r.file.tend() // who refrains beats as slowly as it waits, unless it leads
			}
			told = seen
			r.tell(seen)
		}
	}
}

// look reads state and term as one. A leader's term stands still: it steps down
// before it enters another. So a leader seen between two equal terms led in it;
// a view with another's term would be a forged fence.
func (r *Raft) look() Leadership {
	for {
		term := r.raft.CurrentTerm()
		seen := Leadership{Leader: r.raft.State() == raft.Leader, Term: term}
		seen.ID, _ = r.Leader()
		if seen.Leader {
			seen.ID = r.id
		}
		if r.raft.CurrentTerm() == term {
			return seen
		}
	}
}

// sayLeader tells an operator who leads, and is what was said last.
func (r *Raft) sayLeader(seen, said Leadership) Leadership {
	switch {
	case seen == said:
	case seen.ID.IsZero() && said == Leadership{}:
		// So it is at every start, and until a new replica hears its first leader.
	case seen.ID.IsZero() && !r.votes():
		// It elects nobody, and raft forgets the first leader once while it takes its term.
		return said
	case seen.ID.IsZero():
		return r.sayNone(seen, said)
	case r.hushed && seen.ID == said.ID: // as the log has it
	case seen.Leader:
		r.log.Info("this node leads the registry", "term", seen.Term)
	default:
		r.log.Info("the registry's leader", "node", seen.ID.Short(), "term", seen.Term)
	}
	r.hushed = false
	return seen
}

// sayNone tells that nobody leads. Voters that do not get a turn in time end and begin terms
// without end: what the log has then is that it is so, and how often.
func (r *Raft) sayNone(seen, said Leadership) Leadership {
	var left []any
	if r.repeats != nil {
		var ok bool
		if left, ok = r.repeats(); !ok {
			r.hushed = true
			return said
		}
	}
	r.log.Info("the registry has no leader", append([]any{"term", seen.Term}, left...)...)
	r.hushed = false
	return seen
}

// votes says that this replica has a vote, as far as it knows.
func (r *Raft) votes() bool {
	return slices.Contains(r.Servers(), Server{ID: r.id, Voter: true})
}

// tell replaces a view nobody has read yet.
func (r *Raft) tell(seen Leadership) {
	select {
	case <-r.leadership:
	default:
	}
	r.leadership <- seen // watch is the only writer: the slot is free
}

// Refrain has this replica leave elections to others, or stand like any other again. Later
// than they would it stands all the same: of voters that all refrain one has to lead.
func (r *Raft) Refrain(from bool) {
	if r.refrains.Swap(from) != from {
		r.file.tend()
	}
}

// leavesLead says that this replica waits longer than others before it stands. One that leads
// has the timing of all, by which a leader beats.
func (r *Raft) leavesLead() bool {
	return r.refrains.Load() && r.raft.State() != raft.Leader && !r.alone()
}
