package consensus

import (
	"errors"
	"math"

	"github.com/hashicorp/raft"
)

// noTerm is that of no entry: raft refuses what is said to follow one.
const noTerm = math.MaxUint64

// compare holds a leader's entries against the log, and has raft take for others those that
// are not the same. Raft then does what it does for entries of another term: it asks for
// what is before them, or replaces them, unless they were committed. It returns what
// is to be done with raft's answer.
func (r *Raft) compare(ask *raft.AppendEntriesRequest) (heard func(raft.RPCResponse)) {
	for _, entry := range ask.Entries {
		if entry.Extensions == nil {
			entry.Extensions = []byte{} // an older build's: it is not for us to sign
		}
	}
	if ask.Term < r.raft.CurrentTerm() {
		return func(raft.RPCResponse) {} // raft refuses it
	}
	//lint:ignore SA1019 raft takes the leader from the header, so this field is free for the word
	said, told := readWord(ask.Leader)
	at, fork := r.file.parts(ask, said.by), false
	refuse := at != 0 && at == ask.PrevLogEntry
	switch own := r.incarnation(); {
	case !told:
	case said.incarnation > own && own > 0 && !said.by.known && ask.PrevLogEntry > 0:
		at, refuse = ask.PrevLogEntry, true // an older build recovered the mesh: only its snapshot shows where
	case at > 0:
		fork = r.floor.guard(r.file, at, max(own, said.incarnation)) != nil
		refuse = refuse || fork
	}
	before := ask.PrevLogEntry
	switch {
	case refuse:
		ask.PrevLogEntry, ask.PrevLogTerm, ask.Entries = at, noTerm, nil
	case r.file.marked().stands(before):
		ask.PrevLogEntry, ask.PrevLogTerm = 0, 0 // it is the same; raft may remember another one there, which the snapshot replaced
	}
	if !refuse && at > 0 {
		r.file.apart.Store(at)
	}
	r.recommit(ask)
	return func(answer raft.RPCResponse) {
		r.file.apart.Store(0)
		if a, ok := answer.Response.(*raft.AppendEntriesResponse); ok {
			a.NoRetryBackoff = a.NoRetryBackoff && !fork // it would ask again without end
			if a.Success && told {
				r.floor.joined(before)
			}
		}
	}
}

// recommit has raft apply what a leader has committed below what was once committed here. Of a
// mesh that was recovered the log may be the shorter one, and raft, which never takes back how
// far that is, would apply none of it before it is as long. In no other case does a log end
// before what was committed in it.
func (r *Raft) recommit(ask *raft.AppendEntriesRequest) {
	end, err := r.file.LastIndex()
	if n := len(ask.Entries); n > 0 {
		end = max(end, ask.Entries[n-1].Index)
	}
	if was := r.raft.CommitIndex(); err == nil && end <= ask.LeaderCommitIndex && ask.LeaderCommitIndex < was {
		ask.LeaderCommitIndex = was + 1 // raft takes no more than the log has
	}
}

// parts is the first entry of a request that is not the one of this log; zero: there is none.
func (l *logStore) parts(ask *raft.AppendEntriesRequest, before origin) uint64 {
	if l.differs(ask.PrevLogEntry, led{ask.PrevLogTerm, before}) {
		return ask.PrevLogEntry
	}
	for _, entry := range ask.Entries {
		if l.differs(entry.Index, led{entry.Term, originOf(entry)}) {
			return entry.Index
		}
	}
	return 0
}

// parted says that a candidate's log ends in a term that was led twice, with the entries of
// one leadership, and this one has committed entries of the other. As leader it would get
// nothing committed, and this replica can vote for one that has the same.
func (r *Raft) parted(lastTerm uint64, said word) bool {
	end := r.file.end()
	last, err := r.file.at(end.index)
	return err == nil && last.term == lastTerm && last.by.differs(said.by) && r.floor.holds(r.file, last.term, said.incarnation)
}

// refusesSnapshot keeps what was committed from a leader that lacks it: a snapshot replaces
// everything. One of a recovered mesh does so on purpose.
func (r *Raft) refusesSnapshot(ask *raft.InstallSnapshotRequest) bool {
	r.file.coming.Store(nil)
	said, told := readWord(ask.Leader)
	if !told || ask.Term < r.raft.CurrentTerm() {
		return false // as before, and raft refuses it
	}
	at := led{ask.LastLogTerm, said.by}
	own := r.incarnation()
	if kept := r.floor.kept(); kept != nil && kept.Incarnation >= said.incarnation {
		return true
	}
	// A leader that has what this replica applied never needs to send less.
	less := ask.LastLogIndex < r.raft.AppliedIndex() || r.file.differs(ask.LastLogIndex, at)
	if less && r.late(ask, said.incarnation) {
		return true
	}
	if less && errors.Is(r.floor.guard(r.file, ask.LastLogIndex, max(own, said.incarnation)), ErrFork) {
		return true
	}
	r.keepFormer(said.incarnation)
	r.file.coming.Store(&coming{mark{ask.LastLogIndex, ask.LastLogTerm}, said.by})
	r.took.Store(&taken{string(ask.ID), said.incarnation, ask.Term, ask.LastLogIndex})
	return false
}

// taken is the snapshot that was let in last: from whom, in which term of his, up to where.
type taken struct {
	from                     string
	incarnation, term, index uint64
}

// late reports whether a leader has sent more than this snapshot before, in the same term: it
// was on its way for long, and says nothing of what its leader lacks.
func (r *Raft) late(ask *raft.InstallSnapshotRequest, incarnation uint64) bool {
	t := r.took.Load()
	return t != nil && t.from == string(ask.ID) && t.incarnation == incarnation && t.term == ask.Term && ask.LastLogIndex <= t.index
}
