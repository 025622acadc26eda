package arbiter

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

const voterToo = dataRoles | registry.RoleVoter

// quorum is a mesh of three connected voters; the first is the arbiter.
type quorum struct {
	*fixture
	a             *Arbiter
	own           identity.NodeID
	second, third *nodeStream
}

func newQuorum(t *testing.T) *quorum {
	t.Helper()
	q := &quorum{fixture: newFixture(t)}
	q.a, q.own = q.still(), q.trust.Key.ID()
	q.connect(q.a, q.own)
	q.second, q.third = q.member(q.a, "n2", voterToo), q.member(q.a, "n3", voterToo)
	q.settle()
	if len(q.store.servers) != 3 || len(q.a.voters()) != 3 {
		t.Fatalf("voters %v", q.a.voters())
	}
	q.store.log = nil
	return q
}

// turn lets half a second pass in the loop; it reports whether the electorate
// moved.
func (q *quorum) turn() bool {
	q.Helper()
	q.now.Add(int64(500 * time.Millisecond))
	q.a.tendLeavers()
	q.a.countVoters()
	q.commitProposed()
	plan := q.a.planElectorate()
	if plan == nil {
		return false
	}
	q.safely(func() { _ = plan(context.Background()) })
	for len(q.a.events) > 0 {
		(<-q.a.events).apply(q.a)
	}
	return true
}

// settle turns until nothing moves any more.
func (q *quorum) settle() {
	q.Helper()
	for range 50 {
		if !q.turn() {
			return
		}
	}
	q.Fatalf("the electorate never rests: %v", q.store.log)
}

// after lets time pass in turns.
func (q *quorum) after(d time.Duration) {
	q.Helper()
	for end := q.now.Load() + int64(d); q.now.Load() < end; {
		q.turn()
	}
}

// safely sees that one step takes no more than one vote, and never leaves the
// heard voters without a majority that they had before.
func (q *quorum) safely(step func()) {
	q.Helper()
	before := q.votes()
	step()
	after := q.votes()
	gone := 0
	for id := range before {
		if !after[id] {
			gone++
		}
	}
	if gone > 1 {
		q.Errorf("%d votes went in one step", gone)
	}
	if q.majority(before) && !q.majority(after) {
		q.Errorf("the quorum was given up: %v", q.store.log)
	}
}

func (q *quorum) votes() map[identity.NodeID]bool {
	votes := make(map[identity.NodeID]bool)
	for id, voter := range q.a.voters() {
		if voter {
			votes[id] = true
		}
	}
	return votes
}

func (q *quorum) majority(votes map[identity.NodeID]bool) bool {
	heard := 0
	for id := range votes {
		if q.a.nodes[id] != nil {
			heard++
		}
	}
	return 2*heard > len(votes)
}

// commitProposed commits what the loop submitted.
func (q *quorum) commitProposed() {
	q.Helper()
	for len(q.a.proposals) > 0 {
		p := <-q.a.proposals
		result, err := q.store.Propose(context.Background(), p.command)
		outcome{p, result, err}.apply(q.a)
	}
}

// silence takes a node's stream away; the others say whether they hear it.
func (q *quorum) silence(n *nodeStream, confirmed bool) {
	delete(q.a.nodes, n.node)
	for _, other := range q.a.nodes {
		other.silent[n.node] = confirmed
	}
}

// log is what was done about one node, without its name.
func (q *quorum) logOf(id identity.NodeID) (did []string) {
	for _, line := range q.store.log {
		if what, is := strings.CutSuffix(line, " "+id.Short()); is {
			did = append(did, what)
		}
	}
	return did
}

func (q *quorum) wantLog(want ...string) {
	q.Helper()
	if !slices.Equal(q.store.log, want) {
		q.Errorf("done: %v, want %v", q.store.log, want)
	}
}
