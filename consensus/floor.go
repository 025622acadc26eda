package consensus

import (
	"errors"
	"sync"

	"github.com/hashicorp/raft"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
)

// ErrFork means that a leader wants to overwrite entries that were committed: voters that
// did not have them elected it, after one was put back to an older disk.
var ErrFork = errors.New("consensus: committed entries would be overwritten")

// Known is how far the log was committed, as somebody was told by a leader: the entry at
// Index is of Term, in a log of that Incarnation.
type Known struct{ Incarnation, Term, Index uint64 }

// floor is the furthest that this replica was told of. Raft trusts that a voter has what
// it once wrote; one whose disk was put back to an older one has not, and with another
// that was down it makes a majority which lacks what was committed. So a replica votes as
// if its own log reached to the floor, and does not stand before it does.
type floor struct {
	mu    sync.Mutex // protects what follows
	known Known
	fork  error // what a leader wanted to overwrite; nil: nothing
}

// learn raises it.
func (f *floor) learn(k Known) (raised bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	was := f.known
	raised = was.Incarnation < k.Incarnation || was.Incarnation == k.Incarnation &&
		(mark{was.Index, was.Term}).before(mark{k.Index, k.Term})
	if raised {
		f.known = k
	}
	return raised
}

func (f *floor) get() Known {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.known
}

func (f *floor) forked() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.fork
}

// before says that a log which ends here lacks one that ends there (Raft, 5.4.1).
func (m mark) before(o mark) bool {
	return m.term < o.term || m.term == o.term && m.index < o.index
}

// Learn tells the replica how far the log was committed, by somebody else's word.
func (r *Raft) Learn(k Known) {
	if r.floor.learn(k) {
		select {
		case r.file.ailing <- struct{}{}: // it may have to wait now
		default:
		}
	}
}

// lacks says that a log which ends at a mark is below the floor. A replica of a newer
// incarnation was recovered: what was known of the older one does not bind it.
func (r *Raft) lacks(end mark) bool {
	k := r.floor.get()
	var own uint64
	r.fsm.view(func(s *registry.State) { own = s.Cluster.Incarnation })
	return k.Incarnation >= own && end.before(mark{k.Index, k.Term})
}

// Behind says that the replica's own log is below the floor, so that it does not vote for
// one that is, nor stand.
func (r *Raft) Behind() bool { return r.lacks(r.file.end()) }

// end is where the log ends.
func (l *logStore) end() mark {
	last, err := l.LastIndex()
	at := l.marked()
	var entry raft.Log
	if err == nil && last > at.index && l.GetLog(last, &entry) == nil {
		return mark{entry.Index, entry.Term}
	}
	return at
}

// Misses says that an entry which was committed is not in this log, nor will be: there is
// another one at its place, or the leader's log, which this must be, ends before it.
func (r *Raft) Misses(k Known) bool {
	var own uint64
	r.fsm.view(func(s *registry.State) { own = s.Cluster.Incarnation })
	if k.Incarnation != own || k.Index <= r.file.marked().index {
		return false // what a snapshot stands for is not known any more
	}
	var entry raft.Log
	err := r.file.GetLog(k.Index, &entry)
	return errors.Is(err, raft.ErrLogNotFound) || err == nil && entry.Term != k.Term
}

// DeleteRange removes entries. Those at the end that were committed, as this replica was
// told, stay: to overwrite them would be to forget them for good.
func (l *logStore) DeleteRange(first, last uint64) error {
	end, err := l.BoltStore.LastIndex()
	if err == nil && last >= end && l.floor != nil {
		if err := l.floor.guard(l, first); err != nil {
			return err
		}
	}
	return l.BoltStore.DeleteRange(first, last)
}

// guard keeps the entries from first on if a committed one is among them.
func (f *floor) guard(l *logStore, first uint64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	var entry raft.Log
	k := f.known
	holds := k.Index > l.marked().index && l.BoltStore.GetLog(k.Index, &entry) == nil && entry.Term == k.Term
	if !holds || first > k.Index {
		return nil
	}
	f.fork = ErrFork
	return ErrFork
}

// ballots is raft's transport with a filter for votes: what asks for one below the floor
// is refused here, for raft only compares with the log that it has.
type ballots struct {
	*raft.NetworkTransport
	asked chan raft.RPC
}

// Consumer is what raft reads.
func (b ballots) Consumer() <-chan raft.RPC { return b.asked }

// filterBallots passes on what is asked until the replica closes.
func (r *Raft) filterBallots(b ballots) {
	for {
		select {
		case <-r.closing:
			return
		case rpc := <-b.NetworkTransport.Consumer():
			if r.refuses(rpc) {
				continue
			}
			select {
			case b.asked <- rpc:
			case <-r.closing:
				return
			}
		}
	}
}

// refuses answers a candidate whose log is below the floor.
func (r *Raft) refuses(rpc raft.RPC) bool {
	<-r.started
	header := raft.RPCHeader{
		ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(serverID(r.id)), Addr: []byte(serverAddress(r.id)),
	}
	term := r.raft.CurrentTerm()
	switch ask := rpc.Command.(type) {
	case *raft.RequestVoteRequest:
		if r.lacks(mark{ask.LastLogIndex, ask.LastLogTerm}) {
			rpc.Respond(&raft.RequestVoteResponse{RPCHeader: header, Term: term}, nil)
			return true
		}
	case *raft.RequestPreVoteRequest:
		// Of term 0 it is Reach, which is for raft itself to answer.
		if ask.Term > 0 && r.lacks(mark{ask.LastLogIndex, ask.LastLogTerm}) {
			rpc.Respond(&raft.RequestPreVoteResponse{RPCHeader: header, Term: term}, nil)
			return true
		}
	}
	return false
}
