package node

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/node/agent"
	"github.com/meshcrypt/meshcrypt/node/datadir"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// losses are how a log goes; what is left of its directory does not matter.
var losses = map[string]func(raft string) error{
	"removed": os.RemoveAll,
	"emptied": func(raft string) error {
		if err := os.RemoveAll(raft); err != nil {
			return err
		}
		return os.MkdirAll(raft, 0o700)
	},
	"cut to nothing": func(raft string) error { return os.Truncate(filepath.Join(raft, "raft.db"), 0) },
}

// TestVoterThatLostItsLog: it must not vote by an empty one. Its vote is taken, it is filled
// and given one anew, by itself; and then the mesh can do without another voter.
func TestVoterThatLostItsLog(t *testing.T) {
	t.Parallel()
	for how, lose := range losses {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			w := threeVoters(t)
			w.propose(registry.Command{PutClient: &registry.PutClient{Client: registry.Client{Name: "alice", PasswordKey: w.members[0].trust.Key.Public()}}})
			victim := w.members[2]
			w.until("it knows that it votes", func() bool { return victim.Node.members.find(victim.trust.Key.ID()).Voter })
			victim.saveMembers()
			victim = w.again(victim, func(path string) { w.ok(lose(filepath.Join(path, datadir.RaftDir))) })
			if w.journal.count("the log of this voter is gone; it becomes a voter anew when an arbiter is heard") != 1 {
				t.Error("it opened an empty log by itself")
			}
			w.until("its vote was taken, and it has another", func() bool {
				return w.journal.count("a voter has lost its log, so it gets another one and its vote anew") == 1 && victim.votes() &&
					len(votersBeside(w.members[0].store.Load(), w.members[0].trust.Key.ID())) == 2
			})
			w.until("it has what was committed", func() (has bool) {
				victim.store.Load().View(func(s *registry.State) { has = s.Clients.Get("alice") != nil })
				return has
			})
			w.members[0].stop()
			w.until("the two others have an arbiter", func() bool { return w.arbiter() != nil })
		})
	}
}

// TestOnlyVoterThatLostItsLog: nothing brings it back by itself, so it says what does.
func TestOnlyVoterThatLostItsLog(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.members[0].saveMembers()
	m := w.again(w.members[0], func(path string) { w.ok(os.RemoveAll(filepath.Join(path, datadir.RaftDir))) })
	says := strings.Join(m.problems(agent.Report{}, nil, time.Hour), "\n")
	if m.store.Load() != nil || !strings.Contains(says, "which was the only voter, is gone") || !strings.Contains(says, "operator snapshot restore FILE") {
		t.Errorf("it says %q", says)
	}
	if w.journal.count("the log of this voter is gone; it becomes a voter anew when an arbiter is heard") != 0 ||
		w.journal.count("the log of this node is gone, and no other one votes, so there is no arbiter before it is back; meshcrypt status says what brings it back") != 1 {
		t.Errorf("its log promises an arbiter that cannot be: %v", w.journal.all())
	}
}

// TestDamagedKnowledgeIsSaid: a node goes on without what it knew of the mesh's history, by
// the fence that it kept elsewhere, and its log says so, once.
func TestDamagedKnowledgeIsSaid(t *testing.T) {
	t.Parallel()
	const says = "how far the mesh's history went, as this node was told, cannot be read; " +
		"it goes on by the fence in members.json and is told anew. Nothing is to be done, but if it comes again look at the disk (dmesg)"
	w := newWorld(t, 1)
	w.members[0].saveMembers()
	fence := w.members[0].Node.members.fence
	m := w.again(w.members[0], func(path string) { w.ok(os.WriteFile(filepath.Join(path, "known.json"), []byte("{\"incarn"), 0o600)) })
	if n := w.journal.count(says); n != 1 {
		t.Errorf("said %d times", n)
	}
	if got := m.memory.furthest(); fence.Term == 0 || got.Less(protocol.Known{Fence: fence}) {
		t.Errorf("it goes on by %+v, had obeyed %+v", got, fence)
	}
	w.again(m, asItIs)
	if n := w.journal.count(says); n != 1 {
		t.Errorf("said %d times after the next start", n)
	}
}

// TestFileInPlaceOfTheLog: a daemon that cannot open its log says what is there, and what
// brings it back, whoever else votes.
func TestFileInPlaceOfTheLog(t *testing.T) {
	dir, err := datadir.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	path := dir.Path(datadir.RaftDir)
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	err = (&Node{dir: dir}).openStoreIfKept()
	if !errors.Is(err, ErrDamagedLog) || !strings.Contains(err.Error(), "a file is where the directory "+path+" should be. Move "+path+" away.") {
		t.Errorf("it says %v", err)
	}
}
