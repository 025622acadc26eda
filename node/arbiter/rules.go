package arbiter

import (
	"net/netip"
	"slices"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/node/admit"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// A client's networks are its routes, and what agents and egress admit: both
// are told from here, so that they are the same.

// Reach is the networks that a session may reach; none if its peer is gone.
func Reach(s *registry.State, live *registry.Session) []netip.Prefix {
	var peer netip.Addr
	if !live.Peer.IsZero() {
		n := s.Nodes[live.Peer]
		if n == nil {
			return nil
		}
		peer = n.Inside
	}
	return admit.Offered(ownPrefixes(s, live.Client), s.Policy.Prefixes, peer)
}

func ownPrefixes(s *registry.State, client string) []netip.Prefix {
	if c := s.Clients.Get(client); c != nil {
		return c.Prefixes
	}
	return nil
}

// prefixes are the networks of a client that has not named a peer.
func prefixes(s *registry.State, client string) []netip.Prefix {
	return admit.Offered(ownPrefixes(s, client), s.Policy.Prefixes, netip.Addr{})
}

// ruleOf is what nodes are told of a session.
func ruleOf(s *registry.State, live *registry.Session) protocol.RuleRow {
	networks := slices.Clone(ownPrefixes(s, live.Client)) // the state's may change before this is written
	return protocol.RuleRow{Session: live.ID, Client: live.Client, Prefixes: networks, Peer: live.Peer}
}

// ruleFor is the same for a grant; nil for a session that is over.
func (a *Arbiter) ruleFor(id registry.SessionID) (row *protocol.RuleRow) {
	a.config.Store.View(func(s *registry.State) {
		if live := s.Sessions.Get(id); live != nil {
			row = new(ruleOf(s, live))
		}
	})
	return row
}

// judges are the nodes that a session's packets pass, each once, and that judge by its
// rule: egress, second and agents, of older epochs too.
func judges(live *registry.Session) []identity.NodeID {
	all := []identity.NodeID{live.Egress}
	add := func(id identity.NodeID) {
		if !id.IsZero() && !slices.Contains(all, id) {
			all = append(all, id)
		}
	}
	add(live.Second)
	for _, epochs := range [][]registry.Slice{live.Slices, live.Retiring} {
		for _, sl := range epochs {
			if sl.State != registry.SliceVoid {
				add(sl.Agent)
			}
		}
	}
	return all
}
