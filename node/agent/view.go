package agent

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/esp"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/node/dataplane"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// viewState is what the arbiter told this node, kept when the arbiter is gone.
type viewState struct {
	nodes   map[identity.Index]protocol.NodeRow
	ids     map[identity.NodeID]identity.Index
	parts   map[netip.Prefix]*part
	routes  map[registry.SessionID]*protocol.RouteRow // never changed
	spreads map[registry.SessionID]*dataplane.Spread
	modes   map[registry.SessionID]*sessionMode
	silent  map[sliceKey]bool      // condemned by the session's client
	fed     map[identity.Index]int // slices of routes that an agent has
	raised  map[identity.Index]int // and SPIs of it under which packets may come up
	// restless is the sessions of mode auto of which a step is due, on trial, or taken.
	restless map[registry.SessionID]bool
	pool     []netip.Prefix
	egress   registry.EgressKind
	policy   registry.Policy
	key      []byte // authenticates probes between nodes
	arbiter  identity.NodeID
	changes  bool // it takes usage by what changed
}

func newViewState() *viewState {
	return &viewState{
		nodes:    make(map[identity.Index]protocol.NodeRow),
		ids:      make(map[identity.NodeID]identity.Index),
		parts:    make(map[netip.Prefix]*part),
		routes:   make(map[registry.SessionID]*protocol.RouteRow),
		spreads:  make(map[registry.SessionID]*dataplane.Spread),
		modes:    make(map[registry.SessionID]*sessionMode),
		silent:   make(map[sliceKey]bool),
		fed:      make(map[identity.Index]int),
		raised:   make(map[identity.Index]int),
		restless: make(map[registry.SessionID]bool),
	}
}

// learn takes a full view or a change of one.
func (a *Agent) learn(m *protocol.View) {
	v := a.view
	if m.Full {
		v.changes = m.Changes
		a.keepOnly(m.Slices)
		a.routeOnly(m.Routes)
	}
	a.learnNodes(m)
	if a.changes.nodes {
		a.noteClosing()
	}
	for _, id := range m.Unroutes {
		a.unroute(id)
	}
	for _, r := range m.Routes {
		a.learnRoute(r)
	}
	a.adopt(m)
	a.learnRules(m)
	for _, p := range m.Parts {
		a.learnPart(p)
		a.changes.mesh = true
	}
	for _, prefix := range m.Keep {
		a.keepPart(prefix)
	}
	if m.Full {
		a.footing.sure(a.config.Now())
	}
	if a.changes.nodes || m.Full || len(m.GossipKey) > 0 {
		a.config.Learned(v.members(), protocol.Fence{Incarnation: a.floor.Incarnation, Term: a.floor.Term}, m)
	}
}

// learnNodes takes what a view says of members.
func (a *Agent) learnNodes(m *protocol.View) {
	v := a.view
	if m.Full {
		said := make(map[identity.Index]bool, len(m.Nodes))
		for _, n := range m.Nodes {
			said[n.Index] = true
		}
		for index := range v.nodes {
			if !said[index] {
				a.learnNode(protocol.NodeRow{Index: index, Removed: true})
			}
		}
	}
	for _, n := range m.Nodes {
		a.learnNode(n)
	}
}

func (a *Agent) learnNode(n protocol.NodeRow) {
	v, was := a.view, a.view.nodes[n.Index]
	if was == n {
		return
	}
	if v.ids[was.ID] == n.Index {
		delete(v.ids, was.ID)
	}
	if n.Removed {
		delete(v.nodes, n.Index)
	} else {
		v.nodes[n.Index], v.ids[n.ID] = n, n.Index
	}
	a.changes.nodes, a.changes.mesh = true, true
	if n.Removed || was.ID != n.ID || was.Inside != n.Inside {
		a.peerMoved(was.ID)
		a.peerMoved(n.ID)
	}
}

// routeOnly drops the routes that a full view does not say again, and what clients
// said about slices of the others.
func (a *Agent) routeOnly(said []protocol.RouteRow) {
	again := make(map[registry.SessionID]bool, len(said))
	for _, r := range said {
		again[r.Session] = true
	}
	for id := range a.view.routes {
		if !again[id] {
			a.unroute(id)
		}
	}
	for key := range a.view.silent {
		delete(a.view.silent, key)
		a.changes.session(key.session)
	}
}

