package consensus

import (
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// sent counts what goes to a follower.
type sent struct {
	raft.AppendPipeline
	count int
}

func (s *sent) AppendEntries(*raft.AppendEntriesRequest, *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	s.count++
	return nil, nil
}

// TestIdleLeaderSaysLittle: what was said is said again once in SaidAgain; what is new, at
// once.
func TestIdleLeaderSaysLittle(t *testing.T) {
	out, now := &sent{}, time.Now()
	p := &pipeline{AppendPipeline: out, replica: &Raft{fsm: newFSM()}, now: func() time.Time { return now }}
	say := func(ask raft.AppendEntriesRequest) (went bool) {
		t.Helper()
		before := out.count
		if _, err := p.AppendEntries(&ask, nil); err != nil {
			t.Fatal(err)
		}
		return out.count > before
	}
	idle := raft.AppendEntriesRequest{Term: 3}
	for begun := now; now.Sub(begun) < 10*time.Second; now = now.Add(CommitTimeout) {
		say(idle)
	}
	if out.count != 10 {
		t.Errorf("said %d times in ten seconds", out.count)
	}
	committed, later := idle, idle
	committed.LeaderCommitIndex = 1
	later.Term = 4
	for name, ask := range map[string]raft.AppendEntriesRequest{"more is committed": committed, "a later term": later} {
		say(idle)
		if !say(ask) {
			t.Errorf("%s: not said at once", name)
		}
		if say(ask) {
			t.Errorf("%s: said twice", name)
		}
	}
	entry := idle
	entry.Entries = []*raft.Log{{Index: 1, Term: 3}}
	if !say(entry) || !say(entry) {
		t.Error("entries are left out")
	}
	if !say(committed) {
		t.Error("not said after entries")
	}
}
