package arbiter

import (
	"fmt"
	"net/netip"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/crypto/mka"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// entrance is a gateway as clients are told of it.
type entrance struct {
	node identity.NodeID
	at   []netip.AddrPort
}

// gates are all entrances, by index. They are found once, and again when a view finds
// that a node changed: every login and grant names some.
func (a *Arbiter) gates(s *registry.State) []entrance {
	if a.entrances != nil {
		return a.entrances
	}
	a.entrances = []entrance{}
	for _, n := range sortedNodes(s) {
		if !n.Removed && !n.Drained && n.Is&registry.RoleGateway != 0 {
			a.entrances = append(a.entrances, entrance{n.ID, n.Outers()})
		}
	}
	return a.entrances
}

// gateways are the addresses a client may use, the one it entered first.
func (a *Arbiter) gateways(s *registry.State, entered identity.NodeID) []netip.AddrPort {
	var first, others []netip.AddrPort
	for _, gate := range a.gates(s) {
		if gate.node == entered {
			first = append(first, gate.at...)
		} else {
			others = append(others, gate.at...)
		}
	}
	return append(first, others...)
}

// gatewaysNamed are those of a grant, at most as many as it can name.
func (a *Arbiter) gatewaysNamed(s *registry.State) (all []netip.AddrPort) {
	for _, gate := range a.gates(s) {
		if all = append(all, gate.at...); len(all) >= mka.MaxGateways {
			return all[:mka.MaxGateways]
		}
	}
	return all
}

// pushGateways tells every client when the gateways change, so that it leaves
// one that is drained before that stops. Clients that are told the same share a message.
func (a *Arbiter) pushGateways() {
	s := a.clone()
	a.entrances = nil
	all := encoded(a.gateways(s, identity.NodeID{}))
	first := a.told == ""
	if all == a.told {
		return
	}
	a.told = all
	if first {
		return // whoever connects in this term is welcomed with them
	}
	said := make(map[string]*protocol.Client)
	for id, c := range a.served {
		live := s.Sessions.Get(id)
		if live == nil {
			continue
		}
		c.offered = Reach(s, live)
		key := fmt.Sprint(c.entered, c.offered)
		if said[key] == nil {
			said[key] = (&protocol.Client{Update: new(a.update(s, c))}).ToMany()
		}
		c.Say(said[key])
	}
}