func (a *Agent) learnRoute(r protocol.RouteRow) {
	v := a.view
	was, routed := v.route(r.Session)
	if routed && was.Equal(r) {
		return
	}
	v.count(was, -1)
	v.count(r, +1)
	v.routes[r.Session] = &r
	v.learnMode(r)
	v.forgetVerdicts(was)
	a.changes.session(r.Session)
	for _, s := range r.Slices {
		if _, known := a.tables.outlook.ways[s.Agent]; !known {
			a.changes.mesh = true
		}
	}
}

func (a *Agent) unroute(id registry.SessionID) {
	v := a.view
	was, routed := v.route(id)
	if !routed {
		return
	}
	v.count(was, -1)
	delete(v.routes, id)
	delete(v.modes, id)
	delete(v.spreads, id)
	delete(v.restless, id)
	v.forgetVerdicts(was)
	a.changes.session(id)
}

// route is the row of a session, if this node has to know the way to its client.
func (v *viewState) route(id registry.SessionID) (row protocol.RouteRow, routed bool) {
	if r := v.routes[id]; r != nil {
		return *r, true
	}
	return row, false
}

// count keeps how many slices of routes each agent has, and how many may only come up.
func (v *viewState) count(r protocol.RouteRow, by int) {
	for _, s := range r.Slices {
		add(v.fed, s.Agent, by)
	}
	for _, spi := range r.Upward {
		add(v.raised, esp.Index(spi), by)
	}
}

// add counts; what there is none of has no row.
func add(counts map[identity.Index]int, index identity.Index, by int) {
	if counts[index] += by; counts[index] == 0 {
		delete(counts, index)
	}
}

// adopt takes the fields that are single values.
func (a *Agent) adopt(m *protocol.View) {
	v := a.view
	if m.Policy != nil {
		a.changes.mesh = true
		a.changes.rules = a.changes.rules || !slices.Equal(v.policy.Prefixes, m.Policy.Prefixes)
		v.policy = *m.Policy
	}
	if len(m.Pool) > 0 {
		a.changes.nodes = true
		v.pool = m.Pool
	}
	if m.Egress != "" {
		a.changes.mesh = true
		v.egress = m.Egress
	}
	if len(m.ProbeKey) > 0 {
		v.key = m.ProbeKey
		a.probeKey.Store(new(v.key))
	}
	if !m.Arbiter.IsZero() {
		v.arbiter = m.Arbiter
	}
}

// testAddress is the pool's test address of the other end's family.
func (v *viewState) testAddress(to netip.Addr) (from netip.Addr, ok bool) {
	for _, p := range v.pool {
		if to.IsValid() && p.Addr().BitLen() == to.BitLen() {
			return registry.PathTestAddress(p), true
		}
	}
	return from, false
}

// members are by index: whoever hears the same keeps the same, and seeks an arbiter in the
// same order.
func (v *viewState) members() []protocol.NodeRow {
	rows := make([]protocol.NodeRow, 0, len(v.nodes))
	for _, n := range v.nodes {
		rows = append(rows, n)
	}
	slices.SortFunc(rows, func(a, b protocol.NodeRow) int { return cmp.Compare(a.Index, b.Index) })
	return rows
}

// nodeByID finds a member; its Index is 0 when there is none.
func (v *viewState) nodeByID(id identity.NodeID) protocol.NodeRow { return v.nodes[v.ids[id]] }

// inside reports whether an address is a member's on the inside network.
func (v *viewState) inside(address netip.Addr) bool {
	for _, n := range v.nodes {
		if n.Inside == address {
			return true
		}
	}
	return false
}

// keepOnly frees every slice that a full view does not name.
func (a *Agent) keepOnly(named []protocol.SliceRef) {
	keep := make(map[sliceKey]bool, len(named))
	for _, r := range named {
		keep[keyOf(r)] = true
	}
	for _, s := range a.slices.inOrder() {
		if !keep[s.key] && s.from.IsZero() {
			a.dropSlice(s, "superseded")
		}
	}
}
