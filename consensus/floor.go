package consensus

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// ErrFork means that a leader wants to overwrite entries that were committed: voters that
// did not have them elected it, after one was put back to an older disk.
var ErrFork = errors.New("consensus: committed entries would be overwritten")

// Known is how far the log was committed, as somebody was told by a leader: the entry at
// Index is of Term, in a log of that Incarnation.
type Known struct {
	Incarnation, Term, Index uint64
	By                       string          // the number of that leadership (origin); empty: nobody said
	From                     identity.NodeID // the leader who said it; zero: an entry of this log is all there is
}

// by is whose the entry at Index is.
func (k Known) by() origin { return origin{k.By, k.By != ""} }

// floor is the furthest that this replica was told of. Raft trusts that a voter has what
// it once wrote; one whose disk was put back to an older one has not, and with another
// that was down it makes a majority which lacks what was committed. So a replica votes as
// if its own log reached to the floor, and does not stand before it does.
type floor struct {
	own func() uint64 // the replica's incarnation; set before it is used

	mu     sync.Mutex // protects what follows
	known  Known
	terms  []Known // by the arbiters that this node had; see remember
	heard  []Known // by what others passed on
	fork   *Known  // what a leader wanted to overwrite; nil: nothing
	others []Known // leaderships of another history; see disown
}

// learn raises it by somebody else's word. Of older terms it is still known what they
// committed: who leads without that is further by its term alone.
func (f *floor) learn(k Known) (raised bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if slices.ContainsFunc(f.terms, k.contradicts) {
		return false
	}
	f.heard = remember(f.heard, k)
	return f.raise(k)
}

// hold takes an arbiter's word that this node obeyed. What another voter signed in that
// arbiter's name is a lie, whenever it was heard: it must neither keep a voter from
// standing nor have entries kept that nobody committed.
func (f *floor) hold(k Known) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if slices.ContainsFunc(f.terms, k.contradicts) {
		return
	}
	f.terms = remember(f.terms, k)
	lie := func(o Known) bool { return o.contradicts(k) }
	f.heard = slices.DeleteFunc(f.heard, lie)
	if f.known.contradicts(k) {
		f.known = Known{}
		for _, o := range f.heard {
			f.raise(o)
		}
	}
}

func (f *floor) raise(k Known) (raised bool) {
	was := f.known
	if f.disowned(k) {
		return false
	}
	raised = was.Incarnation < k.Incarnation || was.Incarnation == k.Incarnation &&
		(mark{was.Index, was.Term}).before(mark{k.Index, k.Term})
	if raised {
		f.known = k
	}
	return raised
}

// contradicts says that somebody speaks for a leadership that was another's. One who leaves
// its number out does, too: who leads by this build says it. (Of a leadership that there
// was not, nothing is in any log.)
func (k Known) contradicts(held Known) bool {
	return k.Incarnation == held.Incarnation && k.Term == held.Term && k.From != held.From && !held.From.IsZero() &&
		held.By != "" && (k.By == held.By || k.By == "")
}

// remember notes what is not to be overwritten: of one incarnation, for of a recovered mesh
// that is nothing older, the furthest of each leadership, lately last.
func remember(all []Known, k Known) []Known {
	if len(all) > 0 && k.Incarnation != all[0].Incarnation {
		if k.Incarnation < all[0].Incarnation {
			return all
		}
		all = nil
	}
	same := func(o Known) bool { return o.Term == k.Term && o.By == k.By && o.From == k.From }
	if i := slices.IndexFunc(all, same); i >= 0 {
		all[i].Index = max(all[i].Index, k.Index)
		return all
	}
	all = append(all, k)
	return all[max(0, len(all)-MaxTerms):]
}

func (f *floor) get() Known {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.known
}

func (f *floor) forked() error {
	own := f.own()
	if kept := f.kept(); kept == nil || kept.Incarnation < own {
		return nil // see guard
	}
	return ErrFork
}

// kept is what a leader wanted to overwrite.
func (f *floor) kept() *Known {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.fork
}

