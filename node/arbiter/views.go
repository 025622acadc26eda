package arbiter

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// pushViews tells every node and client what changed for it: what the registry's feed
// names, and what the arbiter itself knows of nodes. It costs what changed, and what is
// told to several is made and encoded once. Under the registry's lock it is only noted
// what to look at.
func (a *Arbiter) pushViews() {
	a.revote()
	var s *registry.State
	var touched registry.Touched
	a.config.Store.View(func(now *registry.State) {
		touched, a.book.mark = now.Touched(a.book.mark)
		s = now.Clone()
	})
	if touched.All || len(touched.Nodes) > 0 {
		a.entrances = nil
	}
	seen := a.look(s, touched)
	clear(a.book.stale)
	var w news
	for id, row := range seen.nodes {
		a.book.enterNode(id, row, &w)
	}
	for _, p := range seen.parts {
		a.book.enterPart(p, &w)
	}
	if seen.policy != nil {
		a.book.enterPolicy(seen.policy, &w)
	}
	a.lookAt(s, seen.sessions, &w)
	a.tell(&w)
	for id := range seen.nodes {
		if n := a.nodes[id]; n != nil && !n.told {
			n.told = true
			n.Say(&protocol.Node{View: a.wholeView(s, n)})
		}
	}
}

// pushSessions tells whom they concern what changed of sessions, and nothing else.
func (a *Arbiter) pushSessions(ids ...registry.SessionID) {
	var w news
	a.lookAt(a.clone(), ids, &w)
	a.tell(&w)
}

