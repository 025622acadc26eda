package arbiter

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// book is what the nodes that have a stream were told: one copy for all of them. What
// differs from it is what they are told next; a new stream is told all of it.
type book struct {
	mark     registry.Mark // how far the registry's feed was read
	voters   map[identity.NodeID]bool
	nodes    map[identity.NodeID]protocol.NodeRow
	ordered  []protocol.NodeRow // the same by index: each stream that opens is told of all
	parts    map[netip.Prefix]registry.Part
	policy   *registry.Policy // in force; nil: nothing was looked at yet
	sessions map[registry.SessionID]*entry
	of       map[identity.NodeID]map[registry.SessionID]*entry // by node that it concerns
	// stale are nodes about which the arbiter itself knows something new.
	stale map[identity.NodeID]bool
	rows  int // compared so far: what it all costs
}

// entry is what is told of an active session, and whom.
type entry struct {
	route    protocol.RouteRow // to egress and second
	rule     protocol.RuleRow  // to those and all its agents
	judges   identity.Several  // whom the rule is told; whom the route comes first
	forwards int               // of them: egress and second
}

func newBook() *book {
	return &book{
		nodes:    make(map[identity.NodeID]protocol.NodeRow),
		parts:    make(map[netip.Prefix]registry.Part),
		sessions: make(map[registry.SessionID]*entry),
		of:       make(map[identity.NodeID]map[registry.SessionID]*entry),
		stale:    make(map[identity.NodeID]bool),
	}
}

// routed reports whether a node is told of the route.
func (e *entry) routed(node identity.NodeID) bool {
	if e == nil {
		return false
	}
	at := e.judges.Index(node)
	return at >= 0 && at < e.forwards
}

func (e *entry) judged(node identity.NodeID) bool { return e != nil && e.judges.Index(node) >= 0 }

// concerns are the nodes that are told of the session, and its peer, which it follows.
func (e *entry) concerns() []identity.NodeID {
	switch {
	case e == nil:
		return nil
	case e.rule.Peer.IsZero():
		return e.judges.All()
	}
	return append(e.judges.All(), e.rule.Peer)
}

// share is the part of a session's news that one node is told.
type share byte

const (
	route share = 1 << iota
	unroute
	rule
	unrule
)

// news is what differs from the book by now.
type news struct {
	all    protocol.View // what everybody is told: nodes, parts, policy
	rows   []*entry      // sessions that changed; of those that are over only the id
	shares map[identity.NodeID][]byte
}

// add notes a node's share of the newest row. The bytes of nodes that are told the same
// are the same.
func (w *news) add(node identity.NodeID, of share) {
	if w.shares == nil {
		w.shares = make(map[identity.NodeID][]byte)
	}
	w.shares[node] = append(binary.BigEndian.AppendUint32(w.shares[node], uint32(len(w.rows)-1)), byte(of))
}

// view is what nodes with these shares are told.
func (w *news) view(shares string) *protocol.View {
	v := w.all
	for ; len(shares) > 0; shares = shares[5:] {
		row, of := w.rows[binary.BigEndian.Uint32([]byte(shares[:4]))], share(shares[4])
		if of&route != 0 {
			v.Routes = append(v.Routes, row.route)
		}
		if of&unroute != 0 {
			v.Unroutes = append(v.Unroutes, row.route.Session)
		}
		if of&rule != 0 {
			v.Rules = append(v.Rules, row.rule)
		}
		if of&unrule != 0 {
			v.Unrules = append(v.Unrules, row.rule.Session)
		}
	}
	return &v
}

// common reports whether everybody is told something.
func (w *news) common() bool { return len(w.all.Nodes)+len(w.all.Parts) > 0 || w.all.Policy != nil }

// enterNode takes a member's row; nil: it is none any more.
func (b *book) enterNode(id identity.NodeID, now *protocol.NodeRow, w *news) {
	b.rows++
	was, known := b.nodes[id]
	switch {
	case now == nil && known:
		delete(b.nodes, id)
		b.order(was, nil)
		// First, for its index may be another's by now.
		w.all.Nodes = slices.Insert(w.all.Nodes, 0, protocol.NodeRow{Index: was.Index, Removed: true})
	case now != nil && *now != was:
		b.nodes[id] = *now
		b.order(was, now)
		w.all.Nodes = append(w.all.Nodes, *now)
	}
}

