package session

import (
	"crypto/rand"
	"encoding/binary"
	"math"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// ready is a mesh of connected nodes with one client account.
func ready(t *testing.T, nodes int) *world {
	t.Helper()
	w := newWorld(nodes, registry.Policy{Overload: registry.OverloadAbsorb}, 1000)
	for _, n := range w.nodes {
		w.nodeUp(n, 1)
	}
	w.run(300*time.Millisecond, 100*time.Millisecond)
	w.addClient("c")
	return w
}

func request(n int) (r registry.RequestID) {
	r[0] = 1
	binary.BigEndian.PutUint32(r[4:], uint32(n))
	return r
}

func count[T Action](actions []Action) (n int) {
	for _, action := range actions {
		if _, is := action.(T); is {
			n++
		}
	}
	return n
}

func TestLimitOfOpenings(t *testing.T) { // I10
	w := ready(t, 3)
	w.prekeys(w.nodes[1], MaxPrekeys)
	w.prekeys(w.nodes[2], MaxPrekeys)
	w.settle()
	for i := range MaxOpenings {
		actions := w.arb.Step(w.now, w.state, Open{Request: request(i), Client: "c", Suite: 1, Bandwidth: 1})
		if count[Propose](actions) != 1 {
			t.Fatalf("request %d: %+v", i, actions)
		}
	}
	actions := w.arb.Step(w.now, w.state, Open{Request: request(MaxOpenings), Client: "c", Suite: 1})
	if len(actions) != 1 || actions[0].(Refuse).Code != Unavailable {
		t.Errorf("request above the limit: %+v", actions)
	}
	if actions := w.arb.Step(w.now, w.state, Open{Request: request(0), Client: "c"}); len(actions) != 0 {
		t.Errorf("a request that is under way was asked again: %+v", actions)
	}
}

func TestLimitOfProposals(t *testing.T) { // I10
	w := ready(t, 3)
	for i := range MaxProposals {
		w.arb.proposals[Tag(1_000_000+i)] = &proposal{}
	}
	actions := w.arb.Step(w.now, w.state, Open{Request: request(1), Client: "c", Suite: 1})
	if len(actions) != 1 || actions[0].(Refuse).Code != Unavailable {
		t.Errorf("request with %d proposals out: %+v", MaxProposals, actions)
	}
	w.arb.Step(w.now, w.state, Drain{w.nodes[1].id(), true})
	if n := len(w.arb.proposals); n != MaxProposals {
		t.Errorf("%d proposals, limit %d", n, MaxProposals)
	}
}

func TestLimitOfPrekeys(t *testing.T) { // I10
	w := ready(t, 2)
	n := w.nodes[1]
	w.prekeys(n, MaxPrekeys+5)
	w.queue = append(w.queue, Prekeys{n.id(), []uint32{1<<20 | 77}}) // of another node's index
	w.settle()
	h := w.arb.hosts[n.id()]
	if len(h.prekeys) != MaxPrekeys {
		t.Errorf("%d prekeys kept, limit %d", len(h.prekeys), MaxPrekeys)
	}
	for _, spi := range h.prekeys {
		if spi>>20 != 2 {
			t.Fatalf("prekey %#x is not of index 2", spi)
		}
	}
	w.nodeUp(n, 1)
	w.settle()
	if len(h.prekeys) != 64 {
		t.Errorf("%d prekeys after a new stream that brought 64", len(h.prekeys))
	}
}

func TestAgentWithoutPrekeysIsNoCandidate(t *testing.T) {
	w := ready(t, 3)
	w.arb.hosts[w.nodes[1].id()].prekeys = nil
	for _, c := range w.arb.candidates(w.state, &registry.Session{}) {
		if c.node.ID == w.nodes[1].id() {
			t.Error("a node without prekeys is a candidate")
		}
	}
}

func TestLimitsOfOneSlotAndHost(t *testing.T) { // I10
	var sl slot
	for i := range 3 * MaxTried {
		sl.fail(0, identity.NodeID{byte(i)})
	}
	if len(sl.tried) != MaxTried {
		t.Errorf("%d failures remembered, limit %d", len(sl.tried), MaxTried)
	}
	for _, f := range sl.tried {
		if f.until > MaxFailureHold {
			t.Errorf("node held away for %v, limit %v", f.until, MaxFailureHold)
		}
	}
	var h host
	for range MaxReserved + 10 {
		h.reserve(0, registry.SessionID{}, 1)
	}
	if len(h.reserved) != MaxReserved {
		t.Errorf("%d reservations, limit %d", len(h.reserved), MaxReserved)
	}
}

func TestBudgetOfASecond(t *testing.T) { // I10
	b := budget{rate: MovesPerSecond}
	taken := 0
	for i := range 4 * MovesPerSecond {
		if b.take(time.Duration(i) * time.Millisecond) {
			taken++
		}
	}
	if taken != MovesPerSecond {
		t.Errorf("%d taken within a second, limit %d", taken, MovesPerSecond)
	}
	if !b.take(time.Second) {
		t.Error("nothing may be done in the next second")
	}
}

func TestRefillsAreBounded(t *testing.T) {
	w := ready(t, 4)
	c := w.client("c")
	w.ask(c, 1500e6, w.nodes[1].id())
	w.settle()
	w.arb.refills = budget{rate: 0}
	w.nodeDown(w.nodes[1])
	w.run(time.Second, 100*time.Millisecond)
	if sl := w.state.Sessions.Get(c.session).Slices[0]; sl.Epoch != 1 {
		t.Errorf("slice was granted again without budget: %+v", sl)
	}
	w.arb.refills = budget{rate: 1}
	w.run(time.Second, 100*time.Millisecond)
	if sl := w.state.Sessions.Get(c.session).Slices[0]; sl.Epoch != 2 {
		t.Errorf("slice was not granted again: %+v", sl)
	}
}

func TestReplansAreBounded(t *testing.T) { // I10
	w := ready(t, 3)
	actions := w.arb.Step(w.now, w.state, Open{Request: request(1), Client: "c", Suite: 1, Bandwidth: 1})
	for i := range MaxReplans {
		p, is := actions[len(actions)-1].(Propose)
		if !is {
			t.Fatalf("after %d stale plans: %+v", i, actions)
		}
		actions = w.arb.Step(w.now, w.state, Committed{Tag: p.Tag, Result: registry.Result{Code: registry.ErrPrekey.Code}})
	}
	p := actions[len(actions)-1].(Propose)
	actions = w.arb.Step(w.now, w.state, Committed{Tag: p.Tag, Result: registry.Result{Code: registry.ErrPrekey.Code}})
	if len(actions) != 1+count[DropPrekey](actions) || count[Refuse](actions) != 1 || len(w.arb.openings) != 0 {
		t.Errorf("after %d stale plans: %+v", MaxReplans+1, actions)
	}
}

func TestStaleGrantsAreBounded(t *testing.T) {
	w := ready(t, 4)
	c := w.client("c")
	w.ask(c, 1500e6, w.nodes[1].id())
	w.settle()
	w.nodeDown(w.nodes[1])
	w.settle()
	proposals := 0
	for range 50 {
		w.now += 100 * time.Millisecond
		for _, action := range w.arb.Tick(w.now, w.state) {
			if p, is := action.(Propose); is && p.Command.GrantSlice != nil {
				proposals++
				w.do(w.arb.Step(w.now, w.state, Committed{Tag: p.Tag, Result: registry.Result{Code: registry.ErrStale.Code}}))
			}
		}
	}
	if proposals < 2 || proposals > 10 {
		t.Errorf("%d grants proposed in 5 s that are all stale, want some but few", proposals)
	}
}

func TestWhatIsLateOrForeignChangesNothing(t *testing.T) { // I11
	w := ready(t, 4)
	c := w.client("c")
	w.ask(c, 1500e6, w.nodes[1].id())
	w.settle()
	s := w.state.Sessions.Get(c.session)
	owner, other := s.Slices[0].Agent, s.Slices[1].Agent
	for _, e := range []Event{
		Committed{Tag: 99_999},
		Committed{},
		SliceAck{Node: owner, Session: s.ID, Number: 0, Epoch: 1, Refused: "late"},
		SliceAck{Node: other, Session: s.ID, Number: 0, Epoch: 1, Refused: "not its slice"},
		SliceAck{Node: owner, Session: s.ID, Number: 9, Epoch: 1},
		SliceUp{s.ID, 0, 7, false}, SliceUp{s.ID, 9, 1, false}, SliceUp{registry.SessionID{9}, 0, 1, false},
		SliceSilent{s.ID, 0, 7, false}, SliceSilent{registry.SessionID{9}, 0, 1, false},
		ClientGone{request(77)},
		NodeUp{Node: identity.NodeID{9}}, NodeDown{Node: identity.NodeID{9}}, NodeDown{Node: owner},
		Prekeys{Node: identity.NodeID{9}, SPIs: []uint32{1}},
		Load{Node: identity.NodeID{9}, Used: 1},
		Takeover{Node: owner}, Drain{Node: identity.NodeID{9}, On: true},
		End{Session: registry.SessionID{9}},
	} {
		if actions := w.arb.Step(w.now, w.state, e); len(actions) != 0 {
			t.Errorf("%T %+v: %+v", e, e, actions)
		}
	}
	for _, used := range []float64{math.NaN(), math.Inf(1), -5} {
		w.arb.Step(w.now, w.state, Load{Node: owner, Used: used})
		if u := w.arb.hosts[owner].used; !(u >= 0 && u <= 1) {
			t.Errorf("load %v is kept as %v", used, u)
		}
	}
}

func TestRequestsThatGetNoSession(t *testing.T) {
	w := ready(t, 3)
	w.addClient("d")
	c := w.client("c")
	w.ask(c, 0, w.nodes[0].id())
	w.settle()
	for name, e := range map[string]Event{
		"stranger":          Open{Request: request(5), Client: "nobody"},
		"another's request": Open{Request: c.request, Client: "d"},
		"no such session":   Resume{Session: registry.SessionID{9}, Request: request(6)},
	} {
		actions := w.arb.Step(w.now, w.state, e)
		if len(actions) != 1 || count[Refuse](actions) != 1 {
			t.Errorf("%s: %+v", name, actions)
		}
	}
}

// accounts is a registry with clients in it, and nothing else.
func accounts(names ...string) *registry.State {
	s := registry.New()
	for _, name := range names {
		s.Clients.Put(name, &registry.Client{Name: name})
	}
	return s
}

// TestAskedTwiceServesTheNewerHello: grants name the hello they answer, and a
// client that asks again has forgotten its first one.
func TestAskedTwiceServesTheNewerHello(t *testing.T) {
	a := New(Config{Random: rand.Reader})
	request := registry.RequestID{1}
	view := accounts("ann")
	o := &opening{ask: Open{Request: request, Client: "ann", Hello: []byte{1}}, gone: true}
	a.openings[request] = o
	a.open(view, Open{Request: request, Client: "ann", Hello: []byte{2}})
	if o.gone || o.ask.Hello[0] != 2 || len(a.openings) != 1 {
		t.Errorf("gone %v, hello %v, %d openings", o.gone, o.ask.Hello, len(a.openings))
	}
}

// TestAskedTwiceByAnother: neither another client nor another key takes over what a
// request is about to open, or has opened.
func TestAskedTwiceByAnother(t *testing.T) {
	request, id := registry.RequestID{1}, registry.SessionID{9}
	mine, others := identity.PublicKey{1}, identity.PublicKey{2}
	for name, e := range map[string]Open{
		"client": {Request: request, Client: "bob", Key: mine, Hello: []byte{2}},
		"key":    {Request: request, Client: "ann", Key: others, Hello: []byte{2}},
	} {
		view := accounts("ann", "bob")
		a := New(Config{Random: rand.Reader})
		o := &opening{ask: Open{Request: request, Client: "ann", Key: mine, Hello: []byte{1}}}
		a.openings[request] = o
		said := a.Step(0, view, e)
		if len(said) != 1 || said[0].(Refuse).Code != Denied || o.ask.Key != mine || o.ask.Hello[0] != 1 {
			t.Errorf("under way, another %s: %+v, key %v, hello %v", name, said, o.ask.Key, o.ask.Hello)
		}
		delete(a.openings, request)
		view.Requests.Put(request, id)
		view.Sessions.Put(id, &registry.Session{ID: id, Client: "ann", Key: mine, Request: request, State: registry.SessionActive})
		if said = a.Step(0, view, e); len(said) != 1 || said[0].(Refuse).Code != Denied {
			t.Errorf("opened, another %s: %+v", name, said)
		}
	}
}

// TestPeerIsTheOnlyCandidate: a session whose client named a node is on that
// node or nowhere.
func TestPeerIsTheOnlyCandidate(t *testing.T) {
	w := ready(t, 3)
	peer := w.nodes[1].id()
	p, code, _ := w.arb.place(w.state, &registry.Session{Peer: peer}, w.nodes[0].id())
	if code != "" || len(p.agents) != 1 || p.agents[0].node.ID != peer || p.spare != nil {
		t.Errorf("placed %+v, %s", p, code)
	}
	w.arb.hosts[peer].prekeys = nil
	if p, code, _ := w.arb.place(w.state, &registry.Session{Peer: peer}, w.nodes[0].id()); code != Unavailable {
		t.Errorf("the peer is not ready: placed %+v, %s", p, code)
	}
}
