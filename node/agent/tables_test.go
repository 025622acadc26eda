package agent

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/esp"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/e2e/cost"
	"github.com/meshcrypt/meshcrypt/node/admit"
	"github.com/meshcrypt/meshcrypt/node/dataplane"
	"github.com/meshcrypt/meshcrypt/node/pages"
	"github.com/meshcrypt/meshcrypt/node/probe"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// cost is the rows that were made and the pages that were copied so far.
func (f *fixture) cost() (rows, copied uint64) {
	t := f.tables
	return t.made, t.in.Copied() + t.granted.Copied() + t.routes.Copied() + t.local.Copied() + t.reach.Copied()
}

// TestAnEventCostsItsOwnRows: however many sessions there are, what happens to one
// makes a few rows and copies their pages; what happens to a node makes those that it
// is named in.
func TestAnEventCostsItsOwnRows(t *testing.T) {
	const sessions = 600
	f := ruling(t)
	f.hear(&protocol.Node{View: &protocol.View{Parts: []registry.Part{f.part(3, f.self(), idOf(2))}}})
	for range 3 { // both are heard
		f.pass(TickEvery, 2, 3)
	}
	view := f.crowd(sessions)
	s := f.slices.byKey[sliceKey{view.Routes[7].Session, 0, 1}]
	changed := view.Routes[9]
	changed.Slices = slices.Clone(changed.Slices)
	changed.Slices[1].Weight = 9
	node := f.view(3).Nodes[2]
	node.Voter = true
	for _, c := range []struct {
		what         string
		rows, copied uint64
		do           func()
	}{
		{"nothing", 0, 0, func() { f.advance(TickEvery) }},
		{"other weights", 3, 2, func() { f.hear(&protocol.Node{View: &protocol.View{Routes: []protocol.RouteRow{changed}}}) }},
		{"the same weights again", 0, 0, func() { f.hear(&protocol.Node{View: &protocol.View{Routes: []protocol.RouteRow{changed}}}) }},
		{"a client's verdict", 3, 2, func() { f.condemn(sliceKey{s.key.session, 0, 1}, sliceKey{s.key.session, 1, 1}); f.publishIfDirty() }},
		{"new keys", 4, 10, func() {
			s.next = f.keys(s, f.freshSPI(own))
			f.changes.slice(s)
			f.publishIfDirty()
		}},
		{"they are in use", 4, 10, func() { f.switchKeys(s, f.Agent.config.Now()); f.publishIfDirty() }},
		{"other networks", 4, 8, func() {
			row := view.Rules[7]
			row.Prefixes = network("10.20.0.0/25")
			f.hear(&protocol.Node{View: &protocol.View{Rules: []protocol.RuleRow{row}}})
		}},
		{"a slice ends", 4, 10, func() { f.dropSlice(s, "the test says so"); f.publishIfDirty() }},
		{"a session ends", 3, 6, func() {
			f.hear(&protocol.Node{View: &protocol.View{Unroutes: []registry.SessionID{s.key.session}, Unrules: []registry.SessionID{s.key.session}}})
		}},
		{"a session begins", 4, 12, func() {
			id, leases := numbered(sessions)
			f.keySlice(f.holdSlice(sliceKey{id, 0, 1}, leases))
			f.hear(&protocol.Node{View: &protocol.View{Routes: []protocol.RouteRow{{Session: id, Leases: leases, Slices: view.Routes[0].Slices}}}})
		}},
		{"a node votes", 0, 0, func() { f.hear(&protocol.Node{View: &protocol.View{Nodes: []protocol.NodeRow{node}}}) }},
		{"the egress changes", 0, 0, func() {
			f.hear(&protocol.Node{View: &protocol.View{Parts: []registry.Part{f.part(4, idOf(2), idOf(3))}}})
		}},
		{"a node is silent", 3 * sessions / 2, 2 * (sessions + 2) / 2, func() {
			for range 6 {
				f.pass(TickEvery, 2)
			}
		}},
	} {
		rows, copied := f.cost()
		c.do()
		madeNow, copiedNow := f.cost()
		if made, pages := madeNow-rows, copiedNow-copied; made > c.rows || pages > c.copied {
			t.Errorf("%s: %d rows made and %d pages copied, at most %d and %d are its own", c.what, made, pages, c.rows, c.copied)
		}
	}
}

