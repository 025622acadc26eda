package agent

import (
	"net/netip"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/node/dataplane"
	"github.com/meshcrypt/meshcrypt/node/probe"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// A gateway that is drained is to stop, and forwards until then. Clients that are
// connected hear of it by the arbiter's list. One that is parked hears it of its agents,
// who see by which gateway it comes, and goes to the next of those that it knows: a change
// of gateways need not bring all clients back.

// closing is what those are told that come by a gateway which is to stop, by each of its
// hosts' addresses.
type closing map[netip.Addr][]byte

// closes reports whether a member is no gateway, or none for long.
func closes(n protocol.NodeRow) bool { return n.Drained || n.Is&registry.RoleGateway == 0 }

// noteClosing tells those at once that come by a gateway of which it was not known. While
// there is no other to go to nobody is told: each would come for the arbiter's list, find
// that nothing else is in it, park, and be told again.
func (a *Agent) noteClosing() {
	var now closing
	goesOn := a.elsewhere()
	for _, n := range a.view.nodes {
		if !closes(n) || !goesOn {
			continue
		}
		if now == nil {
			now = make(closing)
		}
		said := probe.Leaving(n.Outers())
		for _, at := range n.Outers() {
			now[at.Addr()] = said
		}
	}
	was := a.parking.closing.Swap(&now)
	for at := range now {
		if was == nil || (*was)[at] == nil {
			a.sayClosing()
			return
		}
	}
}

// elsewhere reports whether a gateway lives that is not to stop.
func (a *Agent) elsewhere() bool {
	for _, n := range a.view.nodes {
		if n.Up && !closes(n) {
			return true
		}
	}
	return false
}

// sayClosing looks at all slices: gateways change at an operator's word.
func (a *Agent) sayClosing() {
	for _, s := range a.slices.byKey {
		if s.pair != nil && s.from.IsZero() && s.isParked() {
			a.warnOfClosing(s.pair)
		}
	}
}

// warnOfClosing tells a parked client if the gateway by which it comes is to stop. It is
// said again when the client asks again.
func (a *Agent) warnOfClosing(pair *dataplane.Pair) {
	closing := a.parking.closing.Load()
	if closing == nil || *closing == nil {
		return
	}
	if path, known := pair.Path(); known {
		if said := (*closing)[path.Remote.Addr().Unmap()]; said != nil {
			_ = pair.SendControl(said)
		}
	}
}
