package node

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/node/agent"
	"github.com/meshcrypt/meshcrypt/node/datadir"
	"github.com/meshcrypt/meshcrypt/node/port"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// again starts a stopped member on its data directory; before is what is done to that
// first.
func (w *world) again(m *member, before func(path string)) *member {
	w.Helper()
	m.stop()
	before(m.dir.Path(""))
	dir, err := datadir.Open(m.dir.Path(""))
	w.ok(err)
	p, err := port.Listen(m.self.Listen, nil, w.log())
	w.ok(err)
	w.start(dir, p)
	now := w.members[len(w.members)-1]
	w.members = w.members[:len(w.members)-1]
	for i, other := range w.members {
		if other == m {
			w.members[i] = now
		}
	}
	return now
}

func asItIs(string) {}

// arbiter is the member that leads; nil: none does.
func (w *world) arbiter() *member {
	for _, m := range w.members {
		if !m.ended && m.arbiter.Load() != nil {
			return m
		}
	}
	return nil
}

// TestVoterPutBackToAnOlderDisk: a client is revoked by two of three voters, the third is
// down. Then one of the two is put back to its disk from before, and the other is down. The
// old disk and the one that was down would be a majority that never heard of it; a node
// that votes for nobody did, and it tells them. They elect nobody until the holder is back.
func TestVoterPutBackToAnOlderDisk(t *testing.T) {
	t.Parallel()
	w := threeVoters(t)
	w.join()
	holder, old, down, witness := w.members[0], w.members[1], w.members[2], w.members[3]
	w.propose(registry.Command{PutClient: &registry.PutClient{Client: registry.Client{Name: "alice", PasswordKey: witness.trust.Key.Public()}}})
	down.stop()
	image := t.TempDir()
	old = w.again(old, func(path string) { w.ok(os.CopyFS(image, os.DirFS(path))) })
	w.until("two voters have an arbiter", func() bool { return w.arbiter() != nil && len(w.heard(w.arbiter())) >= 3 })
	w.propose(registry.Command{RevokeClient: &registry.RevokeClient{Name: "alice"}})
	index := old.store.Load().Stats().Last
	w.until("a node was told", func() bool { return witness.memory.furthest().Index >= index })
	lacks := fmt.Sprintf("lacks changes that others know of (up to 1.%d.", witness.memory.furthest().Term)
	holder.stop()
	old = w.again(old, func(path string) {
		w.ok(os.RemoveAll(path))
		w.ok(os.CopyFS(path, os.DirFS(image)))
	})
	down = w.again(down, asItIs)
	for _, m := range []*member{old, down} {
		w.until(m.self.Name+" says what it lacks", func() bool {
			return strings.Contains(strings.Join(m.problems(agent.Report{}, nil, time.Hour), ""), lacks)
		})
	}
	elections, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	<-elections.Done()
	if m := w.arbiter(); m != nil {
		t.Fatalf("%s is the arbiter", m.self.Name)
	}
	holder = w.again(holder, asItIs)
	w.until("there is an arbiter", func() bool { return w.arbiter() != nil })
	for _, m := range []*member{holder, old, down} {
		w.until("alice is revoked at "+m.self.Name, func() (revoked bool) {
			w.ok(m.view(func(s *registry.State) { c := s.Clients.Get("alice"); revoked = c != nil && c.Revoked }))
			return revoked
		})
	}
}

// TestForgedHistoryIsNotBelieved: a node that is no voter cannot keep voters from electing
// anybody by a history that never was.
func TestForgedHistoryIsNotBelieved(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	founder, other := w.members[0], w.members[1]
	w.until("the history is told", func() bool {
		return founder.memory.furthest().Index > 0 && other.memory.furthest().Index > 0
	})
	before := founder.memory.furthest()
	if len(before.Leadership) == 0 || !before.Genuine(w.founded.Cluster) {
		t.Errorf("the arbiter names no leadership: %+v", before)
	}
	fence := protocol.Fence{Incarnation: 9, Term: 1 << 40}
	forged := protocol.SignKnown(other.trust.Key, w.founded.Cluster, fence, 1<<40, "")
	if founder.believes(forged) || !founder.believes(*other.memory.proven()) {
		t.Error("anybody may say it")
	}
	founder.told(forged)
	if after := founder.memory.furthest(); after.Fence == fence || after.Less(before) {
		t.Errorf("%+v", after)
	}
}
