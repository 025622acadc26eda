package agent

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/crypto/mka"
	"github.com/meshcrypt/meshcrypt/mesh/link"
	"github.com/meshcrypt/meshcrypt/node/dataplane"
	"github.com/meshcrypt/meshcrypt/node/probe"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

func (f *fixture) ready() *fixture {
	f.obey(5)
	f.hear(&protocol.Node{View: f.view(3)})
	return f
}

func ups(m *protocol.Node) *protocol.SliceRef  { return m.Up }
func gone(m *protocol.Node) *protocol.SliceRef { return m.Gone }

func TestSliceComesUp(t *testing.T) {
	f := newFixture(t).ready()
	c := f.customer(f.offered()[0], nil).up()
	f.advance(TickEvery)
	if up := saying(f, ups); len(up) != 1 || keyOf(*up[0]) != c.sliceKey() {
		t.Fatalf("reported up: %+v", up)
	}
	if ack := c.granted(); !ack.Ok {
		t.Errorf("the same grant again is refused: %s", ack.Reason)
	}
}

// TestRepeatedAccept gets the same Confirm until the client is heard, not more
// often than a client asks, and never again: a recorded one would send Confirms
// to whoever it says that it is from.
func TestRepeatedAccept(t *testing.T) {
	f := newFixture(t).ready()
	c := f.customer(f.offered()[0], nil).keyed()
	repeated := uint64(0)
	again := func(answered bool) {
		t.Helper()
		f.do(accepted{f.Agent.config.Outer, link.Path{Remote: outer(9)}, c.grant.SPI, c.accept})
		if !answered {
			repeated++
		}
		if n := f.Rejects()["accept-repeated"]; n != repeated {
			t.Errorf("%d counted as repeated, want %d", n, repeated)
		}
	}
	again(false)
	f.clock.Add(int64(AcceptAgain))
	again(true)
	again(false)
	c.ping()
	f.clock.Add(int64(time.Second))
	again(false)
}

func TestGrantsThatAreRefused(t *testing.T) {
	f := newFixture(t).ready()
	keys := f.offered()
	f.customer(keys[0], func(g *mka.Grant) { g.Session, g.Epoch = [16]byte{99}, 4 }).up()
	for name, edit := range map[string]func(*mka.Grant){
		"I6: a fence below the highest seen":      func(g *mka.Grant) { g.Term = 4 },
		"I6: an epoch below the one held":         func(g *mka.Grant) { g.Session, g.Epoch = [16]byte{99}, 3 },
		"an incarnation below the highest seen":   func(g *mka.Grant) { g.Incarnation, g.Term = 0, 99 },
		"an epoch held of an earlier incarnation": func(g *mka.Grant) { g.Session, g.Epoch, g.Incarnation = [16]byte{99}, 4, g.Incarnation+1 },
		"a boot that is not this process's":       nil,
		"a prekey that was never offered, or was": nil,
	} {
		keys = keys[1:]
		sp := keys[0]
		switch {
		case name == "a boot that is not this process's":
			_, other, err := mka.NewPrekey(f.Agent.config.Random, f.Agent.config.Key, identity.BootID{8}, spiOf(t, sp), 60)
			f.ok(err)
			sp = other
		case edit == nil:
			f.prekeys.take(spiOf(t, sp))
		}
		held := len(f.slices.byKey)
		if ack := f.customer(sp, edit).granted(); ack.Ok || ack.Reason == "" || len(f.slices.byKey) != held {
			t.Errorf("%s: %+v", name, ack)
		}
	}
}

func spiOf(t *testing.T, sp mka.SignedPrekey) uint32 {
	p, err := mka.ParsePrekey(sp)
	if err != nil {
		t.Fatal(err)
	}
	return p.SPI
}

func TestGrantOfAnotherArbiterIsNotAnswered(t *testing.T) {
	f := newFixture(t).ready()
	c := f.customer(f.offered()[0], nil)
	c.signed = mka.SignGrant(f.key(), c.grant)
	f.hear(&protocol.Node{Grant: &protocol.Grant{Grant: c.signed, Share: c.share[:]}})
	if acks := saying(f, func(m *protocol.Node) *protocol.SliceAck { return m.Ack }); len(acks) != 0 || len(f.slices.byKey) != 0 {
		t.Errorf("answered %+v", acks)
	}
}

