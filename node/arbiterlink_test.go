package node

import (
	"net/netip"
	"testing"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/node/loop"
	"github.com/meshcrypt/meshcrypt/node/search"
	"github.com/meshcrypt/meshcrypt/node/session"
)

func outerOf(i byte) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, i}), 6484)
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
	if back := loop.NodePatience + hosts*search.Within; session.RebuildGrace < back {
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
