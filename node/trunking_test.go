package node

import (
	"crypto/tls"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/crypto/pki"
	"github.com/meshcrypt/meshcrypt/node/port"
)

// singly counts what is relayed to an arbiter by connections of their own.
func (m *member) singly() *atomic.Int32 {
	var relays atomic.Int32
	m.port.Handle(port.ALPNRelay, pki.Server(port.ALPNRelay, m.trust.ArbiterCertificate, nil), func(c *tls.Conn, _ netip.AddrPort) {
		relays.Add(1)
		c.Close()
	})
	return &relays
}

// way is the node's present trunk; nil: none was needed.
func (m *member) way() *port.Way {
	m.link.mu.Lock()
	defer m.link.mu.Unlock()
	return m.link.way
}

// takesTrunks waits until the node has heard that its arbiter does.
func (m *member) takesTrunks(w *world) {
	w.until("the node hears of trunks", func() bool {
		m.link.mu.Lock()
		defer m.link.mu.Unlock()
		return m.link.stream != nil && m.link.fenced == m.link.stream && m.link.trunks
	})
}

// TestOneTrunkForAll: however many clients come through a gateway, it has one connection
// to the arbiter for them, and so one handshake. They all come back when it breaks.
func TestOneTrunkForAll(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	arbiter, gateway := w.members[0], w.members[1]
	gateway.takesTrunks(w)
	relays := arbiter.singly()
	var visitors []*visitor
	var first *port.Way
	for _, name := range []string{"ann", "ben", "cem"} {
		before := arbiter.port.Stats().Handled
		visitors = append(visitors, w.connect(name, wide, gateway))
		cost := arbiter.port.Stats().Handled - before // its own, and the first one's trunk
		if first == nil {
			first = gateway.way()
			cost--
		}
		if cost != 1 || gateway.way() != first {
			t.Errorf("%s costs the arbiter %d handshakes", name, cost)
		}
	}
	if relays.Load() != 0 {
		t.Errorf("%d were relayed singly", relays.Load())
	}
	first.Close()
	for _, v := range visitors {
		w.until("the session is resumed", func() bool { return v.journal.count("session resumed") == 1 })
	}
	w.connect("dan", wide, gateway)
	if now := gateway.way(); now == first || relays.Load() != 0 {
		t.Errorf("the way is the old one: %t, %d were relayed singly", now == first, relays.Load())
	}
}

// TestTrunkEndsWithTheReign: its clients go on to the next arbiter.
func TestTrunkEndsWithTheReign(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	gateway := w.members[1]
	gateway.takesTrunks(w)
	v := w.connect("ann", wide, gateway)
	first := gateway.way()
	gateway.link.set(identity.NodeID{9}, netip.AddrPort{}, nil)
	gateway.agent.Redial()
	w.until("the trunk ends", func() bool { return first.Over() })
	w.until("the session is resumed", func() bool { return v.journal.count("session resumed") >= 1 })
}

// TestOlderArbiterTakesNoTrunk: it does not say that it does, so each client goes by a
// connection of its own; and an arbiter takes those of older gateways.
func TestOlderArbiterTakesNoTrunk(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	gateway := w.members[1]
	gateway.takesTrunks(w)
	gateway.link.mu.Lock()
	gateway.link.trunks = false
	gateway.link.mu.Unlock()
	v := w.connect("ann", wide, gateway)
	v.exchange(1)
	if gateway.way() != nil {
		t.Error("there is a trunk to an arbiter that says nothing of trunks")
	}
}

// TestCrowdWaitsForTheTrunk: clients that are there before the arbiter has spoken, as after
// a restart of all nodes, wait for its word and go by one trunk.
func TestCrowdWaitsForTheTrunk(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	arbiter, gateway := w.members[0], w.members[1]
	gateway.takesTrunks(w)
	relays := arbiter.singly()
	gateway.link.mu.Lock()
	stream := gateway.link.fenced
	gateway.link.fenced = nil
	gateway.link.mu.Unlock()
	time.AfterFunc(TrunkWait/2, func() { gateway.link.heard(stream, true) })
	w.connect("ann", wide, gateway)
	if gateway.way() == nil || relays.Load() != 0 {
		t.Errorf("%d went by connections of their own", relays.Load())
	}
}