// TestLowerFenceEndsTheStream: an arbiter of an older term is not obeyed, nor
// one that speaks before it named its fence (I6).
func TestLowerFenceEndsTheStream(t *testing.T) {
	f := newFixture(t).ready()
	c := f.customer(f.offered()[0], nil).up()
	f.open()
	f.hear(&protocol.Node{Fence: &protocol.Fence{Incarnation: 1, Term: 4}})
	f.until("the old arbiter's stream is closed", f.line.isClosed)
	f.hear(&protocol.Node{View: &protocol.View{Full: true}})
	if f.slices.byKey[c.sliceKey()] == nil {
		t.Error("I6: an arbiter below the fence took a slice")
	}
	f.open()
	f.hear(&protocol.Node{Revoke: &protocol.Revoke{Slice: c.sliceKey().ref()}})
	f.until("the hasty arbiter's stream is closed", f.line.isClosed)
	if f.slices.byKey[c.sliceKey()] == nil {
		t.Error("I6: an arbiter without fence took a slice")
	}
	older := f.obey(6)
	f.obey(7)
	f.do(received{older, &protocol.Node{Revoke: &protocol.Revoke{Slice: c.sliceKey().ref()}}})
	if f.slices.byKey[c.sliceKey()] == nil {
		t.Error("a stream that was replaced is still obeyed")
	}
}

// TestFullViewIsAllThereIs: what it does not name is dropped (I6).
func TestFullViewIsAllThereIs(t *testing.T) {
	f := newFixture(t).ready()
	keys := f.offered()
	kept, dropped := f.customer(keys[0], nil).up(), f.customer(keys[1], nil).up()
	f.obey(6)
	hello := saying(f, func(m *protocol.Node) *protocol.NodeHello { return m.Hello })
	if n := len(hello); n == 0 || len(hello[n-1].Held) != 2 {
		t.Errorf("hello names %+v", hello)
	}
	v := f.view(2)
	v.Slices = []protocol.SliceRef{kept.sliceKey().ref()}
	f.hear(&protocol.Node{View: v})
	if f.slices.byKey[kept.sliceKey()] == nil || f.slices.byKey[dropped.sliceKey()] != nil {
		t.Errorf("I6: %d slices left", len(f.slices.byKey))
	}
	if got := saying(f, gone); len(got) != 1 || keyOf(*got[0]) != dropped.sliceKey() {
		t.Errorf("said gone: %+v", got)
	}
	if len(f.Agent.view.nodes) != 2 {
		t.Errorf("%d nodes left of a full view of 2", len(f.Agent.view.nodes))
	}
	kept.ping()
}

func TestRevokedSliceEndsAfterItsLinger(t *testing.T) {
	f := newFixture(t).ready()
	c := f.customer(f.offered()[0], nil).up()
	f.hear(&protocol.Node{Revoke: &protocol.Revoke{Slice: c.sliceKey().ref(), Linger: 5}})
	f.advance(5*time.Second - TickEvery)
	c.ping()
	f.advance(TickEvery)
	if len(f.slices.byKey)+len(f.slices.bySPI)+len(f.slices.bySession) != 0 {
		t.Error("a revoked slice is still held")
	}
}

