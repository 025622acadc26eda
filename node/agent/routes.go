package agent

import (
	"net/netip"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/node/dataplane"
	"github.com/meshcrypt/meshcrypt/node/protocol"
	"github.com/meshcrypt/meshcrypt/slicing"
)

// route is the way down for one session: its own slices sealed here, the
// others handed on to their agents, none that is silent. Spares carry while no other
// slice can: when an agent dies with the arbiter, nobody grants another meanwhile.
func (a *Agent) route(r protocol.RouteRow) *dataplane.Route {
	mode := a.view.modes[r.Session]
	route := dataplane.NewRoute(slicing.Set{Mode: mode.mode(), Step: mode.step, Gap: r.GapTime()}, len(r.Slices))
	route.Spread, route.SprayUDP, route.Upward = a.spread(r.Session), r.SprayUDP, r.Upward
	carried := false
	for _, s := range r.Slices {
		slice, usable := a.routeSlice(r.Session, s)
		weight := s.Weight
		if !usable {
			weight = 0
		}
		carried = carried || weight > 0
		route.Put(s.Number, slice, weight)
	}
	for _, s := range r.Slices {
		if slice, usable := a.routeSlice(r.Session, s); !carried && s.Weight == 0 && usable {
			route.Put(s.Number, slice, 1)
		}
	}
	if mode.own() {
		preferOwn(route)
	}
	return route
}

// routeSlice is one slice of a route, and whether it can carry now.
func (a *Agent) routeSlice(session registry.SessionID, s protocol.RouteSlice) (slice dataplane.RouteSlice, usable bool) {
	key := sliceKey{session, s.Number, s.Epoch}
	slice.SPI = s.SPI
	switch own := a.slices.byKey[key]; {
	case s.Agent == a.config.Index && own != nil && own.pair != nil:
		slice.Pair = own.pair
	case s.Agent != a.config.Index && a.view.nodes[s.Agent].Inside.IsValid():
		to := a.view.nodes[s.Agent]
		slice.HandOn = a.tables.pathTo(a.insideOf(to))
		if slice.Sealed = a.sealed(); slice.Sealed {
			slice.Link = a.linkTo(to)
		}
	default:
		return slice, false
	}
	silent := a.view.silent[key] || a.probes.silent(s.Agent)
	return slice, !silent && (!slice.Sealed || slice.Link != nil)
}

// insideOf is where a node takes what is handed on.
func (a *Agent) insideOf(n protocol.NodeRow) netip.AddrPort {
	return netip.AddrPortFrom(n.Inside, a.config.InsidePort)
}

// linkTable is every SA with another node, whichever end this one has.
func (a *Agent) linkTable() map[uint32]*dataplane.Pair {
	t := make(map[uint32]*dataplane.Pair)
	for _, l := range a.links.all() {
		for _, p := range l.pairs() {
			t[p.In.SPI()] = p
		}
	}
	for _, from := range a.slices.byNode {
		for _, s := range from {
			for _, p := range s.pairs() {
				t[p.In.SPI()] = p
			}
		}
	}
	return t
}

// preferOwn keeps a calm session's runs here while this node has a slice of it.
func preferOwn(route *dataplane.Route) {
	own := false
	for i, s := range route.Slices {
		own = own || (s.Pair != nil && route.Set.Weights[i] > 0)
	}
	for i, s := range route.Slices {
		if own && s.Pair == nil {
			route.Set.Weights[i] = 0
		}
	}
}

// spread is what each slice of a session was given so far; it outlives tables.
func (a *Agent) spread(id registry.SessionID) *dataplane.Spread {
	s := a.view.spreads[id]
	if s == nil {
		s = dataplane.NewSpread(a.config.Engine.Queues())
		a.view.spreads[id] = s
	}
	return s
}