// joined says that the log is the leader's up to an index.
func (f *floor) joined(index uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fork != nil && index >= f.fork.Index {
		f.fork = nil
	}
}

// before says that a log which ends here lacks one that ends there (Raft, 5.4.1).
func (m mark) before(o mark) bool {
	return m.term < o.term || m.term == o.term && m.index < o.index
}

// Learn tells the replica how far the log was committed, by somebody else's word.
func (r *Raft) Learn(k Known) {
	if r.floor.learn(k) {
		r.noteOutlived()
		select {
		case r.file.ailing <- struct{}{}: // it may have to wait now
		default:
		}
	}
}

// Hold tells the replica how far its arbiter committed: none of that is overwritten. A
// follower may be told before it has it, which is no reason to call it behind.
func (r *Raft) Hold(k Known) { r.floor.hold(k) }

// lacks says that a log which ends at a mark is below the floor. A replica of a newer
// incarnation was recovered: what was known of the older one does not bind it.
func (r *Raft) lacks(end mark) bool {
	k := r.floor.get()
	own := r.incarnation()
	return r.GivenUp() || k.Incarnation >= own && end.before(mark{k.Index, k.Term})
}

// incarnation is that of the state this replica has.
func (r *Raft) incarnation() (own uint64) {
	r.fsm.view(func(s *registry.State) { own = s.Cluster.Incarnation })
	return own
}

// applied is how far the registry of this replica has the log: that is committed, by a
// leader's word.
func (r *Raft) applied() Known {
	<-r.started
	index := r.raft.AppliedIndex()
	entry, err := r.file.at(index)
	if err != nil {
		return Known{Incarnation: r.incarnation()}
	}
	return Known{Incarnation: r.incarnation(), Term: entry.term, Index: index, By: entry.by.id}
}

// Behind says that the replica's own log is below the floor, so that it does not vote for
// one that is, nor stand.
func (r *Raft) Behind() bool { return r.lacks(r.file.end()) }

// end is where the log ends.
func (l *logStore) end() mark {
	last, err := l.LastIndex()
	at := l.marked()
	var entry raft.Log
	if err == nil && last > at.index && l.recentLog.GetLog(last, &entry) == nil {
		return mark{entry.Index, entry.Term}
	}
	return at
}

// Misses says that an entry which was committed is not in this log, nor will be: there is
// another one at its place, or the leader's log, which this must be, ends before it.
func (r *Raft) Misses(k Known) bool {
	if k.Incarnation != r.incarnation() || k.Index <= r.file.marked().index {
		return false // what a snapshot stands for is not known any more
	}
	entry, err := r.file.at(k.Index)
	return errors.Is(err, raft.ErrLogNotFound) || err == nil && (entry.term != k.Term || entry.by.differs(k.by()))
}

// DeleteRange removes entries. Those at the end that were committed, as this replica was
// told, stay: to overwrite them would be to forget them for good.
func (l *logStore) DeleteRange(first, last uint64) error {
	end, err := l.recentLog.LastIndex()
	if err == nil && last >= end && l.floor != nil && first > l.marked().index {
		if err := l.floor.guard(l, first, l.floor.own()); err != nil {
			return err
		}
	}
	if err := l.recentLog.DeleteRange(first, last); err != nil {
		return err
	}
	l.apart.CompareAndSwap(first, 0) // what comes there now is the leader's
	return nil
}

// guard keeps the entries from first on if a committed one is among them, and notes on
// disk what it kept: another process was perhaps told by their leader alone. What was
// committed before a leader's incarnation was given up with that.
func (f *floor) guard(l *logStore, first, incarnation uint64) error {
	applied, at := l.applied(), l.marked()
	f.mu.Lock()
	bound := slices.DeleteFunc(slices.Concat([]Known{applied}, f.terms, f.heard), func(k Known) bool {
		return k.Incarnation < incarnation || first > l.committed(k)
	})
	if len(bound) == 0 && first <= at.index && applied.Incarnation >= incarnation {
		bound = []Known{{Incarnation: applied.Incarnation, Term: at.term, Index: at.index}} // the snapshot is of it
	}
	if len(bound) == 0 {
		f.mu.Unlock()
		return nil
	}
	f.fork = &bound[0]
	f.mu.Unlock()
	return errors.Join(ErrFork, l.keep(bound[0]))
}

