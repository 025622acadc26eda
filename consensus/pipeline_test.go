package consensus

import (
	"io"
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
	var beats answers
	p := &pipeline{AppendPipeline: out, replica: &Raft{fsm: newFSM()}, now: func() time.Time { return now }, answered: beats.of("other")}
	beats.of("other").Store(now.Add(time.Hour).UnixNano())
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
	if once, twice := say(entry), say(entry); !once || !twice {
		t.Error("entries are left out")
	}
	if !say(committed) {
		t.Error("not said after entries")
	}
	beats.of("other").Store(now.Add(-AnsweredLately).UnixNano())
	if !say(committed) {
		t.Error("its beats are not answered, and the lease hangs on them alone")
	}
}

// TestSenderWaitsForNobody: whose answers raft takes no more ends, or its process could not.
func TestSenderWaitsForNobody(t *testing.T) {
	var ends [2]*raft.NetworkTransport
	for n := range ends {
		end, err := raft.NewTCPTransport("127.0.0.1:0", nil, 2, time.Second, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { end.Close() })
		ends[n] = end
	}
	go func() {
		for ask := range ends[1].Consumer() {
			ask.Respond(&raft.AppendEntriesResponse{Term: 9}, nil)
		}
	}()
	real, err := ends[0].AppendEntriesPipeline("b", ends[1].LocalAddr())
	if err != nil {
		t.Fatal(err)
	}
	defer real.Close()
	p := &pipeline{AppendPipeline: real, replica: &Raft{fsm: newFSM()}, now: time.Now, within: 50 * time.Millisecond}
	ended := make(chan error, 1)
	go func() {
		for n := uint64(1); n < 10; n++ {
			if _, err := p.AppendEntries(&raft.AppendEntriesRequest{Term: 3, LeaderCommitIndex: n}, new(raft.AppendEntriesResponse)); err != nil {
				ended <- err
				return
			}
		}
		ended <- nil
	}()
	select {
	case err := <-ended:
		if err == nil {
			t.Error("there is room for all: this shows nothing")
		}
	case <-time.After(10 * time.Second):
		t.Fatal("it waits for ever")
	}
}
