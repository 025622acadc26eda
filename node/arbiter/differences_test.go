package arbiter

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus"
	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/node/protocol"
	"github.com/meshcrypt/meshcrypt/node/session"
)

// reader is a node's, as it is told.
type reader struct {
	stream *nodeStream
	nodes  map[identity.Index]protocol.NodeRow
	parts  map[netip.Prefix]registry.Part
	routes map[registry.SessionID]protocol.RouteRow
	rules  map[registry.SessionID]protocol.RuleRow
	policy registry.Policy
}

func newReader(n *nodeStream) *reader {
	return &reader{
		stream: n, nodes: map[identity.Index]protocol.NodeRow{}, parts: map[netip.Prefix]registry.Part{},
		routes: map[registry.SessionID]protocol.RouteRow{}, rules: map[registry.SessionID]protocol.RuleRow{},
	}
}

// read takes in what was said.
func (r *reader) read() {
	for _, v := range views(r.stream) {
		r.learn(v)
	}
}

// learn does so in the order in which node/agent does.
func (r *reader) learn(v *protocol.View) {
	if v.Full {
		clear(r.nodes)
		clear(r.routes)
		clear(r.rules)
	}
	for _, row := range v.Nodes {
		if r.nodes[row.Index] = row; row.Removed {
			delete(r.nodes, row.Index)
		}
	}
	for _, id := range v.Unroutes {
		delete(r.routes, id)
	}
	for _, row := range v.Routes {
		r.routes[row.Session] = row
	}
	for _, id := range v.Unrules {
		delete(r.rules, id)
	}
	for _, row := range v.Rules {
		r.rules[row.Session] = row
	}
	for _, p := range v.Parts {
		r.parts[p.Prefix] = p
	}
	if v.Policy != nil {
		r.policy = *v.Policy
	}
}

// whole is what a node would know if it were told everything now.
func (h *history) whole(n *nodeStream) *reader {
	all := newReader(n)
	voters := h.a.voters()
	h.store.View(func(s *registry.State) {
		for _, m := range s.Members() {
			row := *h.a.nodeRow(s, m.ID)
			row.Voter = voters[m.ID]
			all.nodes[m.Index] = row
		}
		for _, p := range s.Parts {
			p.Next, p.Other.Next = netip.Addr{}, netip.Addr{}
			all.parts[p.Prefix] = p
		}
		for _, live := range s.ActiveSessions() {
			if live.Egress == n.node || live.Second == n.node {
				all.routes[live.ID] = h.a.routeOf(s, live)
			}
			if slices.Contains(judges(live), n.node) {
				all.rules[live.ID] = ruleOf(s, live)
			}
		}
		all.policy = s.PolicyInForce()
	})
	return all
}

// differs says where two readers do.
func (r *reader) differs(o *reader) string {
	same := func(x, y protocol.RouteRow) bool { return x.Equal(y) }
	switch {
	case !maps.Equal(r.nodes, o.nodes):
		return fmt.Sprintf("nodes %+v\nnot %+v", r.nodes, o.nodes)
	case !maps.Equal(r.parts, o.parts):
		return fmt.Sprintf("parts %+v\nnot %+v", r.parts, o.parts)
	case !maps.EqualFunc(r.routes, o.routes, same):
		return fmt.Sprintf("routes %+v\nnot %+v", r.routes, o.routes)
	case !maps.EqualFunc(r.rules, o.rules, protocol.RuleRow.Equal):
		return fmt.Sprintf("rules %+v\nnot %+v", r.rules, o.rules)
	case !reflect.DeepEqual(r.policy, o.policy):
		return fmt.Sprintf("policy %+v\nnot %+v", r.policy, o.policy)
	}
	return ""
}

// history is a random one of a mesh and of its streams.
type history struct {
	*fixture
	a       *Arbiter
	rnd     *rand.Rand
	joined  []identity.NodeID
	readers map[identity.NodeID]*reader
	opened  int
	spi     uint32
	weights map[registry.SessionID][]registry.SliceWeight // told to clients
	offered map[registry.SessionID][]netip.Prefix
}

