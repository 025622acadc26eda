package arbiter

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"slices"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// nodeView is what one node was told, encoded by key, so that only changes
// travel.
type nodeView struct {
	nodes  map[identity.Index]string
	parts  map[netip.Prefix]string
	routes map[registry.SessionID]string
	rules  map[registry.SessionID]protocol.RuleRow
	policy string
}

// pushViews tells every node what changed for it.
func (a *Arbiter) pushViews() {
	voters := a.voters()
	a.config.Store.View(func(s *registry.State) {
		rows, rules := a.nodeRows(s, voters), rulesByNode(s)
		for _, n := range a.nodes {
			a.pushView(s, rows, rules[n.node], n)
		}
		a.confirmRoutes(s)
		a.pushWeights(s)
		a.pushPrefixes(s)
		a.forgetMeasures(s)
	})
}

// voters are the nodes whose vote counts: the Raft configuration's word, not
// that of a role.
func (a *Arbiter) voters() map[identity.NodeID]bool {
	voters := make(map[identity.NodeID]bool)
	for _, server := range a.config.Store.Servers() {
		voters[server.ID] = server.Voter
	}
	return voters
}

// pushView sends a full view once and differences afterwards.
func (a *Arbiter) pushView(s *registry.State, rows []protocol.NodeRow, rules []protocol.RuleRow, n *nodeStream) {
	first := n.sent == nil
	if first {
		n.sent = &nodeView{
			nodes:  make(map[identity.Index]string),
			parts:  make(map[netip.Prefix]string),
			routes: make(map[registry.SessionID]string),
			rules:  make(map[registry.SessionID]protocol.RuleRow),
		}
	}
	v := &protocol.View{Full: first, Judges: first}
	n.sent.diffNodes(rows, v)
	n.sent.diffParts(s.Parts, v)
	n.sent.diffRoutes(a.routesFor(s, n.node), v)
	n.sent.diffRules(rules, v)
	policy := s.PolicyInForce()
	if text := encoded(policy); text != n.sent.policy {
		n.sent.policy = text
		v.Policy = &policy
	}
	if first {
		v.Pool, v.Egress, v.ProbeKey = s.Cluster.Pool, s.Cluster.Egress, a.probeKey
		v.Arbiter, v.GossipKey = a.config.Trust.Key.ID(), a.gossipKey
		v.Slices = slicesOf(s, n.node, n.hello.Boot)
	}
	if first || len(v.Nodes)+len(v.Parts)+len(v.Routes)+len(v.Unroutes)+len(v.Rules)+len(v.Unrules) > 0 || v.Policy != nil {
		n.say(&protocol.Node{View: v})
	}
}

// pushRoute tells a session's egress and second what changed of its route, and
// nobody anything else: that clients measure something new is no reason to compare
// all that everybody knows.
func (a *Arbiter) pushRoute(id registry.SessionID) {
	a.config.Store.View(func(s *registry.State) {
		live := s.Sessions.Get(id)
		if live == nil || live.State != registry.SessionActive {
			return
		}
		row := a.routeOf(s, live)
		for _, node := range []identity.NodeID{live.Egress, live.Second} {
			n, v := a.nodes[node], &protocol.View{}
			if n == nil || n.sent == nil {
				continue // it is told with everything else
			}
			n.sent.diffRule(ruleOf(s, live), v)
			if n.sent.diffRoute(row, v); len(v.Routes) > 0 {
				n.say(&protocol.Node{View: v})
			}
		}
	})
}

// encoded is the value's JSON, to compare by.
func encoded(value any) string {
	// These plain structs cannot fail to encode.
	raw, _ := json.Marshal(value)
	return string(raw)
}

func (sent *nodeView) diffNodes(rows []protocol.NodeRow, v *protocol.View) {
	now := make(map[identity.Index]bool, len(rows))
	for _, row := range rows {
		now[row.Index] = true
		if text := encoded(row); sent.nodes[row.Index] != text {
			sent.nodes[row.Index] = text
			v.Nodes = append(v.Nodes, row)
		}
	}
	for index := range sent.nodes {
		if !now[index] {
			delete(sent.nodes, index)
			v.Nodes = append(v.Nodes, protocol.NodeRow{Index: index, Removed: true})
		}
	}
}

func (sent *nodeView) diffParts(parts []registry.Part, v *protocol.View) {
	for _, p := range parts {
		if text := encoded(p); sent.parts[p.Prefix] != text {
			sent.parts[p.Prefix] = text
			v.Parts = append(v.Parts, p)
		}
	}
}

func (sent *nodeView) diffRoutes(routes []protocol.RouteRow, v *protocol.View) {
	for _, r := range routes {
		sent.diffRoute(r, v)
	}
	v.Unroutes = vanished(sent.routes, routes, func(r protocol.RouteRow) registry.SessionID { return r.Session })
}

