package agent

import (
	"bytes"
	"cmp"
	"net/netip"
	"slices"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/mesh/link"
	"github.com/meshcrypt/meshcrypt/node/admit"
	"github.com/meshcrypt/meshcrypt/node/dataplane"
	"github.com/meshcrypt/meshcrypt/node/gateway"
	"github.com/meshcrypt/meshcrypt/node/pages"
	"github.com/meshcrypt/meshcrypt/slicing"
)

// tables is what this node forwards by, as it was published last. A row that nothing
// changed is not looked at again. It is owned by the control loop; what is published
// of it are views, and maps that are replaced as a whole.
type tables struct {
	in, granted   pages.Table[*dataplane.Pair]
	routes, local pages.AddressTable[*dataplane.Route]
	reach         pages.AddressTable[*admit.Rule]
	peers, nodes  map[netip.Addr]bool
	links         map[uint32]*dataplane.Pair
	paths         map[netip.AddrPort]*link.Path // to nodes, one for all routes; they do not change

	routed  map[registry.SessionID]routed
	leased  map[netip.Addr]*leased
	outlook outlook
	made    uint64 // rows so far: what all publications have cost
}

// routed is the route of a session, and the leases that it is for.
type routed struct {
	route  *dataplane.Route
	leases []netip.Addr
}

// leased is who has a lease here: routes of sessions, and slices that open for it. A
// device that logged in anew has the lease of its earlier session, which may still
// have slices here.
type leased struct {
	sessions []registry.SessionID // the last one's route counts
	slices   []*slice
}

func newTables() *tables {
	return &tables{
		routed: make(map[registry.SessionID]routed), leased: make(map[netip.Addr]*leased), paths: make(map[netip.AddrPort]*link.Path),
	}
}

// pathTo is the way to where a node takes what is handed on.
func (t *tables) pathTo(at netip.AddrPort) *link.Path {
	p := t.paths[at]
	if p == nil {
		p = &link.Path{Remote: at}
		t.paths[at] = p
	}
	return p
}

// publishIfDirty makes the rows that changed anew and publishes the packet engine's
// and the gateway's tables, each with one atomic store. Where a node that others hand on to
// is silent, or is heard again, MaxRemade of the routes through it have their turn, and the loop
// goes on: one that answers nobody meanwhile is itself taken for dead, which touches the routes
// of thousands once more. What is about one session is done at once.
func (a *Agent) publishIfDirty() {
	if !a.changes.any() {
		return
	}
	t := a.tables
	if a.changes.nodes || t.nodes == nil {
		a.makeNodes()
	}
	if a.changes.rules {
		a.forgetRules()
	}
	if a.changes.mesh {
		a.compareOutlook()
	}
	for s := range a.changes.slices {
		a.makeSlice(s)
	}
	for id := range a.changes.sessions {
		a.makeSession(id)
	}
	left := a.remake(MaxRemade)
	reach := t.reach.Copied()
	for lease := range a.changes.leases {
		a.makeLease(lease)
	}
	a.changes = changes{routes: left}
	a.config.Engine.Publish(a.engineTable())
	if t.reach.Copied() != reach {
		a.config.Host.Reach(t.reach.View())
	}
}

// engineTable is every SA that opens and every lease this node can reach.
func (a *Agent) engineTable() *dataplane.Table {
	t := a.tables
	table := &dataplane.Table{
		Own: a.config.Index, In: t.in.View(), Granted: t.granted.View(), Routes: t.routes.View(), Local: t.local.View(),
		Peers: t.peers, Nodes: t.nodes, DataPort: a.config.Port, Links: t.links, Sealed: t.outlook.sealed,
		Here: a.view.nodes[a.config.Index].Inside,
	}
	if a.view.egress != registry.EgressRouted {
		table.InsidePort = a.config.InsidePort
	}
	return table
}

// makeNodes is where nodes are, on both networks; a gateway needs no more.
func (a *Agent) makeNodes() {
	t := a.tables
	t.peers, t.nodes = make(map[netip.Addr]bool), make(map[netip.Addr]bool)
	clear(t.paths)
	for _, p := range a.view.pool {
		t.peers[registry.PathTestAddress(p)] = true
	}
	rows := make([]gateway.Node, 0, len(a.view.nodes))
	own := a.view.nodes[a.config.Index].Outers()
	for _, n := range a.view.nodes {
		for _, at := range n.Outers() {
			t.nodes[at.Addr()] = true
		}
		if n.Index != a.config.Index {
			t.peers[n.Inside] = true
			rows = append(rows, gateway.Node{Index: n.Index, Outer: n.ReachedFrom(own)[0], Hosts: n.Outers(), Alive: true})
		}
	}
	a.config.Gateway.Publish(gateway.NewNodes(rows))
}

// makeSlice shows a slice's SAs to the packet engine, or takes them away, and points
// them where their packets go.
func (a *Agent) makeSlice(s *slice) {
	t := a.tables
	t.made++
	if !s.from.IsZero() {
		return // it is among the links
	}
	held := a.slices.holds(s)
	var now [len(s.shown)]*dataplane.Pair
	if held {
		copy(now[:], s.pairs())
	}
	for _, p := range s.shown {
		if p != nil && !slices.Contains(now[:], p) {
			t.in.Delete(pages.Number(p.In.SPI()))
		}
	}
	for _, p := range now {
		if p != nil && !slices.Contains(s.shown[:], p) {
			t.in.Put(pages.Number(p.In.SPI()), p)
		}
	}
	s.shown = now
	switch spi := pages.Number(s.grant.SPI); {
	case held && s.pair != nil && t.granted.Get(spi) != s.pair:
		// The egress names the slice by its granted SPI, whatever rekeys came since.
		t.granted.Put(spi, s.pair)
	case !held && t.granted.Get(spi) != nil:
		t.granted.Delete(spi)
	}
	a.lendLeases(s, held)
	a.steer(s)
}