func newHistory(t *testing.T, seed uint64) *history {
	f := newFixture(t)
	f.store.state.Feed = &registry.Feed{}
	h := &history{
		fixture: f, a: f.still(), rnd: rand.New(rand.NewPCG(seed, 2)), readers: map[identity.NodeID]*reader{},
		weights: map[registry.SessionID][]registry.SliceWeight{}, offered: map[registry.SessionID][]netip.Prefix{},
	}
	h.joined = []identity.NodeID{f.trust.Key.ID()}
	for _, name := range []string{"ann", "bob"} {
		h.commit(registry.Command{PutClient: &registry.PutClient{Client: registry.Client{Name: name}}})
	}
	for range 4 {
		h.join()
	}
	return h
}

// try proposes what the registry may refuse.
func (h *history) try(c registry.Command) {
	c.ID = h.a.commandID()
	_, err := h.store.Propose(h.Context(), c)
	h.ok(err)
}

func (h *history) join() {
	j := h.joiner(fmt.Sprint("n", len(h.joined)+1))
	token := h.token(dataRoles, 1, 1<<20)
	h.commit(registry.Command{JoinNode: &registry.JoinNode{Token: token.ID, Node: registry.Node{
		Key: j.key.Public(), WrapKey: j.wrap.Public(), Name: j.name, May: dataRoles, Outer: netip.MustParseAddrPort("192.0.2.9:6484"),
	}}})
	id := j.key.ID()
	h.joined = append(h.joined, id)
	h.try(registry.Command{SetRoles: &registry.SetRoles{ID: id, Is: dataRoles}})
	h.reconnect(id)
}

// reconnect ends a node's stream, and may open another.
func (h *history) reconnect(id identity.NodeID) {
	if old := h.a.nodes[id]; old != nil {
		nodeClosed{old}.apply(h.a)
		delete(h.readers, id)
	}
	if h.rnd.IntN(4) == 0 {
		return
	}
	n := stub(h.TB, id)
	h.store.View(func(s *registry.State) {
		if row := s.Nodes[id]; row != nil {
			n.hello = protocol.NodeHello{Boot: row.Boot, Outer: row.Outer, Inside: row.Inside, Capacity: row.Capacity, Networks: row.Networks, Exposed: row.Exposed}
		}
	})
	nodeOpened{n}.apply(h.a)
	h.readers[id] = newReader(n)
}

func (h *history) node() identity.NodeID { return h.joined[h.rnd.IntN(len(h.joined))] }

func (h *history) session() registry.SessionID { return crowded(h.rnd.IntN(h.opened + 1)) }

func (h *history) client() string { return []string{"ann", "bob"}[h.rnd.IntN(2)] }

func (h *history) slice(number int, epoch uint32) registry.Slice {
	id, index := h.node(), identity.Index(0)
	boot := identity.BootID{1}
	h.store.View(func(s *registry.State) {
		if n := s.Nodes[id]; n != nil {
			if index = n.Index; n.Boot != (identity.BootID{}) {
				boot = n.Boot
			}
		}
	})
	h.spi++
	return registry.Slice{Number: uint8(number), Epoch: epoch, Agent: id, Boot: boot, SPI: uint32(index)<<20 | h.spi, Suite: 1, Weight: 1}
}