// order puts a row where another one of the same node was; of zero there was none.
func (b *book) order(was protocol.NodeRow, now *protocol.NodeRow) {
	place := func(row protocol.NodeRow) (int, bool) {
		return slices.BinarySearchFunc(b.ordered, row, func(x, y protocol.NodeRow) int {
			return cmp.Or(cmp.Compare(x.Index, y.Index), bytes.Compare(x.ID[:], y.ID[:])) // two have an index while it passes on
		})
	}
	at, known := place(was)
	switch {
	case known && now != nil && now.Index == was.Index:
		b.ordered[at] = *now
		return
	case known:
		b.ordered = slices.Delete(b.ordered, at, at+1)
	}
	if now != nil {
		at, _ = place(*now)
		b.ordered = slices.Insert(b.ordered, at, *now)
	}
}

// enterPart compares all but where the next lease is searched for, which concerns nobody
// and moves with each login.
func (b *book) enterPart(p registry.Part, w *news) {
	b.rows++
	p.Next, p.Other.Next = netip.Addr{}, netip.Addr{}
	if b.parts[p.Prefix] != p {
		b.parts[p.Prefix] = p
		w.all.Parts = append(w.all.Parts, p)
	}
}

func (b *book) enterPolicy(p *registry.Policy, w *news) {
	if b.policy == nil || encoded(*p) != encoded(*b.policy) {
		b.policy, w.all.Policy = p, p
	}
}

// enterSession takes what is to be told of a session; nil: nothing any more.
func (b *book) enterSession(id registry.SessionID, now *entry, w *news) {
	b.rows++
	was := b.sessions[id]
	if was == nil && now == nil {
		return
	}
	row := now
	if now == nil {
		row = &entry{route: protocol.RouteRow{Session: id}, rule: protocol.RuleRow{Session: id}}
		delete(b.sessions, id)
	} else {
		b.sessions[id] = now
	}
	w.rows = append(w.rows, row)
	newRoute := was == nil || now == nil || !was.route.Equal(now.route)
	newRule := was == nil || now == nil || !was.rule.Equal(now.rule)
	concerned := slices.Concat(was.concerns(), now.concerns())
	slices.SortFunc(concerned, func(x, y identity.NodeID) int { return bytes.Compare(x[:], y[:]) })
	for _, node := range slices.Compact(concerned) {
		of := differs(was.routed(node), now.routed(node), newRoute, route, unroute) |
			differs(was.judged(node), now.judged(node), newRule, rule, unrule)
		if of != 0 {
			w.add(node, of)
		}
		b.index(node, id, now)
	}
}

// differs is what somebody is told who had a row, has one, or both.
func differs(had, has, changed bool, row, gone share) share {
	switch {
	case has && (!had || changed):
		return row
	case had && !has:
		return gone
	}
	return 0
}

// index keeps the sessions of each node.
func (b *book) index(node identity.NodeID, id registry.SessionID, now *entry) {
	if slices.Contains(now.concerns(), node) {
		if b.of[node] == nil {
			b.of[node] = make(map[registry.SessionID]*entry)
		}
		b.of[node][id] = now
	} else if delete(b.of[node], id); len(b.of[node]) == 0 {
		delete(b.of, node)
	}
}

// whole is all that a node is told of the book.
func (b *book) whole(node identity.NodeID) *protocol.View {
	v := &protocol.View{Full: true, Judges: true, Changes: true, Policy: b.policy, Nodes: slices.Clone(b.ordered)}
	for _, p := range b.parts {
		v.Parts = append(v.Parts, p)
	}
	slices.SortFunc(v.Parts, func(x, y registry.Part) int { return x.Prefix.Compare(y.Prefix) })
	for _, e := range b.of[node] {
		if e.judged(node) {
			v.Rules = append(v.Rules, e.rule)
		}
		if e.routed(node) {
			v.Routes = append(v.Routes, e.route)
		}
	}
	return v
}
