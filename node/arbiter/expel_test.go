package arbiter

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// remove is Expel with the loop turned by the test.
func (q *quorum) remove(id identity.NodeID) (err error) {
	q.Helper()
	q.safely(func() {
		ctx, cancel := context.WithTimeout(context.Background(), hangLimit)
		defer cancel()
		answer := make(chan error, 1)
		go func() { answer <- q.a.Expel(ctx, id) }()
		for {
			select {
			case e := <-q.a.events:
				e.apply(q.a)
			case err = <-answer:
				for q.a.electing {
					(<-q.a.events).apply(q.a)
				}
				return
			}
		}
	})
	return err
}

// TestExpelSilentVoter: it goes at once, its successor follows, and the key that
// it has opens nothing any more.
func TestExpelSilentVoter(t *testing.T) {
	q := newQuorum(t)
	q.silence(q.second, false)
	fourth := q.member(q.a, "n4", voterToo)
	q.ok(q.remove(q.second.node))
	q.wantLog("remove " + q.second.node.Short())
	q.settle()
	if votes := q.votes(); len(votes) != 3 || !votes[fourth.node] {
		t.Errorf("voters %v: %v", votes, q.store.log)
	}
	q.wantGeneration(2, []identity.NodeID{q.own, q.third.node, fourth.node}, []identity.NodeID{q.second.node})
}

// TestExpelledStaysOut until it opens another stream.
func TestExpelledStaysOut(t *testing.T) {
	q := newQuorum(t)
	q.ok(q.remove(q.second.node))
	q.settle()
	if votes := q.votes(); len(votes) != 1 || !votes[q.own] {
		t.Errorf("voters %v: %v", votes, q.store.log)
	}
	q.wantGeneration(2, []identity.NodeID{q.own, q.third.node}, []identity.NodeID{q.second.node})
	back := stub(t, q.second.node)
	nodeOpened{back}.apply(q.a)
	q.settle() // it is a standby, and says so
	q.reports(back, 0)
	q.settle()
	if votes := q.votes(); len(votes) != 3 {
		t.Errorf("voters %v: %v", votes, q.store.log)
	}
}

// TestExpelRefuses what the mesh could not go on without.
func TestExpelRefuses(t *testing.T) {
	q := newQuorum(t)
	refused := func(id identity.NodeID, want error) {
		t.Helper()
		if err := q.remove(id); !errors.Is(err, want) {
			t.Errorf("got %v, want %v", err, want)
		}
	}
	refused(identity.NodeID{9}, ErrNoServer)
	refused(q.own, ErrIsArbiter)
	q.silence(q.third, true)
	refused(q.second.node, ErrNoQuorum) // it would leave this node and the silent one
	q.wantLog()
	q.connect(q.a, q.third.node)
	q.store.servers = q.store.servers[:1]
	refused(q.own, ErrLastVoter)
	if len(q.a.expelled) != 0 {
		t.Errorf("refused, and yet expelled: %v", q.a.expelled)
	}
}

// TestExpelStandby: it has no vote to lose.
func TestExpelStandby(t *testing.T) {
	q := newQuorum(t)
	q.store.servers = slices.DeleteFunc(q.store.servers, func(s consensus.Server) bool { return s.ID != q.own })
	q.store.servers = append(q.store.servers, consensus.Server{ID: q.second.node})
	q.silence(q.second, true)
	q.ok(q.remove(q.second.node))
	q.wantLog("remove " + q.second.node.Short())
}

// TestExpelWaitsItsTurn: behind a change that is under way, and no longer than
// it is waited for.
func TestExpelWaitsItsTurn(t *testing.T) {
	q := newQuorum(t)
	q.a.electing = true
	ctx, cancel := context.WithCancel(context.Background())
	answer := make(chan error, 1)
	go func() { answer <- q.a.Expel(ctx, q.second.node) }()
	for range 3 {
		(<-q.a.events).apply(q.a)
	}
	q.wantLog()
	cancel()
	select {
	case err := <-answer:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	case <-time.After(hangLimit):
		t.Fatal("waits for ever")
	}
}