// step is one thing that happens.
func (h *history) step() {
	a, id := h.a, h.session()
	switch h.rnd.IntN(20) {
	case 0, 1, 2:
		h.open()
	case 3, 4, 5, 6:
		state := []registry.SliceState{registry.SliceUp, registry.SliceUp, registry.SliceVoid}[h.rnd.IntN(3)]
		h.try(registry.Command{MarkSlice: &registry.MarkSlice{Session: id, Number: uint8(h.rnd.IntN(3)), Epoch: h.epoch(id), State: state}})
	case 7, 8:
		h.try(registry.Command{GrantSlice: &registry.GrantSlice{Session: id, Slice: h.slice(h.rnd.IntN(3), h.epoch(id)+1), Retire: h.rnd.IntN(2) == 0}})
	case 9:
		h.try(registry.Command{WeighSlices: &registry.WeighSlices{Session: id, Weights: []registry.SliceWeight{{Epoch: h.epoch(id), Weight: h.rnd.Uint32N(9)}}}})
	case 10:
		h.try(registry.Command{EndSession: &registry.EndSession{Session: id}})
	case 11:
		network := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 1, byte(h.rnd.IntN(5)), 0}), 24)
		h.try(registry.Command{PutClient: &registry.PutClient{Replace: true, Client: registry.Client{Name: h.client(), Prefixes: []netip.Prefix{network}}}})
	case 12:
		h.try(registry.Command{MovePart: &registry.MovePart{Prefix: h.store.state.Parts[0].Prefix, Epoch: h.store.state.Parts[0].Epoch, Egress: h.node(), Second: h.node()}})
	case 13:
		h.try(registry.Command{SetRoles: &registry.SetRoles{ID: h.node(), Is: registry.Roles(h.rnd.IntN(8)) & dataRoles, Drained: h.rnd.IntN(3) == 0}})
	case 14:
		h.try(registry.Command{UpdateNode: &registry.UpdateNode{ID: h.node(), Capacity: h.rnd.Uint32N(5), Exposed: h.rnd.IntN(4) == 0,
			Outer: netip.MustParseAddrPort("192.0.2.9:6484"), Inside: netip.AddrFrom4([4]byte{10, 0, 0, byte(h.rnd.IntN(9))}), Boot: identity.BootID{byte(h.rnd.IntN(9))}}})
	case 15:
		h.try(registry.Command{AdvanceTick: &registry.AdvanceTick{Elapsed: 1 + h.rnd.Uint64N(90_000)}})
	case 16:
		h.reconnect(h.node())
	case 17:
		if n := a.nodes[h.node()]; n != nil {
			is := []protocol.Soundness{protocol.Broken, protocol.Whole}[h.rnd.IntN(2)]
			nodeSaid{n, &protocol.Node{Condition: &protocol.Condition{Is: is}}}.apply(a)
		}
	case 18:
		a.takeMeasures(id, &protocol.Alive{Flow: protocol.Flow{Skew: h.rnd.Uint32N(3)}})
	default:
		h.seldom()
	}
	proposed(a)
}

// seldom is what happens less often.
func (h *history) seldom() {
	switch h.rnd.IntN(9) {
	case 0:
		h.join()
	case 6:
		h.a.tellClocks(map[identity.NodeID]time.Duration{h.node(): time.Duration(h.rnd.IntN(3)) * time.Hour})
	case 1:
		h.try(registry.Command{RemoveNode: &registry.RemoveNode{ID: h.node()}})
	case 2:
		h.store.servers = []consensus.Server{{ID: h.joined[0], Voter: true}, {ID: h.node(), Voter: h.rnd.IntN(2) == 0}}
	case 3:
		h.store.state.Feed.Replaced()
	case 4:
		h.try(registry.Command{CountVoters: &registry.CountVoters{Voters: 1 + h.rnd.IntN(3)}})
	case 5:
		name := h.client()
		h.try(registry.Command{RevokeClient: &registry.RevokeClient{Name: name}})
		h.try(registry.Command{PutClient: &registry.PutClient{Client: registry.Client{Name: name}}})
	default:
		h.try(registry.Command{PutPolicy: &registry.PutPolicy{Policy: registry.Policy{
			Headless: h.rnd.Uint64N(9), Prefixes: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 2, byte(h.rnd.IntN(5)), 0}), 24)}}}})
	}
}

func (h *history) epoch(id registry.SessionID) (epoch uint32) {
	h.store.View(func(s *registry.State) {
		if live := s.Sessions.Get(id); live != nil && len(live.Slices) > 0 {
			epoch = live.Slices[h.rnd.IntN(len(live.Slices))].Epoch
		}
	})
	return epoch
}

// open lets a client in, and gives it a stream.
func (h *history) open() {
	id := crowded(h.opened)
	peer := identity.NodeID{}
	list := []registry.Slice{h.slice(0, 1), h.slice(1, 1)}
	if h.rnd.IntN(3) == 0 {
		list, peer = list[:1], list[0].Agent
	}
	h.try(registry.Command{OpenSession: &registry.OpenSession{Part: h.store.state.Parts[0].Prefix, Slices: list, Session: registry.Session{
		ID: id, Request: registry.RequestID(id), Client: h.client(), Key: identity.PublicKey{1}, Identity: make([]byte, 32), Hello: make([]byte, 32), Peer: peer,
	}}})
	if !h.store.state.Sessions.Has(id) {
		return
	}
	h.opened++
	if h.rnd.IntN(2) == 0 {
		c := &clientStream{request: registry.RequestID(id), Stream: toClient(h.TB, MaxOutbox)}
		h.a.clients[c.request] = c
		h.a.sendClient(session.SendClient{Request: c.request, Session: id, What: session.Opened})
	}
}

