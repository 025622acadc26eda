package agent

import (
	"net/netip"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/node/dataplane"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// viewState is what the arbiter told this node, kept when the arbiter is gone.
type viewState struct {
	nodes   map[identity.Index]protocol.NodeRow
	parts   map[netip.Prefix]*part
	routes  map[registry.SessionID]protocol.RouteRow
	spreads map[registry.SessionID]*dataplane.Spread
	modes   map[registry.SessionID]*sessionMode
	silent  map[sliceKey]bool // condemned by the session's client
	pool    []netip.Prefix
	egress  registry.EgressKind
	policy  registry.Policy
	key     []byte // authenticates probes between nodes
	arbiter identity.NodeID
}

func newViewState() *viewState {
	return &viewState{
		nodes:   make(map[identity.Index]protocol.NodeRow),
		parts:   make(map[netip.Prefix]*part),
		routes:  make(map[registry.SessionID]protocol.RouteRow),
		spreads: make(map[registry.SessionID]*dataplane.Spread),
		modes:   make(map[registry.SessionID]*sessionMode),
		silent:  make(map[sliceKey]bool),
	}
}

// learn takes a full view or a change of one.
func (a *Agent) learn(m *protocol.View) {
	v := a.view
	if m.Full {
		clear(v.nodes)
		clear(v.routes)
		clear(v.silent)
		a.keepOnly(m.Slices)
	}
	for _, n := range m.Nodes {
		if n.Removed {
			delete(v.nodes, n.Index)
		} else {
			v.nodes[n.Index] = n
		}
	}
	for _, id := range m.Unroutes {
		delete(v.routes, id)
		delete(v.modes, id)
	}
	for _, r := range m.Routes {
		v.routes[r.Session] = r
		v.learnMode(r)
	}
	v.adopt(m)
	a.probeKey.Store(new(v.key))
	a.learnRules(m)
	for _, p := range m.Parts {
		a.learnPart(p)
	}
	for _, prefix := range m.Keep {
		a.keepPart(prefix)
	}
	if m.Full {
		a.footing.sure(a.config.Now())
	}
	v.forgetSessions()
	v.forgetVerdicts()
	a.dirty = true
	a.config.Learned(v.members(), protocol.Fence{Incarnation: a.floor.Incarnation, Term: a.floor.Term}, m)
}

// adopt takes the fields that are single values.
func (v *viewState) adopt(m *protocol.View) {
	if m.Policy != nil {
		v.policy = *m.Policy
	}
	if len(m.Pool) > 0 {
		v.pool = m.Pool
	}
	if m.Egress != "" {
		v.egress = m.Egress
	}
	if len(m.ProbeKey) > 0 {
		v.key = m.ProbeKey
	}
	if !m.Arbiter.IsZero() {
		v.arbiter = m.Arbiter
	}
}

// forgetSessions drops what was kept for sessions that have no route here.
func (v *viewState) forgetSessions() {
	for id := range v.modes {
		if _, routed := v.routes[id]; !routed {
			delete(v.modes, id)
		}
	}
	for id := range v.spreads {
		if _, routed := v.routes[id]; !routed {
			delete(v.spreads, id)
		}
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

func (v *viewState) members() []protocol.NodeRow {
	rows := make([]protocol.NodeRow, 0, len(v.nodes))
	for _, n := range v.nodes {
		rows = append(rows, n)
	}
	return rows
}

// nodeByID finds a member; its Index is 0 when there is none.
func (v *viewState) nodeByID(id identity.NodeID) protocol.NodeRow {
	for _, n := range v.nodes {
		if n.ID == id {
			return n
		}
	}
	return protocol.NodeRow{}
}

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
	for key, s := range a.slices.byKey {
		if !keep[key] && s.from.IsZero() {
			a.dropSlice(s, "superseded")
		}
	}
}