// TestManyRoutesHaveTheirTurn: where a node falls silent that the routes of thousands go by,
// the loop has its turns in between, and what is about one session does not wait.
func TestManyRoutesHaveTheirTurn(t *testing.T) {
	const sessions = 4*MaxRemade + 8
	f := ruling(t)
	view := f.crowd(sessions)
	for range 3 { // both are heard
		f.pass(TickEvery, 2, 3)
	}
	was := maps.Clone(f.tables.routed)
	f.probes.peers[3].silent = true
	f.changes.mesh = true
	for turn, all := 1, 0; all < sessions/2; turn++ {
		if f.unpublished() == nil {
			t.Fatal("nobody makes the rest")
		}
		other := view.Routes[0] // by node 2
		if other.Gap = 9; turn == 2 {
			f.learnRoute(other)
		}
		f.publishIfDirty()
		if got := f.tables.routed[other.Session].route.Set.Gap; turn == 2 && got != other.GapTime() {
			t.Fatalf("what is about one session waits: its gap is %v, not %v", got, other.GapTime())
		}
		made := 0
		for _, r := range view.Routes {
			if r.Slices[1].Agent == 3 && f.tables.routed[r.Session].route != was[r.Session].route {
				made++
			}
		}
		if made-all > MaxRemade || made == all {
			t.Fatalf("%d routes in one turn", made-all)
		}
		all = made
	}
	if f.unpublished() != nil {
		t.Error("the loop never waits again")
	}
}

// TestNewLinkIsForAllRoutes: what is handed on to a node goes by the newest SA pair with it, in
// all routes that name the node, and in no other.
func TestNewLinkIsForAllRoutes(t *testing.T) {
	const sessions = 2*MaxRemade + 8
	f := ruling(t)
	f.crowd(sessions)
	for range 3 { // both are heard
		f.pass(TickEvery, 2, 3)
	}
	f.Agent.view.policy.HandOn = registry.HandOnSealed
	with := func(counter uint32) *dataplane.Pair { return f.keys(f.slices.inOrder()[0], esp.MakeSPI(own, counter)) }
	for _, link := range []*dataplane.Pair{nil, with(90_000), with(90_001)} {
		delete(f.links.inUse, idOf(3))
		if link != nil {
			f.links.inUse[idOf(3)] = &nodeLink{peer: f.nodeRow(3), boot: f.nodeRow(3).Boot, pair: link}
		}
		f.changes.mesh = true
		for range sessions { // at most: a turn makes one route
			if f.publishIfDirty(); f.unpublished() == nil {
				break
			}
		}
		for id, r := range f.tables.routed {
			want := link
			if f.Agent.view.routes[id].Slices[1].Agent == 2 {
				want = nil
			}
			if got := r.route.Slices[1]; got.Link != want || !got.Sealed {
				t.Fatalf("session %s goes by %p, not by %p", id, got.Link, want)
			}
		}
	}
}

// TestNothingGoesByARowOfBefore: that what is handed on is sealed from now on, and that a node
// is elsewhere or no member any more, is so for all sessions at once, however many there are.
func TestNothingGoesByARowOfBefore(t *testing.T) {
	const sessions = 4*MaxRemade + 8
	clear := func(s dataplane.RouteSlice) bool { return !s.Sealed }
	there := func(s dataplane.RouteSlice) bool { return s.HandOn.Remote.Addr() == inside(3) }
	view := func(v protocol.View) func(*fixture) {
		return func(f *fixture) { f.learn(&v) }
	}
	elsewhere := protocol.NodeRow{ID: idOf(3), Index: 3, Outer: outer(3), Inside: inside(43), Up: true}
	for _, c := range []struct {
		what    string
		happens func(*fixture)
		wrong   func(dataplane.RouteSlice) bool
	}{
		{"the mesh seals", func(f *fixture) { f.Agent.view.policy.HandOn, f.changes.mesh = registry.HandOnSealed, true }, clear},
		{"strangers came", func(f *fixture) { exposure(true).apply(f.Agent) }, clear},
		{"a node moved", view(protocol.View{Nodes: []protocol.NodeRow{elsewhere}}), there},
		{"a node is gone", view(protocol.View{Nodes: []protocol.NodeRow{{Index: 3, Removed: true}}}), there},
	} {
		t.Run(c.what, func(t *testing.T) {
			f := ruling(t)
			f.crowd(sessions)
			for range 3 {
				f.pass(TickEvery, 2, 3)
			}
			for f.unpublished() != nil {
				f.publishIfDirty()
			}
			c.happens(f)
			f.publishIfDirty()
			handed, wrong := 0, 0
			for _, r := range f.tables.routed {
				for _, s := range r.route.Slices {
					if s.HandOn == nil {
						continue
					}
					if handed++; c.wrong(s) {
						wrong++
					}
				}
			}
			if wrong != 0 || handed == 0 {
				t.Errorf("%d of %d go on as before", wrong, handed)
			}
		})
	}
}

