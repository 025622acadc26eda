package arbiter

import (
	"crypto/rand"
	"testing"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/esp"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/crypto/mka"
	"github.com/meshcrypt/meshcrypt/node/protocol"
	"github.com/meshcrypt/meshcrypt/node/session"
)

// linkScene is an arbiter, a node that asks and one that it asks for.
type linkScene struct {
	*fixture
	a           *Arbiter
	asker, peer *nodeStream
	hello       mka.Hello
}

func newLinkScene(t *testing.T, kind registry.HandOn) *linkScene {
	t.Helper()
	f := newFixture(t)
	s := &linkScene{fixture: f, a: f.still()}
	s.asker, s.peer = f.member(s.a, "n2", dataRoles), f.member(s.a, "n3", dataRoles)
	f.commit(registry.Command{PutPolicy: &registry.PutPolicy{Policy: registry.Policy{HandOn: kind}}})
	s.hello = mka.Hello{Versions: []uint16{mka.Version}, Suites: esp.Suites(), Request: [16]byte{4}, SessionKey: f.joined[s.asker.node].key.Public()}
	s.give(1)
	return s
}

// give has the peer offer a prekey.
func (s *linkScene) give(local uint32) {
	s.Helper()
	var index identity.Index
	s.store.View(func(st *registry.State) { index = st.Nodes[s.peer.node].Index })
	spi := esp.MakeSPI(index, local)
	_, signed, err := mka.NewPrekey(rand.Reader, s.joined[s.peer.node].key, s.peer.hello.Boot, spi, 600)
	s.ok(err)
	s.peer.prekeys[spi] = signed
	s.a.step(session.Prekeys{Node: s.peer.node, SPIs: []uint32{spi}})
}

// ask is what both are told, nil for nothing.
func (s *linkScene) ask(of identity.NodeID) (grant *protocol.Grant, offer *protocol.LinkOffer) {
	s.Helper()
	for s.asker.Take() != nil || s.peer.Take() != nil {
	}
	nodeSaid{s.asker, &protocol.Node{Link: &protocol.Link{Peer: of, Hello: s.hello.Marshal()}}}.apply(s.a)
	for s.peer.Waiting() > 0 {
		grant = s.peer.Take().Grant
	}
	for s.asker.Waiting() > 0 {
		offer = s.asker.Take().Offer
	}
	return grant, offer
}

// TestLinkGrant: both get one grant and one share, on a prekey that is then gone.
func TestLinkGrant(t *testing.T) {
	s := newLinkScene(t, registry.HandOnSealed)
	grant, offer := s.ask(s.peer.node)
	if grant == nil || offer == nil || string(grant.Grant) != string(offer.Grant) || string(grant.Share) != string(offer.Share) {
		t.Fatalf("%+v, %+v", grant, offer)
	}
	g, err := mka.ParseGrant(grant.Grant, s.trust.Key.Public())
	s.ok(err)
	if g.Mode != protocol.ModeLink || g.Agent != s.peer.node || g.IdentityHash != [32]byte(s.asker.node) ||
		g.Index == 0 || g.Term != s.a.term || g.HelloHash != mka.HashHello(s.hello.Marshal()) || !g.Suite.Built() {
		t.Errorf("grant %+v", g)
	}
	if len(s.peer.prekeys) != 0 {
		t.Error("the prekey may be granted again")
	}
	if _, ok := s.a.judge.TakePrekey(s.peer.node); ok {
		t.Error("the arbitrator may grant the prekey again")
	}
}

func TestLinkIsRefused(t *testing.T) {
	s := newLinkScene(t, registry.HandOnClear)
	nothing := func(what string, of identity.NodeID) {
		t.Helper()
		if grant, offer := s.ask(of); grant != nil || offer != nil {
			t.Errorf("%s: granted", what)
		}
	}
	keeps := func() {
		t.Helper()
		if _, ok := s.a.judge.TakePrekey(s.peer.node); !ok || len(s.peer.prekeys) != 1 {
			t.Error("a refusal cost a prekey")
		}
	}
	nothing("nothing is to be sealed", s.peer.node)
	keeps()
	s = newLinkScene(t, registry.HandOnSealed)
	nothing("with itself", s.asker.node)
	nothing("with nobody", identity.NodeID{7})
	s.hello.Suites = []esp.Suite{9}
	nothing("no suite", s.peer.node)
	s.hello.Suites = esp.Suites()
	s.commit(registry.Command{PutPolicy: &registry.PutPolicy{Policy: registry.Policy{HandOn: registry.HandOnSealed, Suites: []uint16{9}}}})
	nothing("no suite that the policy allows", s.peer.node)
	s = newLinkScene(t, registry.HandOnSealed)
	if grant, _ := s.ask(s.peer.node); grant == nil {
		t.Fatal("refused")
	}
	s.give(2)
	nothing("again at once (I10)", s.peer.node)
	s.now.Add(int64(LinkPause))
	if grant, _ := s.ask(s.peer.node); grant == nil {
		t.Error("refused after the pause")
	}
	s.now.Add(int64(LinkPause))
	nothing("no prekey", s.peer.node)
	s.give(3)
	s.commit(registry.Command{RemoveNode: &registry.RemoveNode{ID: s.asker.node}})
	nothing("no member more", s.peer.node)
	keeps()
}
