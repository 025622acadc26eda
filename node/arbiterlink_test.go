package node

import (
	"crypto/rand"
	"crypto/tls"
	"errors"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/crypto/pki"
	"github.com/meshcrypt/meshcrypt/node/datadir"
	"github.com/meshcrypt/meshcrypt/node/loop"
	"github.com/meshcrypt/meshcrypt/node/port"
	"github.com/meshcrypt/meshcrypt/node/protocol"
	"github.com/meshcrypt/meshcrypt/node/session"
	"github.com/meshcrypt/meshcrypt/node/trust"
)

// searcher is a node that has no vote, of a mesh of five; two others vote.
func searcher(t *testing.T) *Node {
	t.Helper()
	key, err := identity.NewKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	n := &Node{trust: &trust.Trust{Key: key}, self: datadir.Node{Outer: outerOf(9)}}
	n.members.rows = []protocol.NodeRow{{ID: key.ID(), Index: 9, Outer: outerOf(9)}}
	for i := byte(1); i <= 4; i++ {
		n.members.rows = append(n.members.rows, protocol.NodeRow{
			ID: identity.NodeID{i}, Index: identity.Index(i), Outer: outerOf(i), Voter: i == 2 || i == 3,
		})
	}
	return n
}

func outerOf(i byte) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, i}), 6484)
}

// order is where the node looks for an arbiter, each address once.
func (n *Node) order() (all []byte) {
	for _, at := range n.arbiterCandidates() {
		if last := at.Addr().As4()[3]; !slices.Contains(all, last) {
			all = append(all, last)
		}
	}
	return all
}

// TestArbiterIsSought: where it was last, at the voters, then anywhere.
func TestArbiterIsSought(t *testing.T) {
	n := searcher(t)
	n.link.set(identity.NodeID{3}, outerOf(3), nil)
	if got, want := n.order(), []byte{3, 2, 1, 4}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// TestReignEnds when another node is known to be the arbiter, and not when the same one
// is found again: what is relayed to it goes on.
func TestReignEnds(t *testing.T) {
	var l arbiterLink
	_, before, release := l.during(t.Context())
	release()
	l.set(identity.NodeID{1}, outerOf(1), nil)
	at, reign, release := l.during(t.Context())
	defer release()
	l.set(identity.NodeID{1}, outerOf(7), nil)
	if at != outerOf(1) || before.Err() == nil || reign.Err() != nil {
		t.Fatalf("at %v: %v", at, reign.Err())
	}
	l.set(identity.NodeID{2}, outerOf(2), nil)
	<-reign.Done()
}

// TestRebuildGraceIsLongerThanTheWayBack: else a new arbiter takes the slices of nodes
// that are well, and have yet to find out that the old one is gone.
func TestRebuildGraceIsLongerThanTheWayBack(t *testing.T) {
	const hosts = 2 // that lost their power, the arbiter's among them
	if back := loop.NodePatience + hosts*DialTimeout; session.RebuildGrace < back {
		t.Errorf("a new arbiter waits %v, and the way back may take %v", session.RebuildGrace, back)
	}
}

// TestLeaderIsHeeded: a node leaves its stream when its own replica knows that another
// node leads, for the old one may say nothing any more; and for no other reason.
func TestLeaderIsHeeded(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	m := w.members[0]
	self := m.trust.Key.ID()
	w.until("the founder's stream leads to itself", func() bool { return m.link.leads(self) })
	m.link.mu.Lock()
	first := m.link.stream
	m.link.mu.Unlock()
	m.heedLeader(self)
	m.heedLeader(identity.NodeID{}) // the registry has no leader just now
	select {
	case <-first.Done():
		t.Fatal("left though nothing else is known")
	default:
	}
	m.heedLeader(identity.NodeID{9})
	w.until("the stream is left", func() bool {
		select {
		case <-first.Done():
			return true
		default:
			return false
		}
	})
	w.until("it is sought again", func() bool { return m.link.leads(self) })
}

// TestLeaderOpensItsDoors: a node that says that it leads is asked again until its doors are
// open or it knows better, else the search would wait for the host whose place it takes.
func TestLeaderOpensItsDoors(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	leader, asks := w.members[0], w.members[1]
	var asked atomic.Int32
	withdraw := leader.port.Handle(port.ALPNStream, pki.Server(port.ALPNStream, leader.trust.Certificate, nil),
		func(conn *tls.Conn, _ netip.AddrPort) {
			defer conn.Close()
			to := protocol.Redirect{Node: leader.trust.Key.ID(), Outer: leader.self.Outer}
			if asked.Add(1) == 3 {
				to = protocol.Redirect{Node: identity.NodeID{9}, Outer: outerOf(9)}
			}
			_ = protocol.NewStream(conn).Write(&protocol.Node{Redirect: &to})
		})
	defer withdraw()
	_, redirect, err := asks.dialStream(t.Context(), leader.self.Outer)
	if asked.Load() != 3 || !slices.Equal(redirect, []netip.AddrPort{outerOf(9)}) || !errors.Is(err, trust.ErrNotArbiter) {
		t.Errorf("asked %d times, then %v: %v", asked.Load(), redirect, err)
	}
}