// TestTablesAsFromScratch: after any events the tables are what they would be if all
// had been made anew, and so is what pairs were told.
func TestTablesAsFromScratch(t *testing.T) {
	for seed := range uint64(12) {
		m := &mayhem{fixture: ruling(t), random: rand.New(rand.NewPCG(seed, 9)), rows: map[int]protocol.RouteRow{}}
		m.hear(&protocol.Node{View: &protocol.View{Parts: []registry.Part{m.part(3, m.self(), idOf(2))}}})
		for step := range 250 {
			what := m.play()
			m.publishIfDirty()
			got := m.picture()
			if want := m.fromScratch(); got != want {
				t.Fatalf("seed %d, step %d, %s:\n%s", seed, step, what, firstDifference(got, want))
			}
		}
		m.endAll()
	}
}

// mayhem is an agent to which anything happens.
type mayhem struct {
	*fixture
	random *rand.Rand
	rows   map[int]protocol.RouteRow // as the arbiter has them
}

const mayhemSessions = 8

// play lets one thing happen, and names it.
func (m *mayhem) play() string {
	n := m.random.IntN(mayhemSessions)
	id, leases := numbered(n)
	say := func(v *protocol.View) { m.hear(&protocol.Node{View: v}) }
	switch m.random.IntN(16) {
	case 0, 1, 2:
		row := m.anyRoute(id, leases)
		m.rows[n] = row
		say(&protocol.View{Routes: []protocol.RouteRow{row}})
		return "route"
	case 3:
		delete(m.rows, n)
		say(&protocol.View{Unroutes: []registry.SessionID{id}})
		return "no route"
	case 4:
		say(&protocol.View{Rules: []protocol.RuleRow{m.anyRule(id)}})
		return "rule"
	case 5:
		say(&protocol.View{Unrules: []registry.SessionID{id}})
		return "no rule"
	case 6, 7:
		key := sliceKey{id, uint8(m.random.IntN(2)), uint32(1 + m.random.IntN(3))}
		if m.slices.byKey[key] != nil {
			return "nothing"
		}
		s := m.holdSlice(key, leases[:1+m.random.IntN(2)])
		if m.random.IntN(2) == 0 {
			rule := m.anyRule(id)
			s.rule = &rule
		}
		m.keySlice(s)
		return "slice"
	case 8, 9, 10:
		return m.playSlice()
	case 11, 12:
		return m.playNode()
	case 13:
		m.condemn(sliceKey{id, 0, 1}, sliceKey{id, 1, 1})
		return "verdict"
	}
	return m.playMesh()
}

// anyRoute is a route over slices of any agents.
func (m *mayhem) anyRoute(id registry.SessionID, leases []netip.Addr) protocol.RouteRow {
	row := protocol.RouteRow{Session: id, Leases: leases[m.random.IntN(2):], Mode: registry.ModeBurst, SprayUDP: m.random.IntN(2) == 0}
	if m.random.IntN(2) == 0 {
		row.Mode = registry.ModeAuto
	}
	for number := range uint8(1 + m.random.IntN(3)) {
		agent := identity.Index(1 + m.random.IntN(4))
		row.Slices = append(row.Slices, protocol.RouteSlice{
			Number: number, Epoch: uint32(1 + m.random.IntN(2)), Agent: agent, SPI: esp.MakeSPI(agent, uint32(number)+5),
			Weight: uint32(m.random.IntN(3)),
		})
	}
	return row
}

func (m *mayhem) anyRule(id registry.SessionID) protocol.RuleRow {
	row := protocol.RuleRow{Session: id, Client: fmt.Sprint("client", m.random.IntN(3))}
	switch m.random.IntN(3) {
	case 0:
		row.Prefixes = network(fmt.Sprintf("10.20.%d.0/24", m.random.IntN(2)))
	case 1:
		row.Peer = idOf(identity.Index(2 + m.random.IntN(3)))
	}
	return row
}

