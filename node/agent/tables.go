package agent

import (
	"cmp"
	"net/netip"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/mesh/link"
	"github.com/meshcrypt/meshcrypt/node/dataplane"
	"github.com/meshcrypt/meshcrypt/node/gateway"
	"github.com/meshcrypt/meshcrypt/node/protocol"
	"github.com/meshcrypt/meshcrypt/slicing"
)

// publishIfDirty builds the packet engine's and the gateway's tables anew and
// publishes each with one atomic store.
func (a *Agent) publishIfDirty() {
	if !a.dirty {
		return
	}
	a.dirty = false
	a.steer()
	a.compileRules()
	a.config.Engine.Publish(a.engineTable())
	a.config.Gateway.Publish(a.gatewayTable())
	a.config.Host.Reach(a.reachable())
}

// engineTable is every SA that opens and every lease this node can reach.
func (a *Agent) engineTable() *dataplane.Table {
	t := &dataplane.Table{
		Own:      a.config.Index,
		In:       make(map[uint32]*dataplane.Pair),
		Granted:  make(map[uint32]*dataplane.Pair),
		Routes:   make(map[netip.Addr]*dataplane.Route),
		Peers:    make(map[netip.Addr]bool),
		Nodes:    make(map[netip.Addr]bool),
		DataPort: a.config.Port,
		Links:    a.linkTable(),
		Sealed:   a.sealed(),
		Here:     a.view.nodes[a.config.Index].Inside,
		Local:    a.localRoutes(),
	}
	if a.view.egress != registry.EgressRouted {
		t.InsidePort = a.config.InsidePort
	}
	for _, p := range a.view.pool {
		t.Peers[registry.PathTestAddress(p)] = true
	}
	for _, s := range a.slices.byKey {
		if !s.from.IsZero() {
			continue
		}
		for _, p := range s.pairs() {
			t.In[p.In.SPI()] = p
		}
		if s.pair != nil {
			// The egress names the slice by its granted SPI, whatever rekeys came since.
			t.Granted[s.grant.SPI] = s.pair
		}
	}
	for _, n := range a.view.nodes {
		for _, at := range n.Outers() {
			t.Nodes[at.Addr()] = true
		}
		if n.Index != a.config.Index {
			t.Peers[n.Inside] = true
		}
	}
	for _, r := range a.view.routes {
		route := a.route(r)
		for _, lease := range r.Leases {
			route.Rule = a.rules.reach[lease] // one client's, so they are the same
			t.Routes[lease] = route
		}
	}
	return t
}

// localRoutes are the ways by which this host answers clients that speak to it:
// over its own slices that are keyed, and nowhere in clear.
func (a *Agent) localRoutes() map[netip.Addr]*dataplane.Route {
	best := make(map[netip.Addr]*slice)
	for _, s := range a.slices.byKey {
		if s.pair == nil || !s.up || !s.from.IsZero() {
			continue
		}
		for _, lease := range s.grant.Leases {
			if old := best[lease]; old == nil || s.before(old) {
				best[lease] = s
			}
		}
	}
	routes := make(map[netip.Addr]*dataplane.Route, len(best))
	for lease, s := range best {
		route := &dataplane.Route{Set: &slicing.Set{Mode: slicing.Pin}, Spread: s.local, Rule: s.pair.Rule()}
		route.Put(0, dataplane.RouteSlice{Pair: s.pair, SPI: s.grant.SPI}, 1)
		routes[lease] = route
	}
	return routes
}

// before says which of two slices answers for a lease. A revoked one still opens
// for a while, but its client may have come back with the same lease.
func (s *slice) before(other *slice) bool {
	if s.revoked() != other.revoked() {
		return other.revoked()
	}
	return cmp.Or(cmp.Compare(other.key.epoch, s.key.epoch), cmp.Compare(s.key.number, other.key.number)) < 0
}

func (s *slice) revoked() bool { return s.dropAt != 0 }

// route is the way down for one session: its own slices sealed here, the
// others handed on to their agents, none that is silent. Spares carry while no other
// slice can: when an agent dies with the arbiter, nobody grants another meanwhile.
func (a *Agent) route(r protocol.RouteRow) *dataplane.Route {
	mode := a.view.modes[r.Session]
	route := &dataplane.Route{
		Set:    &slicing.Set{Mode: mode.mode(), Step: mode.step, Gap: r.GapTime()},
		Spread: a.spread(r.Session), SprayUDP: r.SprayUDP,
		Upward: r.Upward,
	}
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
		slice.HandOn = link.Path{Remote: a.insideOf(to)}
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
	for _, s := range a.slices.byKey {
		if s.from.IsZero() {
			continue
		}
		for _, p := range s.pairs() {
			t[p.In.SPI()] = p
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

// gatewayTable is where each index is reached; a gateway needs no more.
func (a *Agent) gatewayTable() *gateway.Nodes {
	rows := make([]gateway.Node, 0, len(a.view.nodes))
	own := a.view.nodes[a.config.Index].Outers()
	for _, n := range a.view.nodes {
		if n.Index != a.config.Index {
			rows = append(rows, gateway.Node{Index: n.Index, Outer: n.ReachedFrom(own)[0], Hosts: n.Outers(), Alive: true})
		}
	}
	return gateway.NewNodes(rows)
}
