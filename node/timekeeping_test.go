package node

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/node/control"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// says waits until a member's status has a sentence with these words in it.
func (w *world) says(m *member, words ...string) {
	w.Helper()
	w.until(m.self.Name+" says "+strings.Join(words, ", "), func() bool {
		report, ok := m.agent.Report(w.Context())
		return ok && slices.ContainsFunc(m.problems(report, nil, time.Hour), func(sentence string) bool {
			return !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(sentence, word) })
		})
	})
}

// TestArbiterWhoseClockJumps: what it mints from then on nobody takes, so another one
// leads within seconds, clients log in, and every node says whose clock is wrong. It is
// not chosen again before its clock is right, and comes back by itself then.
func TestArbiterWhoseClockJumps(t *testing.T) {
	t.Parallel()
	for name, ahead := range map[string]time.Duration{"a day ahead": 24 * time.Hour, "two hours behind": -2 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := threeVoters(t)
			bad, rest := w.members[0], w.members[1:]
			bad.wrong.Store(int64(ahead))
			begin := time.Now()
			w.until("another one is the arbiter, and hears a second node", func() bool {
				return bad.arbiter.Load() == nil && (len(w.heard(rest[0])) >= 2 || len(w.heard(rest[1])) >= 2)
			})
			if took := time.Since(begin); took > 10*time.Second {
				t.Errorf("another one leads after %v", took)
			}
			w.connect("alice", wide, rest...)
			for _, m := range rest {
				w.says(m, "the clock of n1 is", "timedatectl")
			}
			w.says(bad, "the clock of this host is", "timedatectl")
			if m := w.arbiter(); m != nil && w.operate(m, control.OpRaftTransfer, "n1") == nil {
				w.until("n1 gave the lead back", func() bool {
					return rest[0].arbiter.Load() != nil || rest[1].arbiter.Load() != nil
				})
				if bad.arbiter.Load() != nil {
					t.Error("a node with a wrong clock is the arbiter again")
				}
			}
			bad.wrong.Store(0)
			w.until("n1 is back, and nobody's clock is wrong", func() bool {
				self := bad.Node.members.find(bad.trust.Key.ID())
				report, ok := bad.agent.Report(w.Context())
				return ok && report.Heard && self.Clock == 0 && len(bad.wrongClocks(true)) == 0
			})
		})
	}
}

// tells is the answer of a node that was asked for the time.
func (m *member) tells(from protocol.NodeRow, k protocol.Known) {
	m.clocks.begin(from.ID)
	defer m.clocks.end(from.ID)
	m.hearClock(from, &protocol.Clock{Wall: time.Now().UnixMilli(), Known: &k})
}

// TestOnlyArbitersSignTheLog: what a voter passes on of the log counts if a node that may
// be an arbiter signed it, for this replica and for claims of a mesh that was recovered.
func TestOnlyArbitersSignTheLog(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	founder, member := w.members[0], w.members[1]
	far := protocol.Fence{Incarnation: 7, Term: 7}
	forged := protocol.SignKnown(founder.trust.Key, founder.self.Cluster, far, 7, "")
	forged.Index++
	row := founder.Node.members.find(member.trust.Key.ID())
	for what, k := range map[string]protocol.Known{
		"by a node that may not": protocol.SignKnown(member.trust.Key, founder.self.Cluster, far, 7, ""),
		"of another mesh":        protocol.SignKnown(founder.trust.Key, identity.ClusterID{9}, far, 7, ""),
		"changed on the way":     forged,
	} {
		founder.tells(row, k)
		if founder.store.Load().Behind() || founder.recovered(row, 7) {
			t.Errorf("%s: believed", what)
		}
	}
	founder.tells(row, protocol.SignKnown(founder.trust.Key, founder.self.Cluster, protocol.Fence{Incarnation: 1, Term: 99}, 99, ""))
	for _, woke := range []bool{false, true} { // it heard of all that at once, and of no arbiter yet
		if says := founder.noArbiter(woke); strings.Contains(says, "operator recover") == woke {
			t.Errorf("just after a stop, %v: %q", woke, says)
		}
	}
	good := protocol.SignKnown(founder.trust.Key, founder.self.Cluster, far, 7, "")
	founder.tells(row, good)
	if !founder.store.Load().Behind() || !founder.recovered(row, 7) || founder.recovered(row, 8) {
		t.Error("a word of one that may be an arbiter is not believed")
	}
	if says := member.wordOf(good); !strings.Contains(says, "up to 7.7.7 by the word of n1; if it never was the arbiter it lies: stop it") {
		t.Errorf("the signer is not named: %q", says)
	}
	if says := founder.wordOf(founder.clocks.passed()); says != "" {
		t.Errorf("of its own word: %q", says)
	}
}

// TestClaimOfARecoveryIsAskedFor: who claims by a later incarnation is asked for its proof.
func TestClaimOfARecoveryIsAskedFor(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	here, there := w.members[0], w.members[1]
	there.told(protocol.SignKnown(here.trust.Key, there.self.Cluster, protocol.Fence{Incarnation: 7, Term: 1}, 1, ""))
	row := here.Node.members.find(there.trust.Key.ID())
	w.until("it is believed", func() bool { return here.recovered(row, 7) })
	if here.recovered(row, 8) {
		t.Error("and a later one")
	}
}