// playSlice is a rekey, a revocation or an end.
func (m *mayhem) playSlice() string {
	keys := slices.SortedFunc(maps.Keys(m.slices.byKey), func(x, y sliceKey) int { return strings.Compare(fmt.Sprint(x), fmt.Sprint(y)) })
	if len(keys) == 0 {
		return "nothing"
	}
	s := m.slices.byKey[keys[m.random.IntN(len(keys))]]
	switch m.random.IntN(4) {
	case 0:
		if s.next == nil {
			s.next = m.keys(s, m.freshSPI(own))
			m.slices.bySPI[s.next.In.SPI()] = s
			s.rekeyed = 1 << 60 // nothing more is offered
			m.changes.slice(s)
		} else {
			m.switchKeys(s, m.Agent.config.Now())
		}
		return "rekey"
	case 1:
		m.release(s)
		return "release"
	case 2:
		m.hear(&protocol.Node{Revoke: &protocol.Revoke{Slice: s.key.ref(), Linger: 1}})
		return "revoke"
	}
	m.dropSlice(s, "the test says so")
	return "drop"
}

// playNode lets a node come, go, move or fall silent.
func (m *mayhem) playNode() string {
	index := identity.Index(2 + m.random.IntN(3))
	row := protocol.NodeRow{ID: idOf(index), Index: index, Outer: outer(index), Inside: inside(index), Up: true}
	switch m.random.IntN(4) {
	case 0:
		row = protocol.NodeRow{Index: index, Removed: true}
	case 1:
		row.Inside = inside(index + 40)
	case 2:
		for range 6 {
			m.pass(TickEvery, index)
		}
		return "all but one are silent"
	}
	m.hear(&protocol.Node{View: &protocol.View{Nodes: []protocol.NodeRow{row}}})
	return "node"
}

// playMesh is what concerns all sessions.
func (m *mayhem) playMesh() string {
	policy := registry.Policy{Headless: 900, Prefixes: network("10.20.0.0/16")}
	switch m.random.IntN(6) {
	case 0:
		policy.Prefixes = network("10.30.0.0/16")
	case 1:
		policy.HandOn = registry.HandOnSealed
	case 2:
		m.do(ownAddresses{netip.AddrFrom4([4]byte{10, 20, 0, byte(m.random.IntN(4))})})
		return "own addresses"
	case 3:
		nodes := []identity.NodeID{m.self(), idOf(2), idOf(3)}
		egress := m.random.IntN(3)
		epoch := m.onlyPart().row.Epoch + 1
		m.hear(&protocol.Node{View: &protocol.View{Parts: []registry.Part{m.part(epoch, nodes[egress], nodes[(egress+1)%3])}}})
		return "part"
	case 4:
		full := m.ruled()
		full.Judges = m.random.IntN(3) > 0
		full.Slices = m.slices.held()[:len(m.slices.byKey)/2]
		for n, row := range m.rows {
			if m.random.IntN(4) > 0 {
				full.Routes = append(full.Routes, row)
			} else {
				delete(m.rows, n)
			}
		}
		m.hear(&protocol.Node{View: full})
		return "full view"
	}
	m.hear(&protocol.Node{View: &protocol.View{Policy: &policy}})
	return "policy"
}