// clone is the registry as it is now.
func (a *Arbiter) clone() (s *registry.State) {
	a.config.Store.View(func(now *registry.State) { s = now.Clone() })
	return s
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

// revote notes whose vote has come or gone.
func (a *Arbiter) revote() {
	now := a.voters()
	for id, voter := range now {
		if a.book.voters[id] != voter {
			a.book.stale[id] = true
		}
	}
	for id := range a.book.voters {
		if _, is := now[id]; !is {
			a.book.stale[id] = true
		}
	}
	a.book.voters = now
}

// sight is what one look at the registry found of what may have changed.
type sight struct {
	nodes    map[identity.NodeID]*protocol.NodeRow // nil: it is no member
	parts    []registry.Part
	policy   *registry.Policy // nil: neither this nor parts were looked at
	sessions []registry.SessionID
}

// look finds out what may have changed, beside the nodes that are stale.
func (a *Arbiter) look(s *registry.State, touched registry.Touched) (seen sight) {
	seen.nodes = make(map[identity.NodeID]*protocol.NodeRow, len(a.book.stale)+len(touched.Nodes))
	seen.sessions = touched.Sessions
	for id := range a.book.stale {
		seen.nodes[id] = a.nodeRow(s, id)
	}
	for _, id := range touched.Nodes {
		seen.nodes[id] = a.nodeRow(s, id)
	}
	if touched.All {
		a.lookAround(s, &seen)
	}
	if touched.All || touched.Mesh || len(touched.Nodes) > 0 { // who is exposed decides how all hand on
		seen.parts, seen.policy = s.Parts, new(s.PolicyInForce())
	}
	if seen.policy != nil && (a.book.policy == nil || a.book.policy.Version != seen.policy.Version) {
		seen.sessions = slices.AppendSeq(seen.sessions, maps.Keys(a.served))
		seen.sessions = slices.AppendSeq(seen.sessions, maps.Keys(a.parking.sessions))
	}
	seen.sessions = append(seen.sessions, a.peersMoved(&seen)...)
	return seen
}

// lookAround is for who does not know what changed: everything may have, and may be gone.
func (a *Arbiter) lookAround(s *registry.State, seen *sight) {
	for id := range s.Nodes {
		seen.nodes[id] = a.nodeRow(s, id)
	}
	for id := range a.book.nodes {
		seen.nodes[id] = a.nodeRow(s, id)
	}
	for id := range a.nodes {
		seen.nodes[id] = a.nodeRow(s, id)
	}
	for id := range s.Sessions.IDs() {
		seen.sessions = append(seen.sessions, id)
	}
	for id := range a.book.sessions {
		if !s.Sessions.Has(id) {
			seen.sessions = append(seen.sessions, id)
		}
	}
	seen.sessions = slices.AppendSeq(seen.sessions, maps.Keys(a.measures))
}

// peersMoved are the sessions whose peer has another inside address, or is gone: what
// their clients reach is that address.
func (a *Arbiter) peersMoved(seen *sight) (ids []registry.SessionID) {
	for id, now := range seen.nodes {
		was, known := a.book.nodes[id]
		if !known || now != nil && now.Inside == was.Inside {
			continue
		}
		for session, e := range a.book.of[id] {
			if e.rule.Peer == id {
				ids = append(ids, session)
			}
		}
	}
	return ids
}

// nodeRow is what all are told of a member; nil of who is none.
func (a *Arbiter) nodeRow(s *registry.State, id identity.NodeID) *protocol.NodeRow {
	n := s.Nodes[id]
	if n == nil || n.Removed {
		return nil
	}
	stream, fault, disk, lack := a.nodes[id], "", "", ""
	if stream != nil {
		fault, disk, lack = stream.fault, stream.disk, stream.lack
	}
	return &protocol.NodeRow{
		ID: n.ID, Key: n.Key, Name: n.Name, Index: n.Index, Outer: n.Outer, Other: n.Other, Inside: n.Inside,
		May: n.May, Is: n.Is, Voter: a.book.voters[id], Up: stream != nil, Boot: n.Boot, Fault: fault, Drained: n.Drained,
		Disk: disk, Lack: lack, Clock: int64(a.wrong[id] / time.Second),
	}
}

// lookAt enters sessions, and tells their clients.
func (a *Arbiter) lookAt(s *registry.State, ids []registry.SessionID, w *news) {
	for _, id := range ids {
		live := active(s, id)
		if live == nil {
			delete(a.measures, id)
			delete(a.moved, id)
			delete(a.offers, id)
			delete(a.parking.sessions, id)
			a.book.enterSession(id, nil, w)
			continue
		}
		now := &entry{route: a.routeOf(s, live), rule: ruleOf(s, live), forwards: 1}
		if !live.Second.IsZero() && live.Second != live.Egress {
			now.forwards = 2
		}
		now.judges = identity.SeveralOf(judges(live))
		a.book.enterSession(id, now, w)
		if c := a.served[id]; c != nil {
			a.tellClient(s, c, live)
		}
		a.compareMark(s, live)
	}
}

func active(s *registry.State, id registry.SessionID) *registry.Session {
	if live := s.Sessions.Get(id); live != nil && live.State == registry.SessionActive {
		return live
	}
	return nil
}

// tell gives each node its share of the news. Those that are not told anything yet are
// told all of it instead.
func (a *Arbiter) tell(w *news) {
	said := make(map[string]*protocol.Node)
	say := func(n *nodeStream, shares []byte) {
		m := said[string(shares)]
		if m == nil {
			m = (&protocol.Node{View: w.view(string(shares))}).ToMany()
			said[string(shares)] = m
		}
		n.Say(m)
	}
	if w.common() {
		for id, n := range a.nodes {
			if n.told {
				say(n, w.shares[id])
			}
		}
		return
	}
	for id, shares := range w.shares {
		if n := a.nodes[id]; n != nil && n.told {
			say(n, shares)
		}
	}
}

// wholeView is what a new stream is told first.
func (a *Arbiter) wholeView(s *registry.State, n *nodeStream) *protocol.View {
	v := a.book.whole(n.node)
	v.Pool, v.Egress, v.ProbeKey = a.cluster.Pool, a.cluster.Egress, a.probeKey
	v.Arbiter, v.GossipKey = a.config.Trust.Key.ID(), a.gossipKey
	v.Slices = a.slicesOf(s, n.node, n.hello.Boot)
	return v
}

// encoded is the value's JSON, to compare by.
func encoded(value any) string {
	// These plain structs cannot fail to encode.
	raw, _ := json.Marshal(value)
	return string(raw)
}

func sortedNodes(s *registry.State) []*registry.Node {
	nodes := make([]*registry.Node, 0, len(s.Nodes))
	for _, n := range s.Nodes {
		nodes = append(nodes, n)
	}
	slices.SortFunc(nodes, func(x, y *registry.Node) int { return int(x.Index) - int(y.Index) })
	return nodes
}

// routeOf is the way down: of every slice the newest epoch that is up, so
// that an older one carries on until its successor has proven itself. What is spare
// weighs nothing there while there is something else.
func (a *Arbiter) routeOf(s *registry.State, session *registry.Session) protocol.RouteRow {
	row := protocol.RouteRow{
		Session: session.ID, Leases: session.Leases, Mode: session.Mode, SprayUDP: session.SprayUDP, Flow: a.flowOf(session.ID),
	}
	newest := make(map[uint8]registry.Slice)
	row.Upward = make([]uint32, 0, len(session.Retiring)+len(session.Slices))
	for _, sl := range append(slices.Clone(session.Retiring), session.Slices...) {
		if sl.State != registry.SliceVoid {
			row.Upward = append(row.Upward, sl.SPI)
		}
		if sl.State == registry.SliceUp && sl.Epoch >= newest[sl.Number].Epoch {
			newest[sl.Number] = sl
		}
	}
	onlySpares := true
	row.Slices = make([]protocol.RouteSlice, 0, len(newest))
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

// slicesOf is every epoch that a boot of a node is to hold, of the sessions that the
// book has of it, in their order: what follows is the same whenever the same happens.
func (a *Arbiter) slicesOf(s *registry.State, node identity.NodeID, boot identity.BootID) []protocol.SliceRef {
	var refs []protocol.SliceRef
	compare := func(x, y registry.SessionID) int { return bytes.Compare(x[:], y[:]) }
	for _, id := range slices.SortedFunc(maps.Keys(a.book.of[node]), compare) {
		live := active(s, id)
		if live == nil {
			continue
		}
		for _, epochs := range [][]registry.Slice{live.Retiring, live.Slices} {
			for _, sl := range epochs {
				if sl.Agent == node && sl.Boot == boot && sl.State != registry.SliceVoid {
					refs = append(refs, protocol.SliceRef{Session: id, Number: sl.Number, Epoch: sl.Epoch})
				}
			}
		}
	}
	return refs
}
