package arbiter

import (
	"crypto/rand"
	"testing"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/crypto/mka"
	"github.com/meshcrypt/meshcrypt/node/protocol"
	"github.com/meshcrypt/meshcrypt/node/session"
)

// kept is how many prekeys of the peer are kept, on offer or not.
func (s *crasher) kept() int { return len(s.peer.prekeys) }

// TestAbandonedGrantsKeepNoPrekeys: nothing is kept of a prekey that was granted, nor of
// one that is granted to nobody, which its agent hears; else no fresh ones are taken
// once enough logins came to nothing.
func TestAbandonedGrantsKeepNoPrekeys(t *testing.T) {
	s := newCrasher(t)
	s.start()
	if s.kept() != 3 { // of 4 one is in the offer
		t.Errorf("%d prekeys are kept beside that which was granted", s.kept())
	}
	s.store.lose = func(c registry.Command) loss {
		if c.OpenSession != nil {
			return lost
		}
		return arrives
	}
	var live *registry.Session
	s.store.View(func(r *registry.State) { live = r.ActiveSessions()[0] })
	s.commit(registry.Command{EndSession: &registry.EndSession{Session: live.ID}})
	for s.peer.Take() != nil {
	}
	before := s.kept()
	s.start()
	unused := 0
	for m := s.peer.Take(); m != nil; m = s.peer.Take() {
		if m.Unused != nil {
			unused += len(m.Unused.SPIs)
		}
	}
	if s.kept() != before+3-unused || unused == 0 {
		t.Errorf("before there were %d prekeys, 3 came, %d are kept, and the agent hears of %d", before, s.kept(), unused)
	}
}

// TestOffersEndWithTheirSession, and with the next epoch of their slice, whether or not
// their agent could be told.
func TestOffersEndWithTheirSession(t *testing.T) {
	s := newCrasher(t)
	s.start()
	var live *registry.Session
	s.store.View(func(r *registry.State) { live = r.ActiveSessions()[0] })
	if len(s.a.offers[live.ID]) != 1 {
		t.Fatalf("%d offers", len(s.a.offers[live.ID]))
	}
	next := live.Slices[0]
	s.commit(registry.Command{GrantSlice: &registry.GrantSlice{Session: live.ID, Slice: registry.Slice{
		Epoch: 2, Agent: next.Agent, Boot: next.Boot, SPI: next.SPI + 1, Suite: 1, Weight: 1}}})
	s.peer.prekeys[next.SPI+1] = s.peer.prekeys[anyKey(s.peer)]
	next.Epoch, next.SPI = 2, next.SPI+1
	s.a.sendGrant(session.SendGrant{Node: next.Agent, Session: live.ID, Slice: next})
	if o := s.a.offers[live.ID]; len(o) != 1 || o[0].epoch != 2 {
		t.Errorf("after the next epoch there are %d offers", len(o))
	}
	s.a.pushViews()
	s.commit(registry.Command{EndSession: &registry.EndSession{Session: live.ID}})
	if s.a.pushViews(); len(s.a.offers) != 0 {
		t.Error("they outlive their session")
	}
}

func anyKey(n *nodeStream) (spi uint32) {
	for spi = range n.prekeys {
	}
	return spi
}

// TestOfferOfAnotherEpoch is none, and a grant that cannot be made keeps no prekey.
func TestOfferOfAnotherEpoch(t *testing.T) {
	s := newCrasher(t)
	s.start()
	for id := range s.a.offers {
		s.a.dropOffer(id, 0, 9)
		if s.a.offerOf(id, 0, 9) != nil || s.a.offerOf(id, 0, 1) == nil {
			t.Error("epochs are mixed up")
		}
	}
	before := s.kept()
	s.a.sendGrant(session.SendGrant{Node: s.peer.node, Session: registry.SessionID{99}, Slice: registry.Slice{Agent: s.peer.node, SPI: anyKey(s.peer), Boot: identity.BootID{7}}})
	if s.kept() != before-1 {
		t.Error("a grant for a session that is none keeps its prekey")
	}
}

// TestOneSignatureOfManyPrekeys: of those that come together one is checked, for all come
// by their agent's own stream; what they say of themselves is looked at with each.
func TestOneSignatureOfManyPrekeys(t *testing.T) {
	f := newFixture(t)
	a := f.still()
	key, err := identity.NewKey(rand.Reader)
	f.ok(err)
	n := &nodeStream{node: key.ID(), hello: protocol.NodeHello{Boot: identity.BootID{1}}}
	took := func(spoil func(i int, signed mka.SignedPrekey)) int {
		var keys [][]byte
		for i := range 3 {
			_, signed, err := mka.NewPrekey(rand.Reader, key, n.hello.Boot, 1<<20|uint32(i), 60)
			f.ok(err)
			spoil(i, signed)
			keys = append(keys, signed)
		}
		return len(a.nodeEvent(n, &protocol.Node{Prekeys: &protocol.Prekeys{Keys: keys}}).(prekeysCame).keys)
	}
	for what, c := range map[string]struct {
		spoil func(i int, signed mka.SignedPrekey)
		want  int
	}{
		"good ones":                {func(int, mka.SignedPrekey) {}, 3},
		"one that is signed wrong": {func(i int, s mka.SignedPrekey) { s[len(s)-1] ^= byte(1 - min(i, 1)) }, 2},
		"of another agent":         {func(_ int, s mka.SignedPrekey) { s[2] ^= 1 }, 0},
		"of another boot":          {func(_ int, s mka.SignedPrekey) { s[2+32+32] ^= 1 }, 0},
	} {
		if got := took(c.spoil); got != c.want {
			t.Errorf("%s: %d of 3 are taken, want %d", what, got, c.want)
		}
	}
}