// picture is all that the packet engine and the host are told, in words.
func (m *mayhem) picture() string {
	var lines []string
	note := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	t := m.engineTable()
	for k, p := range t.In.All() {
		note("in %d %p", k.Low, p)
	}
	for k, p := range t.Granted.All() {
		note("granted %d %p", k.Low, p)
	}
	for lease, r := range t.Routes.All() {
		note("route %v %s", lease, routeInWords(r))
	}
	for lease, r := range t.Local.All() {
		note("local %v %s", lease, routeInWords(r))
	}
	for lease, rule := range m.host.reach.All() {
		note("reach %v %v", lease, *rule)
	}
	for _, s := range m.slices.byKey {
		for _, p := range s.pairs() {
			note("pair %p may %+v", p, p.Rule())
			for _, v6 := range []bool{false, true} {
				note("pair %p goes on %v %+v", p, v6, p.Onward(v6))
			}
		}
	}
	note("nodes %v peers %v links %v here %v sealed %v", t.Nodes, t.Peers, t.Links, t.Here, t.Sealed)
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func routeInWords(r *dataplane.Route) string {
	var ways []string
	for _, s := range r.Slices {
		way := "here"
		if s.HandOn != nil {
			way = fmt.Sprint(*s.HandOn)
		}
		ways = append(ways, fmt.Sprintf("%d: %p %s %v %p", s.SPI, s.Pair, way, s.Sealed, s.Link))
	}
	return fmt.Sprintf("%v %v %+v %p %+v %v", ways, r.Upward, *r.Set, r.Spread, r.Rule, r.SprayUDP)
}

// fromScratch is the picture of tables in which every row was made anew.
func (m *mayhem) fromScratch() string {
	m.tables = newTables()
	m.changes = changes{mesh: true, nodes: true, rules: true}
	for _, s := range m.slices.byKey {
		s.shown = [3]*dataplane.Pair{}
		m.changes.slice(s)
	}
	m.host.reach = pages.Addresses[*admit.Rule]{}
	m.publishIfDirty()
	return m.picture()
}

func firstDifference(got, want string) string {
	had := strings.Split(got, "\n")
	for _, line := range strings.Split(want, "\n") {
		if !slices.Contains(had, line) {
			return "lacks " + line
		}
	}
	for _, line := range had {
		if !slices.Contains(strings.Split(want, "\n"), line) {
			return "has still " + line
		}
	}
	return "the same lines"
}

// endAll ends every session: nothing is left of any.
func (m *mayhem) endAll() {
	m.Helper()
	for _, s := range m.slices.byKey {
		m.dropSlice(s, "the test is over")
	}
	over := &protocol.View{}
	for n := range mayhemSessions {
		id, _ := numbered(n)
		over.Unroutes, over.Unrules = append(over.Unroutes, id), append(over.Unrules, id)
	}
	m.hear(&protocol.Node{View: over})
	m.nothingLeft()
}

// nothingLeft counts the rows of everything that sessions have rows in.
func (f *fixture) nothingLeft() {
	f.Helper()
	t, v, s, r := f.tables, f.Agent.view, f.slices, f.rules
	for what, n := range map[string]int{
		"in": t.in.Len(), "granted": t.granted.Len(), "routes": t.routes.Len(), "local": t.local.Len(), "reach": t.reach.Len(),
		"routed": len(t.routed), "leased": len(t.leased),
		"view routes": len(v.routes), "spreads": len(v.spreads), "modes": len(v.modes), "verdicts": len(v.silent),
		"fed": len(v.fed), "raised": len(v.raised), "restless": len(v.restless),
		"slices": len(s.byKey), "SPIs": len(s.bySPI), "by session": len(s.bySession), "by node": len(s.byNode), "due": len(s.due),
		"rule rows": len(r.rows), "compiled": len(r.compiled), "rules of": len(r.of), "ended": len(f.ended),
	} {
		if n != 0 {
			f.Errorf("%d rows of %s are left when all sessions have ended", n, what)
		}
	}
}

// BenchmarkScale is what one session's event, and one tick of an agent at rest, cost with
// as many slices as there are sessions. One in 300 is heard in the time of a tick: a
// client that is idle is heard every 15 s and told of every 30.
func BenchmarkScale(b *testing.B) {
	for _, n := range []int{1_000, 10_000} {
		f := ruling(b)
		view := f.crowd(n)
		f.said = nil
		slice := func(i int) *slice { return f.slices.byKey[sliceKey{view.Routes[i%n].Session, 0, 1}] }
		size := fmt.Sprintf("/nodes=3/sessions=%d", n)
		b.Run("an_event_at_an_agent"+size, func(b *testing.B) {
			cost.Measure(b, nil, func(i int) {
				f.changes.slice(slice(i))
				f.publishIfDirty()
			})
		})
		next := 0
		heard := func(int) {
			for range n / 300 {
				next++
				slice(next).said.at = 0
			}
		}
		tick := func(int) {
			f.clock.Add(int64(TickEvery))
			f.wordAt = f.Agent.config.Now()
			f.tick()
			for _, ix := range []identity.Index{2, 3} {
				f.reply(probe.Node{From: ix, Asked: probe.TypeNode})
			}
			f.said = nil
		}
		for i := range 2 * UsageTicks {
			tick(i)
		}
		b.Run("a_tick_of_an_agent"+size, func(b *testing.B) { cost.Measure(b, heard, tick) })
	}
}
