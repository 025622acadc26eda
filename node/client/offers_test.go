package client

import (
	"crypto/rand"
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/crypto/esp"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/crypto/mka"
	"github.com/meshcrypt/meshcrypt/mesh/link"
	"github.com/meshcrypt/meshcrypt/node/dataplane"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// agreement is an offer of one slice and its agent's side of MKA/1.
type agreement struct {
	offer  protocol.SliceOffer
	agent  identity.Key
	secret *mka.PrekeySecret
	share  mka.Share
}

// offer makes the arbiter's offer of a slice, changed by edit.
func (f *fixture) offer(number uint8, epoch uint32, edit func(*mka.Grant)) agreement {
	f.Helper()
	agent, err := identity.NewKey(rand.Reader)
	f.ok(err)
	spi := esp.MakeSPI(identity.Index(number+2), 100+epoch)
	secret, sp, err := mka.NewPrekey(rand.Reader, agent, identity.BootID{7}, spi, 600)
	f.ok(err)
	g := mka.Grant{
		Version: mka.Version, Cluster: identity.ClusterID{1}, Incarnation: 1, Term: 5, Index: 9, Session: [16]byte{3},
		Slice: number, Epoch: epoch, Suite: esp.AES256GCM, Weight: 1, Mode: "burst", Agent: agent.ID(), AgentKey: agent.Public(),
		Boot: identity.BootID{7}, SPI: spi, Gateways: []netip.AddrPort{gatewayAddr(0)}, SessionKey: f.key.Public(),
		Leases: []netip.Addr{lease()}, HelloHash: mka.HashHello(f.control.hello),
	}
	if edit != nil {
		edit(&g)
	}
	share := mka.Share{number + 1}
	return agreement{protocol.SliceOffer{Grant: mka.SignGrant(f.arbiter, g), Prekey: sp, Share: share[:]}, agent, secret, share}
}

func TestOffersThatDoNotMatchAreRefused(t *testing.T) {
	f := newFixture(t)
	f.connect()
	stranger, err := identity.NewKey(rand.Reader)
	f.ok(err)
	for name, make := range map[string]func() protocol.SliceOffer{
		"a grant that answers another hello": func() protocol.SliceOffer {
			return f.offer(0, 1, func(g *mka.Grant) { g.HelloHash[0]++ }).offer
		},
		"a grant of another session key": func() protocol.SliceOffer {
			return f.offer(0, 1, func(g *mka.Grant) { g.SessionKey = stranger.Public() }).offer
		},
		"a grant of another agent's prekey": func() protocol.SliceOffer {
			o := f.offer(0, 1, nil).offer
			o.Prekey = f.offer(0, 1, nil).offer.Prekey
			return o
		},
		"a grant of another boot": func() protocol.SliceOffer {
			return f.offer(0, 1, func(g *mka.Grant) { g.Boot[0]++ }).offer
		},
		"a suite that was not offered": func() protocol.SliceOffer {
			return f.offer(0, 1, func(g *mka.Grant) { g.Suite = esp.ChaCha20Poly1305 }).offer
		},
		"a grant that the arbiter did not sign": func() protocol.SliceOffer {
			o := f.offer(0, 1, nil).offer
			g, err := mka.ParseGrant(o.Grant, f.arbiter.Public())
			f.ok(err)
			o.Grant = mka.SignGrant(stranger, g)
			return o
		},
		"a share too short": func() protocol.SliceOffer {
			o := f.offer(0, 1, nil).offer
			o.Share = o.Share[1:]
			return o
		},
		"garbage": func() protocol.SliceOffer { return protocol.SliceOffer{Grant: []byte{1}, Prekey: []byte{2}} },
	} {
		o := make()
		f.takeOffer(&o)
		if len(f.slices) != 0 {
			t.Fatalf("%s was taken", name)
		}
	}
	o := f.offer(0, 1, nil).offer
	f.control = nil
	f.takeOffer(&o)
	if len(f.slices) != 0 {
		t.Error("an offer of nobody was taken")
	}
}

// TestAcceptIsRepeatedUntilConfirmed, byte for byte; then the slice is used.
func TestAcceptIsRepeatedUntilConfirmed(t *testing.T) {
	f := newFixture(t)
	f.connect()
	a := f.offer(0, 1, nil)
	f.takeOffer(&a.offer)
	f.takeOffer(&a.offer) // said twice by the arbiter
	if len(f.slices) != 1 || f.routed() != "null" {
		t.Fatalf("%d slices, route %s before the confirm", len(f.slices), f.routed())
	}
	f.advance(2*AcceptRetry + TickEvery)
	accepts := f.received(0)
	if len(accepts) != 3 || string(accepts[0]) != string(accepts[2]) {
		t.Fatalf("%d accepts", len(accepts))
	}
	agent, err := mka.NewAgent(a.offer.Grant, f.arbiter.Public(), &a.share, a.secret, a.agent, mka.Fence{})
	f.ok(err)
	datagram, _, err := agent.Accept(accepts[0])
	f.ok(err)
	forged := append([]byte(nil), datagram...)
	forged[len(forged)-1]++
	s := f.slices[sliceKey{0, 1}]
	f.ok(f.gateways[0].Send(forged, len(forged), link.Path{Remote: s.socket.LocalAddr()}))
	f.ok(f.gateways[0].Send(datagram, len(datagram), link.Path{Remote: s.socket.LocalAddr()}))
	f.until("the slice is confirmed", func() bool { return s.confirmed })
	if f.routed() != `["0.1"]` || s.pulse.waiting == 0 {
		t.Errorf("route %s; probed: %v", f.routed(), s.pulse.waiting != 0)
	}
	if said := f.said(); len(said) == 0 || said[len(said)-1].Up == nil {
		t.Errorf("said %+v", said)
	}
}

// TestEpochOfARecoveredMesh: a mesh that an older build recovered, by a log which lacked its end,
// grants an epoch that its client has already, of an agent that is perhaps gone. It is another
// one, and takes the place of that one and of later ones; what is said of the old ones late does
// not come back.
func TestEpochOfARecoveredMesh(t *testing.T) {
	f := newFixture(t)
	f.connect()
	var had []*slice
	for _, key := range []sliceKey{{0, 2}, {0, 3}, {1, 7}} {
		old := f.offer(key.number, key.epoch, nil)
		f.takeOffer(&old.offer)
		had = append(had, f.slices[key])
	}
	late, recovered := f.offer(0, 2, nil), f.offer(0, 2, func(g *mka.Grant) { g.Incarnation++ })
	for _, offer := range []*protocol.SliceOffer{&recovered.offer, &late.offer} {
		f.takeOffer(offer)
		if s := f.slices[sliceKey{0, 2}]; len(f.slices) != 2 || s.grant.Incarnation != 2 || f.slices[sliceKey{1, 7}] == nil {
			t.Fatalf("%d slices, of incarnation %d", len(f.slices), s.grant.Incarnation)
		}
	}
	for i, s := range had {
		if _, err := s.pair.Out.Reserve(1, 100); (err == nil) != (i == 2) {
			t.Errorf("keys of %v: %v", s.key, err)
		}
	}
}

// TestSliceNobodyHearsHasNoKeys: where the engine takes no further socket, the keys that
// were agreed for it seal nothing.
func TestSliceNobodyHearsHasNoKeys(t *testing.T) {
	f := newFixture(t)
	f.connect()
	a := f.offer(0, 1, nil)
	s, err := f.newSlice(&a.offer)
	f.ok(err)
	f.ok(f.config.Engine.Close())
	if err := f.attach(s); !errors.Is(err, dataplane.ErrClosed) {
		t.Errorf("attached: %v", err)
	}
	if _, err := s.pair.Out.Reserve(1, 100); err == nil {
		t.Error("its keys still seal")
	}
	if err := s.socket.Send([]byte{1}, 1, link.Path{Remote: gatewayAddr(0)}); !errors.Is(err, link.ErrClosed) {
		t.Errorf("its socket is open: %v", err)
	}
}

func TestUnansweredAcceptIsGivenUp(t *testing.T) {
	f := newFixture(t)
	f.connect()
	a := f.offer(0, 1, nil)
	f.takeOffer(&a.offer)
	for n := 0; len(f.slices) > 0; n++ {
		if n > AcceptTries {
			t.Fatalf("I10: still trying after %d accepts", n)
		}
		f.advance(AcceptRetry)
	}
	if s := silences(f.said()); len(s) != 1 || s[0].Reason != "no confirm" {
		t.Errorf("said %+v", s)
	}
}

func TestMaxSlices(t *testing.T) {
	f := newFixture(t)
	f.connect()
	for epoch := uint32(1); len(f.slices) < MaxSlices; epoch++ {
		a := f.offer(0, epoch, nil)
		f.takeOffer(&a.offer)
	}
	sockets := f.sockets
	a := f.offer(1, 1, nil)
	f.takeOffer(&a.offer)
	if len(f.slices) != MaxSlices || f.sockets != sockets {
		t.Errorf("I10: %d slices, a socket was opened: %v", len(f.slices), f.sockets != sockets)
	}
}

// TestRouteOfEpochsAndSpares: the newest usable epoch of each slice; a spare
// only when there is nothing else.
func TestRouteOfEpochsAndSpares(t *testing.T) {
	f := newFixture(t)
	f.connect()
	old, spare := f.slice(0, 1), f.slice(1, 1)
	spare.spare = true
	route := func(want string) {
		t.Helper()
		if got := f.routed(); got != want {
			t.Errorf("route %s, want %s", got, want)
		}
	}
	route(`["0.1"]`)
	newer := f.slice(0, 2)
	route(`["0.2"]`)
	newer.confirmed = false
	route(`["0.1"]`)
	old.condemned = true
	route(`["1.1"]`)
	newer.confirmed = true
	route(`["0.2"]`)
	if f.table().In.Len() != 3 {
		t.Error("an older epoch does not open packets any more")
	}
}

// TestFinalMile: packets for an agent's own host go over the slice on it, also
// over a spare or while it is silent, and as all others when it has none.
func TestFinalMile(t *testing.T) {
	f := newFixture(t)
	f.connect()
	one, other := f.slice(0, 1), f.slice(1, 1)
	one.inside, other.inside, other.spare = netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("10.0.0.3"), true
	for _, s := range []*slice{one, other} {
		route := f.table().Routes.Get(s.inside)
		if route == nil || len(route.Slices) != 1 || route.Slices[0].Pair != s.pair {
			t.Errorf("%v is reached over %+v", s.inside, route)
		}
	}
	leads := func(when string, to *slice) {
		t.Helper()
		if route := f.table().Routes.Get(one.inside); route == nil || route.Slices[0].Pair != to.pair {
			t.Errorf("%s: the agent's host is reached over %+v", when, route)
		}
	}
	one.condemned = true
	leads("one slice is silent", one)
	another := f.slice(2, 1)
	another.inside = one.inside
	leads("another one on its host is heard", another)
	one.condemned, another.condemned = false, true
	leads("the other way round", one)
	one.retireAt, another.retireAt = time.Second, time.Second
	if routes := f.table().Routes; routes.Len() != 1 || routes.Get(other.inside) == nil {
		t.Errorf("%d routes while one host has no slice any more", routes.Len())
	}
}

func TestNoGatewayIsAnError(t *testing.T) {
	config := newFixture(t).config
	config.Profile.Gateways = nil
	if _, err := New(config); !errors.Is(err, ErrProfile) {
		t.Errorf("a client without gateways: %v", err)
	}
}