// hear takes in what clients are told.
func (h *history) hear() {
	for _, c := range h.a.clients {
		for m := c.Take(); m != nil; m = c.Take() {
			switch {
			case m.Weights != nil:
				h.weights[c.session] = m.Weights.Slices
			case m.Update != nil:
				h.offered[c.session] = m.Update.Prefixes
			case m.Welcome != nil:
				h.offered[c.session] = m.Welcome.Update.Prefixes
			}
		}
	}
}

// check compares what everybody was told with what there is.
func (h *history) check(at string) {
	h.Helper()
	for id, r := range h.readers {
		if r.read(); r.differs(h.whole(r.stream)) != "" {
			h.Fatalf("%s: node %s has %s", at, id.Short(), r.differs(h.whole(r.stream)))
		}
	}
	h.checkHeld(at)
	h.hear()
	h.store.View(func(s *registry.State) {
		for _, c := range h.a.clients {
			live := s.Sessions.Get(c.session)
			if live == nil || live.State != registry.SessionActive {
				continue
			}
			if want := weightsOf(live); len(want) > 0 && !slices.Equal(h.weights[c.session], want) {
				h.Fatalf("%s: a client has weights %v, not %v", at, h.weights[c.session], want)
			}
			if want := Reach(s, live); !slices.Equal(h.offered[c.session], want) {
				h.Fatalf("%s: a client has networks %v, not %v", at, h.offered[c.session], want)
			}
		}
	})
}

// checkHeld looks for slices that an agent which comes back would be told to drop.
func (h *history) checkHeld(at string) {
	h.Helper()
	h.store.View(func(s *registry.State) {
		for _, live := range s.ActiveSessions() {
			for _, sl := range slices.Concat(live.Slices, live.Retiring) {
				ref := protocol.SliceRef{Session: live.ID, Number: sl.Number, Epoch: sl.Epoch}
				if held := h.a.slicesOf(s, sl.Agent, sl.Boot); slices.Contains(held, ref) != (sl.State != registry.SliceVoid) {
					h.Fatalf("%s: slice %+v, its agent is to hold %v", at, sl, held)
				}
			}
		}
	})
}

// TestDifferencesMakeTheWhole: over random histories, who was told differences knows what
// who is told everything knows, nodes and clients.
func TestDifferencesMakeTheWhole(t *testing.T) {
	sessions := 0
	for seed := range uint64(30) {
		h := newHistory(t, seed)
		for i := range 300 {
			if h.step(); h.rnd.IntN(3) > 0 {
				h.a.pushViews()
				h.check(fmt.Sprintf("seed %d, step %d", seed, i))
			}
		}
		if sessions += h.opened; len(h.a.book.of) > len(h.joined)+1 || len(h.a.book.sessions) != len(h.store.state.ActiveSessions()) {
			t.Errorf("seed %d: the book keeps %d sessions of %d nodes", seed, len(h.a.book.sessions), len(h.a.book.of))
		}
	}
	if sessions < 100 {
		t.Errorf("only %d sessions in all histories", sessions)
	}
}

// TestIndexOfAnother: a node that gets the index of one that is gone is not taken for it,
// though both are told at once.
func TestIndexOfAnother(t *testing.T) {
	for range 20 { // in whatever order they are looked at
		b, r := newBook(), newReader(nil)
		old, young := protocol.NodeRow{ID: identity.NodeID{1}, Index: 7}, protocol.NodeRow{ID: identity.NodeID{2}, Index: 7}
		b.enterNode(old.ID, &old, &news{})
		var w news
		b.enterNode(young.ID, &young, &w)
		b.enterNode(old.ID, nil, &w)
		if r.learn(w.view("")); r.nodes[7] != young {
			t.Fatalf("index 7 is %+v", r.nodes[7])
		}
	}
}

// TestReturnKnowsTheNewest: a node that comes back without the keys of a slice that was
// committed just now loses it.
func TestReturnKnowsTheNewest(t *testing.T) {
	f := newFixture(t)
	a := f.still()
	n := f.member(a, "n2", dataRoles)
	a.pushViews()
	s := f.session(a, 1, n.node)
	proposed(a)
	nodeOpened{stub(t, n.node)}.apply(a)
	if ids := about(proposed(a)); !slices.Contains(ids, s.ID) {
		t.Errorf("it keeps what it has no keys of: commands about %v", ids)
	}
}
