package node

import (
	"crypto/rand"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/node/datadir"
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

// TestSilentArbiterIsDialledBehindTheVoters: a host without power takes all of
// DialTimeout, and the voters know who came after it.
func TestSilentArbiterIsDialledBehindTheVoters(t *testing.T) {
	n := searcher(t)
	expect := func(when string, want ...byte) {
		t.Helper()
		if got := n.order(); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", when, got, want)
		}
	}
	n.link.set(identity.NodeID{3}, outerOf(3))
	expect("its stream ended otherwise", 3, 2, 1, 4)
	n.link.fellSilent(identity.NodeID{1})
	expect("another fell silent", 3, 2, 1, 4)
	n.link.fellSilent(identity.NodeID{3})
	expect("it fell silent", 2, 3, 1, 4)
	if !n.atSilent(outerOf(3)) || n.atSilent(outerOf(2)) {
		t.Error("a redirect to it would be followed, or one to its successor not")
	}
	n.link.set(identity.NodeID{3}, outerOf(3))
	expect("it was reached again", 3, 2, 1, 4)
}

// TestSilenceOfAStreamIsTold, and another end is not.
func TestSilenceOfAStreamIsTold(t *testing.T) {
	for name, silent := range map[string]bool{"silence": true, "a goodbye": false} {
		near, far := net.Pipe()
		t.Cleanup(func() { near.Close(); far.Close() })
		told := false
		s := stream{Conn: protocol.NewStream(protocol.Alert{Conn: near, After: time.Millisecond}), silent: func() { told = true }}
		if !silent {
			far.Close()
		}
		if _, err := s.Read(); err == nil || told != silent {
			t.Errorf("%s: %v, told %v", name, err, told)
		}
	}
}

// TestRebuildGraceIsLongerThanTheWayBack: else a new arbiter takes the slices of nodes
// that are well, and have yet to find out that the old one is gone.
func TestRebuildGraceIsLongerThanTheWayBack(t *testing.T) {
	const hosts = 2 // that lost their power, the arbiter's among them
	if back := protocol.Silence + hosts*DialTimeout; session.RebuildGrace < back {
		t.Errorf("a new arbiter waits %v, and the way back may take %v", session.RebuildGrace, back)
	}
}