func TestSliceEndsByItself(t *testing.T) {
	t.Run("its client never accepts", func(t *testing.T) {
		f := newFixture(t).ready()
		f.customer(f.offered()[0], nil).granted()
		f.advance(AcceptWithin)
		if len(f.slices.byKey) != 1 {
			t.Fatal("dropped too early")
		}
		f.advance(TickEvery)
		if len(f.slices.byKey) != 0 {
			t.Error("still there")
		}
	})
	t.Run("no arbiter is heard for the headless time", func(t *testing.T) {
		f := newFixture(t).ready()
		c := f.customer(f.offered()[0], nil).up()
		f.do(streamLost{f.Agent.stream})
		c.rekeyless()
		f.Agent.view.policy.Headless = 60
		f.advance(time.Minute)
		c.ping()
		f.advance(TickEvery)
		if len(f.slices.byKey) != 0 {
			t.Error("I12: goes on without an arbiter")
		}
	})
	t.Run("its client never renews the keys", func(t *testing.T) {
		f := newFixture(t).ready()
		f.customer(f.offered()[0], nil).up()
		f.keep(KeysEnd - time.Second)
		if f.advance(time.Second - TickEvery); len(f.slices.byKey) != 1 {
			t.Fatal("dropped too early")
		}
		f.advance(TickEvery)
		if len(f.slices.byKey) != 0 {
			t.Error("keys live longer than 15 minutes")
		}
	})
}

// rekeyless keeps rekeys out of a test that is about something else.
func (c *customer) rekeyless() { c.Agent.rekeyAfter = time.Hour }

// TestRekeyInBand renews the keys inside the SA, without an arbiter.
func TestRekeyInBand(t *testing.T) {
	f := newFixture(t).ready()
	c := f.customer(f.offered()[0], nil).up()
	f.do(streamLost{f.Agent.stream})
	f.Agent.rekeyAfter = 10 * time.Second
	f.advance(11 * time.Second)
	next := c.answer()
	s := f.slices.byKey[c.sliceKey()]
	f.until("the agent has the new keys", func() bool { return s.next != nil })
	old := c.pair
	for confirmed := false; !confirmed; {
		body := c.control()
		if confirmed = body[0] == probe.KindConfirm; confirmed {
			f.ok(c.machine.RekeyConfirm(body[1:]))
		}
	}
	if f.advance(TickEvery); s.pair.Out.SPI() == next.SPIIn {
		t.Error("the agent seals under keys that its client has not used")
	}
	c.pair = c.seal(*next)
	f.ok(c.pair.SendControl(probe.Ask(1, 0)))
	f.until("the client's use is noticed", func() bool { return s.next == nil || s.next.LastHeard() != 0 })
	f.advance(TickEvery)
	if s.pair.Out.SPI() != next.SPIIn || s.older == nil {
		t.Fatal("the agent does not seal under the new keys")
	}
	c.pair, old = old, c.pair
	f.ok(c.pair.SendControl(probe.Ask(2, 0))) // still opens, for packets under way
	f.advance(RekeyLinger)
	if s.older != nil || f.slices.bySPI[c.grant.SPI] != s {
		t.Error("the old SA lives on, or the granted SPI was given up")
	}
	c.pair = old
	if len(f.slices.byKey) != 1 {
		t.Error("the slice was lost")
	}
}

// TestVerdictOfAClient: a client's word takes a slice off this egress's route,
// until the epoch is replaced.
func TestVerdictOfAClient(t *testing.T) {
	f := newFixture(t).ready()
	c := f.customer(f.offered()[0], nil).up()
	session := registry.SessionID(c.grant.Session)
	row := protocol.RouteRow{Session: session, Leases: c.grant.Leases, Mode: registry.ModeBurst, Slices: []protocol.RouteSlice{
		{Number: 0, Epoch: 1, Agent: own, SPI: c.grant.SPI, Weight: 5}, {Number: 1, Epoch: 1, Agent: 2, SPI: 2 << 20, Weight: 7},
	}}
	f.hear(&protocol.Node{View: &protocol.View{Routes: []protocol.RouteRow{row}}})
	weights := func() []uint32 { return f.engineTable().Routes.Get(c.grant.Leases[0]).Set.Weights }
	if w := weights(); w[0] == 0 || w[1] == 0 {
		t.Fatalf("weights %v", w)
	}
	f.ok(c.pair.SendControl(append([]byte{probe.KindVerdict}, probe.VerdictBody(1, 1)...)))
	f.until("the verdict is heard", func() bool { return weights()[1] == 0 })
	row.Slices = slices.Clone(row.Slices) // what was heard stays as it is
	row.Slices[1].Epoch = 2
	f.hear(&protocol.Node{View: &protocol.View{Routes: []protocol.RouteRow{row}}})
	if w := weights(); w[1] == 0 || len(f.Agent.view.silent) != 0 {
		t.Errorf("a verdict outlives its epoch: %v", w)
	}
	f.hear(&protocol.Node{View: &protocol.View{Unroutes: []registry.SessionID{session}}})
	if len(f.Agent.view.spreads)+len(f.Agent.view.routes) != 0 {
		t.Error("a route that ended is remembered")
	}
}