// lendLeases notes that a slice opens for its leases, or does no more.
func (a *Agent) lendLeases(s *slice, held bool) {
	for _, lease := range s.grant.Leases {
		l := a.tables.lease(lease)
		if at := slices.Index(l.slices, s); !held && at >= 0 {
			l.slices = slices.Delete(l.slices, at, at+1)
		} else if held && at < 0 {
			l.slices = append(l.slices, s)
		}
		a.changes.lease(lease)
	}
}

func (t *tables) lease(a netip.Addr) *leased {
	l := t.leased[a]
	if l == nil {
		l = new(leased)
		t.leased[a] = l
	}
	return l
}

// remake makes so many of the routes anew that an other outlook touches, and returns those
// that are left.
func (a *Agent) remake(most int) (left map[registry.SessionID]bool) {
	left = a.changes.routes
	for id := range left {
		if most == 0 {
			return left
		}
		if !a.changes.sessions[id] {
			a.makeSession(id)
			most--
		}
		delete(left, id)
	}
	return nil
}

// makeSession gives a session its route, and the pairs of its slices their rule.
func (a *Agent) makeSession(id registry.SessionID) {
	t := a.tables
	t.made++
	rule := a.settleRule(id)
	was := t.routed[id]
	var now routed
	if row, is := a.view.route(id); is {
		now = routed{a.route(row), row.Leases}
		now.route.Rule = rule
		t.routed[id] = now
	} else {
		delete(t.routed, id)
	}
	for _, lease := range was.leases {
		if !slices.Contains(now.leases, lease) {
			l := t.lease(lease)
			l.sessions = slices.DeleteFunc(l.sessions, func(other registry.SessionID) bool { return other == id })
		}
		a.changes.lease(lease)
	}
	for _, lease := range now.leases {
		if l := t.lease(lease); !slices.Contains(l.sessions, id) {
			l.sessions = append(l.sessions, id)
		}
		a.changes.lease(lease)
	}
	for _, s := range a.slices.bySession[id] {
		for _, p := range s.pairs() {
			p.SetRule(rule)
		}
		for _, lease := range s.grant.Leases {
			a.changes.lease(lease)
		}
	}
}

// makeLease is the ways to a lease, and what the host's own stack lets its client
// reach: by the session that has the route, else by the slice that answers for it.
func (a *Agent) makeLease(lease netip.Addr) {
	t, l := a.tables, a.tables.lease(lease)
	t.made++
	var route *dataplane.Route
	var rule *admit.Rule
	if n := len(l.sessions); n > 0 {
		route = t.routed[l.sessions[n-1]].route
		rule = route.Rule
	} else if s := bestOf(l.slices, func(s *slice) bool { return s.pair != nil }); s != nil {
		rule = s.pair.Rule()
	}
	keyed := bestOf(l.slices, func(s *slice) bool { return s.pair != nil && s.up })
	if a.rules.unsaid && len(l.sessions)+len(l.slices) > 0 {
		rule = a.pushedRule()
	}
	show(&t.routes, lease, route)
	show(&t.local, lease, keyed.answering())
	show(&t.reach, lease, rule)
	if len(l.sessions)+len(l.slices) == 0 {
		delete(t.leased, lease)
	}
}

// show puts a row into a table, takes it out, or leaves it as it is.
func show[V any](t *pages.AddressTable[*V], at netip.Addr, v *V) {
	switch was := t.Get(at); {
	case was == v:
	case v == nil:
		t.Delete(at)
	default:
		t.Put(at, v)
	}
}

// bestOf is the slice that answers for a lease, of those that can.
func bestOf(all []*slice, can func(*slice) bool) (best *slice) {
	for _, s := range all {
		if can(s) && (best == nil || s.before(best)) {
			best = s
		}
	}
	return best
}

// answering is the way by which this host answers a client that speaks to it: over
// its own slice that is keyed, and nowhere in clear. It is the former one if that is
// still true.
func (s *slice) answering() *dataplane.Route {
	switch {
	case s == nil:
		return nil
	case s.answers != nil && s.answers.Slices[0].Pair == s.pair && s.answers.Rule == s.pair.Rule():
		return s.answers
	}
	s.answers = dataplane.NewRoute(slicing.Set{Mode: slicing.Pin}, 1)
	s.answers.Spread, s.answers.Rule = s.local, s.pair.Rule()
	s.answers.Put(0, dataplane.RouteSlice{Pair: s.pair, SPI: s.grant.SPI}, 1)
	return s.answers
}

// before says which of two slices answers for a lease. A revoked one still opens
// for a while, but its client may have come back with the same lease.
func (s *slice) before(other *slice) bool {
	if s.revoked() != other.revoked() {
		return other.revoked()
	}
	return cmp.Or(cmp.Compare(other.key.epoch, s.key.epoch), cmp.Compare(s.key.number, other.key.number),
		bytes.Compare(s.key.session[:], other.key.session[:])) < 0
}

func (s *slice) revoked() bool { return s.dropAt != 0 }