// holds says that the log has what was committed in a term, of an incarnation or a later one.
func (f *floor) holds(l *logStore, term, incarnation uint64) bool {
	applied := l.applied()
	f.mu.Lock()
	defer f.mu.Unlock()
	return applied.Term == term && applied.Incarnation >= incarnation || slices.ContainsFunc(slices.Concat(f.terms, f.heard), func(k Known) bool {
		return k.Term == term && k.Incarnation >= incarnation && l.committed(k) > 0
	})
}

// committed is how far the log holds what a leadership committed, by what was told of it;
// zero: not at all, or below the snapshot.
func (l *logStore) committed(k Known) uint64 {
	last, err := l.recentLog.LastIndex()
	at := min(k.Index, last)
	var entry raft.Log
	if err != nil || at <= l.marked().index || l.recentLog.GetLog(at, &entry) != nil || entry.Term != k.Term ||
		originOf(&entry).differs(k.by()) {
		return 0
	}
	return at
}

const keptKey = "kept"

// keep notes what is kept from being overwritten. Whose leadership it was, the log says.
func (l *logStore) keep(k Known) error {
	k.By, k.From = "", identity.NodeID{}
	if was, err := l.kept(); err == nil && was == k {
		return nil
	}
	b := binary.BigEndian.AppendUint64(nil, k.Incarnation)
	return l.recentLog.Set([]byte(keptKey), binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(b, k.Term), k.Index))
}

// kept is what was noted; zero: nothing.
func (l *logStore) kept() (k Known, err error) {
	b, err := l.recentLog.Get([]byte(keptKey))
	if errors.Is(err, raftboltdb.ErrKeyNotFound) {
		return k, nil
	}
	if err != nil || len(b) != 24 {
		return k, cmp.Or(err, fmt.Errorf("consensus: %d bytes say what is kept", len(b)))
	}
	return Known{Incarnation: binary.BigEndian.Uint64(b), Term: binary.BigEndian.Uint64(b[8:]), Index: binary.BigEndian.Uint64(b[16:])}, nil
}

// refusesVote answers a candidate whose log is below the floor, or of another history. A
// pre-vote is refused for the same reasons, or it would raise the term for nothing, over
// and over.
func (r *Raft) refusesVote(rpc raft.RPC) bool {
	term := r.raft.CurrentTerm()
	switch ask := rpc.Command.(type) {
	case *raft.RequestVoteRequest:
		//lint:ignore SA1019 raft takes the candidate from the header, so this field is free for the word
		past, by := readReigns(ask.Candidate)
		said, told := readWord(by)
		if told && r.overrules(ask.LastLogIndex, said.incarnation, past) || r.lacks(mark{ask.LastLogIndex, ask.LastLogTerm}) ||
			told && r.parted(ask.LastLogTerm, said) {
			rpc.Respond(&raft.RequestVoteResponse{RPCHeader: r.header(), Term: term}, nil)
			return true
		}
	case *raft.RequestPreVoteRequest:
		past, by := readReigns(ask.Addr)
		at := max(0, bytes.Index(by, []byte(wordMagic))) // zero: an older build's, which has none
		said, told := readWord(by[at:])
		if told {
			ask.Addr = ask.Addr[:at]
		}
		// Of term 0 it is Reach, which is for raft itself to answer.
		if ask.Term > 0 && (told && r.overrules(ask.LastLogIndex, said.incarnation, past) || r.lacks(mark{ask.LastLogIndex, ask.LastLogTerm}) ||
			told && r.parted(ask.LastLogTerm, said)) {
			rpc.Respond(&raft.RequestPreVoteResponse{RPCHeader: r.header(), Term: term}, nil)
			return true
		}
	}
	return false
}