// TestOwnHostAnswersOverItsSlice: what this host itself says to a client goes
// over the slice here, whoever is egress; the newest one that is in use.
func TestOwnHostAnswersOverItsSlice(t *testing.T) {
	f := newFixture(t).ready()
	keys := f.offered()
	lease := netip.MustParseAddr("10.77.0.99")
	first := f.customer(keys[0], func(g *mka.Grant) { g.Leases = []netip.Addr{lease} })
	if first.granted(); f.tables.local.Len() != 0 {
		t.Fatal("answers over a slice without keys")
	}
	second := f.customer(keys[1], func(g *mka.Grant) { g.Leases, g.Epoch = []netip.Addr{lease}, 2 }).up()
	f.advance(TickEvery)
	table := f.engineTable()
	route := table.Local.Get(lease)
	if route == nil || len(route.Slices) != 1 || route.Slices[0].SPI != second.grant.SPI || table.Here != inside(own) {
		t.Errorf("here is %v, local route %+v", table.Here, route)
	}
}

// TestOwnHostAnswersTheSessionThatLives: a client that came back at once has the
// lease of its former session, whose slices still open for a while.
func TestOwnHostAnswersTheSessionThatLives(t *testing.T) {
	f := newFixture(t).ready()
	keys := f.offered()
	lease := netip.MustParseAddr("10.77.0.99")
	former := f.customer(keys[0], func(g *mka.Grant) { g.Leases = []netip.Addr{lease} }).up()
	f.hear(&protocol.Node{Revoke: &protocol.Revoke{Slice: former.sliceKey().ref(), Linger: 5}})
	if route := f.engineTable().Local.Get(lease); route == nil || route.Slices[0].SPI != former.grant.SPI {
		t.Errorf("the last slice does not answer: %+v", route)
	}
	now := f.customer(keys[1], func(g *mka.Grant) {
		g.Session[0]++
		g.Leases, g.Slice = []netip.Addr{lease}, former.grant.Slice+1
	}).up()
	f.advance(TickEvery)
	if route := f.engineTable().Local.Get(lease); route == nil || route.Slices[0].SPI != now.grant.SPI {
		t.Errorf("answers the session that is over: %+v", route)
	}
}

// TestAcceptAlongTooManyWays: whoever sends it on from very many places has it
// answered in a few, and the client goes on all the same (I10).
func TestAcceptAlongTooManyWays(t *testing.T) {
	f := newFixture(t).ready()
	c := f.customer(f.offered()[0], nil).keyed()
	for n := range 3 * dataplane.MaxWays {
		f.clock.Add(int64(AcceptAgain))
		path := link.Path{Remote: netip.AddrPortFrom(netip.MustParseAddr("203.0.113.9"), uint16(1000+n))}
		f.do(accepted{f.Agent.config.Outer, path, c.grant.SPI, c.accept})
	}
	if n := f.Rejects()["accept-ways"]; n != 2*dataplane.MaxWays+1 {
		t.Errorf("%d were not answered, want %d", n, 2*dataplane.MaxWays+1)
	}
	c.ping()
}

// TestSilentClientIsAnsweredNowhere: its gateway may give the way to another client
// by then. It is answered again as soon as it is heard.
func TestSilentClientIsAnsweredNowhere(t *testing.T) {
	f := newFixture(t).ready()
	c := f.customer(f.offered()[0], nil).up()
	pair := f.slices.byKey[c.sliceKey()].pair
	f.advance(WaySilent)
	if _, ok := pair.Path(); !ok {
		t.Error("left too early")
	}
	f.advance(TickEvery)
	f.advance(TickEvery)
	if path, ok := pair.Path(); ok {
		t.Errorf("still answered at %v", path)
	}
	c.ping()
}
