package consensus

import (
	"testing"

	"github.com/hashicorp/raft"
)

// compared is a request, and what is to become of it.
type compared struct {
	said     word
	before   uint64
	entries  []*raft.Log
	applied  bool
	old      bool // of an older term
	snapshot bool // stands for the end of the log
	refused  uint64
	apart    uint64
	fork     bool
}

// prepare makes the replica's log and registry what the case needs.
func (k compared) prepare(r *Raft, end mark, by origin) {
	r.file.applied = func() Known { return Known{} }
	if k.applied {
		r.file.applied = r.applied
	}
	r.file.mu.Lock()
	if r.file.snapshot, r.file.snapshotBy = (mark{}), (origin{}); k.snapshot {
		r.file.snapshot, r.file.snapshotBy = end, by
	}
	r.file.mu.Unlock()
}

// voterAlone is the only voter of a mesh, with a command, and the entry that its log ends with.
func voterAlone(t *testing.T) (c *cluster, r *Raft, end mark, here led) {
	t.Helper()
	c = newCluster(t, 1, nil)
	c.must(c.leader(), tick(1))
	r = c.nodes[0]
	end = r.file.end()
	here, err := r.file.at(end.index)
	c.ok(err)
	return c, r, end, here
}

// TestCompare: what becomes of a request for entries that are those of the log or others, of
// this leadership or another, committed or not, from this incarnation or a later one.
func TestCompare(t *testing.T) {
	c, r, end, here := voterAlone(t)
	own := r.incarnation()
	earlier, err := r.file.at(end.index - 1)
	c.ok(err)
	other := newOrigin()
	entry := func(index uint64, of led) *raft.Log {
		return &raft.Log{Index: index, Term: of.term, Extensions: []byte(of.by.id)}
	}
	theirs := entry(end.index, led{end.term, other})
	for name, k := range map[string]compared{
		"its own":                               {said: word{own, here.by}, before: end.index},
		"behind a snapshot":                     {said: word{own, here.by}, before: end.index, snapshot: true},
		"another's before":                      {said: word{own, other}, before: end.index, refused: end.index},
		"another's before, of a deposed leader": {said: word{own, other}, before: end.index, old: true},
		"another's, not committed":              {said: word{own, earlier.by}, before: end.index - 1, entries: []*raft.Log{theirs}, apart: end.index},
		"another's, committed":                  {said: word{own, earlier.by}, before: end.index - 1, entries: []*raft.Log{theirs}, applied: true, refused: end.index, fork: true},
		"a recovered mesh's":                    {said: word{own + 1, earlier.by}, before: end.index - 1, entries: []*raft.Log{theirs}, applied: true, apart: end.index},
		"an older build's that was recovered":   {said: word{own + 1, origin{}}, before: end.index - 1, refused: end.index - 1},
		"the second one is another's":           {said: word{own, origin{}}, before: end.index - 2, entries: []*raft.Log{entry(end.index-1, earlier), theirs}, apart: end.index},
	} {
		k.prepare(r, end, here.by)
		before, err := r.file.at(k.before)
		c.ok(err)
		ask := &raft.AppendEntriesRequest{Term: r.look().Term, PrevLogEntry: k.before, PrevLogTerm: before.term, Entries: k.entries}
		if k.old {
			ask.Term--
		}
		//lint:ignore SA1019 raft takes the leader from the header, so this field is free for the word
		ask.Leader = k.said.bytes()
		heard := r.compare(ask)
		switch {
		case k.refused > 0 && (ask.PrevLogEntry != k.refused || ask.PrevLogTerm != noTerm || ask.Entries != nil):
			t.Errorf("%s: raft does not refuse %+v", name, ask)
		case k.snapshot && ask.PrevLogEntry != 0:
			t.Errorf("%s: raft looks at what the snapshot replaced", name)
		case k.refused == 0 && !k.snapshot && (ask.PrevLogEntry != k.before || ask.PrevLogTerm != before.term || len(ask.Entries) != len(k.entries)):
			t.Errorf("%s: raft is shown %+v", name, ask)
		}
		if got := r.file.apart.Load(); got != k.apart {
			t.Errorf("%s: apart from %d on, not %d", name, got, k.apart)
		}
		if kept := r.floor.kept() != nil; kept != k.fork {
			t.Errorf("%s: something is kept: %v", name, kept)
		}
		answer := &raft.AppendEntriesResponse{NoRetryBackoff: true}
		if heard(raft.RPCResponse{Response: answer}); answer.NoRetryBackoff == k.fork || r.file.apart.Load() != 0 {
			t.Errorf("%s: it is asked again at once: %v; the log is apart from %d on", name, answer.NoRetryBackoff, r.file.apart.Load())
		}
		if kept := r.floor.kept() != nil; kept != k.fork {
			t.Errorf("%s: a refusal ended what is kept", name)
		}
		r.floor.mu.Lock()
		r.floor.fork = nil
		r.floor.mu.Unlock()
	}
}

// TestForkEndsByALeader that has what is kept, and says whose its entries are.
func TestForkEndsByALeader(t *testing.T) {
	_, r, end, here := voterAlone(t)
	own := r.incarnation()
	for name, k := range map[string]struct {
		said string
		ends bool
	}{"says whose they are": {string(word{own, here.by}.bytes()), true}, "an older build": {"", false}} {
		r.floor.mu.Lock()
		r.floor.fork = &Known{Incarnation: own, Term: end.term, Index: end.index}
		r.floor.mu.Unlock()
		ask := &raft.AppendEntriesRequest{Term: r.look().Term, PrevLogEntry: end.index, PrevLogTerm: end.term, Entries: []*raft.Log{{Index: end.index + 1, Term: end.term}}}
		//lint:ignore SA1019 raft takes the leader from the header, so this field is free for the word
		ask.Leader = []byte(k.said)
		r.compare(ask)(raft.RPCResponse{Response: &raft.AppendEntriesResponse{Success: true}})
		if ended := r.floor.kept() == nil; ended != k.ends {
			t.Errorf("%s: ended %v", name, ended)
		}
		if ask.Entries[0].Extensions == nil {
			t.Errorf("%s: its entry is for us to sign", name)
		}
	}
}

// TestRecommit: only a log that ends before what was once committed in it has raft count anew.
func TestRecommit(t *testing.T) {
	c := newCluster(t, 1, nil)
	c.must(c.leader(), tick(1))
	r := c.nodes[0]
	end := r.file.end().index
	for leader, want := range map[uint64]uint64{0: 0, end - 1: end - 1, end: end, end + 5: end + 5} {
		ask := &raft.AppendEntriesRequest{LeaderCommitIndex: leader}
		if r.recommit(ask); ask.LeaderCommitIndex != want {
			t.Errorf("of %d entries %d are committed, and raft is told of %d", end, leader, ask.LeaderCommitIndex)
		}
	}
}