// vanished forgets what was sent of sessions that have no row any more, and names them.
func vanished[Sent, Row any](sent map[registry.SessionID]Sent, rows []Row, of func(Row) registry.SessionID) (gone []registry.SessionID) {
	now := make(map[registry.SessionID]bool, len(rows))
	for _, r := range rows {
		now[of(r)] = true
	}
	for id := range sent {
		if !now[id] {
			delete(sent, id)
			gone = append(gone, id)
		}
	}
	return gone
}

func (sent *nodeView) diffRoute(r protocol.RouteRow, v *protocol.View) {
	if text := encoded(r); sent.routes[r.Session] != text {
		sent.routes[r.Session] = text
		v.Routes = append(v.Routes, r)
	}
}

// nodeRows are all members, by index.
func (a *Arbiter) nodeRows(s *registry.State, voters map[identity.NodeID]bool) []protocol.NodeRow {
	var rows []protocol.NodeRow
	for _, n := range sortedNodes(s) {
		if n.Removed {
			continue
		}
		stream, fault := a.nodes[n.ID], ""
		if stream != nil {
			fault = stream.fault
		}
		rows = append(rows, protocol.NodeRow{
			ID: n.ID, Key: n.Key, Name: n.Name, Index: n.Index, Outer: n.Outer, Other: n.Other, Inside: n.Inside,
			May: n.May, Is: n.Is, Voter: voters[n.ID], Up: stream != nil, Boot: n.Boot, Fault: fault, Drained: n.Drained, Clock: int64(a.wrong[n.ID] / time.Second),
		})
	}
	return rows
}

func sortedNodes(s *registry.State) []*registry.Node {
	nodes := make([]*registry.Node, 0, len(s.Nodes))
	for _, n := range s.Nodes {
		nodes = append(nodes, n)
	}
	slices.SortFunc(nodes, func(x, y *registry.Node) int { return int(x.Index) - int(y.Index) })
	return nodes
}

// routesFor are the sessions whose replies arrive, or may soon arrive, at a node.
func (a *Arbiter) routesFor(s *registry.State, node identity.NodeID) []protocol.RouteRow {
	var routes []protocol.RouteRow
	for _, session := range s.Sessions.All() {
		if session.State == registry.SessionActive && (session.Egress == node || session.Second == node) {
			routes = append(routes, a.routeOf(s, session))
		}
	}
	slices.SortFunc(routes, func(x, y protocol.RouteRow) int { return bytes.Compare(x.Session[:], y.Session[:]) })
	return routes
}

// routeOf is the way down: of every slice the newest epoch that is up, so
// that an older one carries on until its successor has proven itself. What is spare
// weighs nothing there while there is something else.
func (a *Arbiter) routeOf(s *registry.State, session *registry.Session) protocol.RouteRow {
	row := protocol.RouteRow{
		Session: session.ID, Leases: session.Leases, Mode: session.Mode, SprayUDP: session.SprayUDP, Flow: a.flowOf(session.ID),
	}
	newest := make(map[uint8]registry.Slice)
	for _, sl := range append(slices.Clone(session.Retiring), session.Slices...) {
		if sl.State != registry.SliceVoid {
			row.Upward = append(row.Upward, sl.SPI)
		}
		if sl.State == registry.SliceUp && sl.Epoch >= newest[sl.Number].Epoch {
			newest[sl.Number] = sl
		}
	}
	onlySpares := true
	for _, sl := range newest {
		onlySpares = onlySpares && sl.Spare
	}
	for _, sl := range newest {
		agent := s.Nodes[sl.Agent]
		if agent == nil {
			continue
		}
		if sl.Spare && !onlySpares {
			sl.Weight = 0
		}
		row.Slices = append(row.Slices, protocol.RouteSlice{
			Number: sl.Number, Epoch: sl.Epoch, Agent: agent.Index, SPI: sl.SPI, Weight: sl.Weight,
		})
	}
	slices.SortFunc(row.Slices, func(x, y protocol.RouteSlice) int { return int(x.Number) - int(y.Number) })
	slices.Sort(row.Upward)
	return row
}

// slicesOf is every epoch that a boot of a node is to hold.
func slicesOf(s *registry.State, node identity.NodeID, boot identity.BootID) []protocol.SliceRef {
	var refs []protocol.SliceRef
	for _, session := range s.Sessions.All() {
		if session.State != registry.SessionActive {
			continue
		}
		for _, sl := range append(slices.Clone(session.Retiring), session.Slices...) {
			if sl.Agent == node && sl.Boot == boot && sl.State != registry.SliceVoid {
				refs = append(refs, protocol.SliceRef{Session: session.ID, Number: sl.Number, Epoch: sl.Epoch})
			}
		}
	}
	return refs
}
