package agent

import (
	"bytes"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/crypto/mka"
	"github.com/meshcrypt/meshcrypt/mesh/link"
	"github.com/meshcrypt/meshcrypt/mesh/link/linktest"
	"github.com/meshcrypt/meshcrypt/node/dataplane"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// couple is an egress, node 1, and an agent, node 2, of one network; the test plays
// their arbiter.
type couple struct {
	*testing.T
	egress, agent *fixture
	prekeys       []mka.SignedPrekey
}

const headless = time.Minute

func newCouple(t *testing.T) *couple {
	t.Helper()
	sim := linktest.New(1)
	c := &couple{T: t, egress: newFixtureIn(t, sim, 1), agent: newFixtureIn(t, sim, 2)}
	c.agent.arbiter = c.egress.arbiter
	for _, f := range []*fixture{c.egress, c.agent} {
		f.Agent.rekeyAfter = headless / 4
		f.obey(5)
		f.hear(&protocol.Node{View: c.view(c.agent.Agent.config.Boot, registry.HandOnSealed)})
	}
	c.prekeys = c.agent.offered()
	return c
}

// view is of both, with a session whose slice the agent has.
func (c *couple) view(boot identity.BootID, kind registry.HandOn) *protocol.View {
	v := c.egress.view(2)
	v.Nodes[0].ID, v.Nodes[1].ID = c.egress.self(), c.agent.self()
	v.Nodes[0].Boot, v.Nodes[1].Boot = c.egress.Agent.config.Boot, boot
	v.Policy = &registry.Policy{Headless: uint64(headless / time.Second), HandOn: kind}
	v.Routes = []protocol.RouteRow{{Session: registry.SessionID{1}, Slices: []protocol.RouteSlice{{Agent: 2, Epoch: 1, SPI: 0x00200007, Weight: 1}}}}
	return v
}

// turn lets time pass for both, and what they send arrive.
func (c *couple) turn(d time.Duration) {
	for ; d > 0; d -= TickEvery {
		for _, f := range []*fixture{c.egress, c.agent} {
			f.advance(TickEvery)
		}
	}
}

// tick lets a tick pass, and what was sent arrive before the next: the clock must not run
// so far ahead of a busy machine that the link ends for its silence.
func (c *couple) tick() {
	c.turn(TickEvery)
	<-time.After(2 * time.Millisecond)
}

func (c *couple) until(what string, holds func() bool) {
	c.Helper()
	for end := time.Now().Add(hangLimit); !holds(); {
		if time.Now().After(end) {
			c.Fatalf("never happened: %s", what)
		}
		c.egress.pump()
		c.agent.pump()
		runtime.Gosched()
	}
}

// asked takes the egress's requests.
func (c *couple) asked() []*protocol.Link {
	return saying(c.egress, func(m *protocol.Node) *protocol.Link { return m.Link })
}

// answer grants the one request that the egress made.
func (c *couple) answer(edit func(*mka.Grant)) {
	c.Helper()
	asked := c.asked()
	if len(asked) != 1 || asked[0].Peer != c.agent.self() {
		c.Fatalf("asked for %+v", asked)
	}
	hello, err := mka.ParseHello(asked[0].Hello)
	if err != nil {
		c.Fatal(err)
	}
	prekey := c.prekeys[0]
	c.prekeys = c.prekeys[1:]
	p, err := mka.ParsePrekey(prekey)
	if err != nil {
		c.Fatal(err)
	}
	g := mka.Grant{
		Version: mka.Version, Incarnation: 1, Term: 5, Session: hello.Request, Epoch: 1, Suite: hello.Suites[0], Weight: 1,
		Mode: protocol.ModeLink, Agent: p.Agent, AgentKey: p.AgentKey, Boot: p.Boot, SPI: p.SPI,
		SessionKey: hello.SessionKey, IdentityHash: [32]byte(c.egress.self()), HelloHash: mka.HashHello(asked[0].Hello),
	}
	if edit != nil {
		edit(&g)
	}
	share, signed := bytes.Repeat([]byte{9}, 32), mka.SignGrant(c.egress.arbiter, g)
	c.agent.hear(&protocol.Node{Grant: &protocol.Grant{Grant: signed, Share: bytes.Clone(share)}})
	c.egress.hear(&protocol.Node{Offer: &protocol.LinkOffer{Peer: c.agent.self(), Grant: signed, Prekey: prekey, Share: share}})
}

// pairs are what each end seals with for the other.
func (c *couple) pairs() (egress, agent *dataplane.Pair) {
	return c.egress.linkTo(c.egress.nodeRow(2)), c.agent.linkTo(c.agent.nodeRow(1))
}

func (f *fixture) nodeRow(index identity.Index) protocol.NodeRow { return f.Agent.view.nodes[index] }

func (c *couple) joined() {
	c.Helper()
	c.turn(TickEvery)
	c.answer(nil)
	c.until("both have keys", func() bool {
		a, b := c.pairs()
		return a != nil && b != nil
	})
}

// TestLinkIsAgreed: keys of the two nodes' own, both ways; what is handed on is
// sealed from then on, and not at all before.
func TestLinkIsAgreed(t *testing.T) {
	c := newCouple(t)
	if r := c.egress.engineTable(); !r.Sealed || len(r.Links) != 0 {
		t.Errorf("before: %+v", r)
	}
	if r := c.egress.route(*c.egress.Agent.view.routes[registry.SessionID{1}]); r.Set.Weights[0] != 0 {
		t.Error("a slice that cannot be sealed for carries traffic")
	}
	c.joined()
	a, b := c.pairs()
	if a.In.SPI() != b.Out.SPI() || a.Out.SPI() != b.In.SPI() {
		t.Errorf("%v and %v", a, b)
	}
	if a.Node != 2 || b.Node != 1 {
		t.Errorf("between nodes %d and %d", b.Node, a.Node)
	}
	if r := c.egress.route(*c.egress.Agent.view.routes[registry.SessionID{1}]); r.Slices[0].Link != a || !r.Slices[0].Sealed {
		t.Errorf("route %+v", r.Slices[0])
	}
	if n := c.agent.engineTable().In.Len(); n != 0 {
		t.Errorf("%d SAs of nodes open outside", n)
	}
	if held := c.agent.slices.held(); len(held) != 0 {
		t.Errorf("the arbiter hears of %v", held)
	}
	c.turn(LinkRetry * 3)
	if again := c.asked(); len(again) != 0 {
		t.Errorf("asked again: %d", len(again))
	}
}

// TestLinkAcceptFromElsewhere: who captured an Accept of a node and sends it first
// turns nothing that is handed on to himself.
func TestLinkAcceptFromElsewhere(t *testing.T) {
	c := newCouple(t)
	c.turn(TickEvery)
	c.answer(nil)
	l := c.egress.links.coming[c.agent.self()]
	c.agent.do(accepted{
		from: c.agent.Agent.config.Outer, path: link.Path{Remote: netip.MustParseAddrPort("198.51.100.9:6486")},
		spi: l.machine.Grant().SPI, datagram: bytes.Clone(l.accept),
	})
	_, pair := c.pairs()
	if path, ok := pair.Path(); !ok || path.Remote != netip.AddrPortFrom(inside(1), inPort) {
		t.Errorf("the link goes to %v", path)
	}
}

// TestLinkIsRenewed: inside the SA, without an arbiter, new SPIs at both ends; the old
// ones end.
func TestLinkIsRenewed(t *testing.T) {
	c := newCouple(t)
	c.joined()
	a, b := c.pairs()
	oldIn, oldOut := a.In.SPI(), a.Out.SPI()
	for _, f := range []*fixture{c.egress, c.agent} {
		f.Agent.stream = nil
	}
	c.turn(headless/4 + time.Second)
	c.until("new keys at both ends", func() bool {
		c.tick()
		newA, newB := c.pairs()
		return newA != nil && newA != a && newB != nil && newB != b
	})
	a, b = c.pairs()
	if a.In.SPI() == oldIn || a.Out.SPI() == oldOut || a.In.SPI() != b.Out.SPI() {
		t.Errorf("%v and %v", a, b)
	}
	c.turn(RekeyLinger + time.Second)
	for _, f := range []*fixture{c.egress, c.agent} {
		if n := len(f.linkTable()); n != 1 {
			t.Errorf("%d SAs open at node %d", n, f.index)
		}
	}
}

// TestLinkOfAnotherBoot: what was agreed with a process that is gone is not used.
func TestLinkOfAnotherBoot(t *testing.T) {
	c := newCouple(t)
	c.joined()
	c.egress.hear(&protocol.Node{View: c.view(identity.BootID{99}, registry.HandOnSealed)})
	if p, _ := c.pairs(); p != nil {
		t.Error("still sealed for the old process")
	}
	c.turn(TickEvery)
	if asked := c.asked(); len(asked) != 1 {
		t.Errorf("asked %d times", len(asked))
	}
}

// TestLinkEnds: with the policy, or with the other node's membership.
func TestLinkEnds(t *testing.T) {
	for name, change := range map[string]func(c *couple, v *protocol.View){
		"clear again":    func(_ *couple, v *protocol.View) { v.Policy.HandOn = registry.HandOnClear },
		"no member more": func(_ *couple, v *protocol.View) { v.Nodes, v.Routes = nil, nil },
		"not heard from": func(c *couple, _ *protocol.View) { c.turn(headless + time.Second) },
	} {
		t.Run(name, func(t *testing.T) {
			c := newCouple(t)
			c.joined()
			v := c.view(c.agent.Agent.config.Boot, registry.HandOnSealed)
			if change(c, v); len(v.Nodes) == 0 || v.Policy.HandOn == registry.HandOnClear {
				c.egress.hear(&protocol.Node{View: v})
				c.agent.hear(&protocol.Node{View: v})
			}
			c.turn(2 * TickEvery)
			for _, f := range []*fixture{c.egress, c.agent} {
				if n := len(f.linkTable()); n != 0 {
					t.Errorf("%d SAs live on at node %d", n, f.index)
				}
			}
		})
	}
}

// TestLinksThatAreRefused: of another mode, for a node that nobody knows, of an old
// fence, unasked.
func TestLinksThatAreRefused(t *testing.T) {
	for name, edit := range map[string]func(*mka.Grant){
		"a client's grant": func(g *mka.Grant) { g.Mode = "burst" },
		"an old fence":     func(g *mka.Grant) { g.Term = 4 },
		"another suite":    func(g *mka.Grant) { g.Suite = 9 },
	} {
		t.Run(name, func(t *testing.T) {
			c := newCouple(t)
			c.turn(TickEvery)
			c.answer(edit)
			if n := len(c.egress.links.all()); n != 0 {
				t.Errorf("%d links", n)
			}
		})
	}
	c := newCouple(t)
	c.turn(TickEvery)
	c.answer(func(g *mka.Grant) { g.IdentityHash[0]++ })
	if n := len(c.agent.slices.byKey); n != 0 {
		t.Errorf("a slice for nobody known: %d", n)
	}
	c.egress.hear(&protocol.Node{Offer: &protocol.LinkOffer{Peer: idOf(9)}})
	if n := len(c.egress.links.coming); n != 1 {
		t.Errorf("%d links on their way", n)
	}
	c.egress.do(linkConfirmed{1, nil})
	if r := c.egress.Rejects(); r["confirm-unknown"] != 1 {
		t.Errorf("rejects %v", r)
	}
}

// TestLinkIsNoWork: keys that another node has here stay as long as the two are nodes. Who waits
// until a drained node carries nothing waits for clients' slices alone.
func TestLinkIsNoWork(t *testing.T) {
	c := newCouple(t)
	c.joined()
	if len(c.agent.Agent.slices.byKey) == 0 {
		t.Fatal("it holds no keys for the other node")
	}
	reports := make(chan Report, 1)
	go func() {
		r, _ := c.agent.Agent.Report(t.Context())
		reports <- r
	}()
	c.until("it reports", func() bool { return len(reports) > 0 })
	if r := <-reports; r.Slices != 0 {
		t.Errorf("%d slices of no client", r.Slices)
	}
}

// TestLinkOutlivesAStop: after a long stop of a node the other end seals for it still, so it opens
// what comes under those keys.
func TestLinkOutlivesAStop(t *testing.T) {
	c := newCouple(t)
	c.joined()
	for _, f := range []*fixture{c.agent, c.egress} {
		f.clock.Add(int64(RestartAfter) + 1)
		f.tick()
		for range 20 {
			c.tick()
		}
		seals, opens := c.pairs()
		if seals == nil || opens == nil || len(c.asked()) != 0 {
			t.Errorf("node %d: one seals %t, the other opens %t, asked anew %d times", f.index, seals != nil, opens != nil, len(c.asked()))
		}
	}
}
