package arbiter

import (
	"slices"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/crypto/mka"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// A link is an SA pair between two nodes, under which they hand on where policy has
// that sealed: MKA/1 with the asking node in the client's place. Its grant states two
// committed facts, that both are members and that the policy wants it, so it needs no
// entry of its own (I6).

// link grants one node an SA pair with another.
func (a *Arbiter) link(n *nodeStream, m *protocol.Link) {
	peer, now := a.nodes[m.Peer], a.config.Now()
	hello, err := mka.ParseHello(m.Hello)
	if peer == nil || peer == n || err != nil || now-n.linked[m.Peer] < LinkPause {
		return // it asks again
	}
	suite, ok := chooseSuite(hello.Suites, a.linkSuites())
	if !ok || !slices.Contains(hello.Versions, mka.Version) {
		return
	}
	grant, ok := a.linkGrant(n.node, peer, hello, mka.HashHello(m.Hello))
	if !ok {
		return
	}
	spi, ok := a.judge.TakePrekey(m.Peer)
	prekey := peer.prekeys[spi]
	if !ok || prekey == nil {
		return
	}
	delete(peer.prekeys, spi)
	grant.SPI, grant.Suite = spi, suite
	n.linkedTo(m.Peer, now)
	share, signed := newShare(), mka.SignGrant(a.config.Trust.Key, grant)
	peer.Say(&protocol.Node{Grant: &protocol.Grant{Grant: signed, Share: slices.Clone(share[:])}})
	n.Say(&protocol.Node{Offer: &protocol.LinkOffer{Peer: m.Peer, Grant: signed, Prekey: prekey, Share: slices.Clone(share[:])}})
}

// linkedTo notes when a node was given a link, so that none drains another's prekeys.
func (n *nodeStream) linkedTo(peer identity.NodeID, now time.Duration) {
	if n.linked == nil {
		n.linked = make(map[identity.NodeID]time.Duration)
	}
	n.linked[peer] = now
}

// linkSuites are the ciphers that policy allows.
func (a *Arbiter) linkSuites() (suites []uint16) {
	a.config.Store.View(func(s *registry.State) { suites = slices.Clone(s.Policy.Suites) })
	return suites
}

// linkGrant is the arbiter's statement; not ok where nothing is to be sealed, or one
// of the two is no member any more.
func (a *Arbiter) linkGrant(from identity.NodeID, to *nodeStream, hello mka.Hello, hash [32]byte) (g mka.Grant, ok bool) {
	a.config.Store.View(func(s *registry.State) {
		asker, agent := s.Nodes[from], s.Nodes[to.node]
		if s.PolicyInForce().HandOn != registry.HandOnSealed || asker == nil || asker.Removed || agent == nil || agent.Removed {
			return
		}
		ok = true
		g = mka.Grant{
			Version: mka.Version, Cluster: s.Cluster.ID, Incarnation: a.fence.Incarnation, Term: a.term, Index: s.Index,
			Session: hello.Request, Epoch: 1, Weight: 1, Mode: protocol.ModeLink,
			Agent: agent.ID, AgentKey: agent.Key, Boot: to.hello.Boot, SessionKey: hello.SessionKey,
			IdentityHash: [32]byte(asker.ID), Policy: s.Policy.Version, HelloHash: hash,
		}
	})
	return g, ok
}
