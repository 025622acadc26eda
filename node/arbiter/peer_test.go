package arbiter

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/node/auth"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// TestPeerOfAClient: a member's host that the client may reach, and no other;
// then only that host is pushed.
func TestPeerOfAClient(t *testing.T) {
	f := newFixture(t)
	a := f.still()
	n := f.member(a, "n2", dataRoles)
	inside := netip.MustParseAddr("10.0.0.2")
	f.store.View(func(s *registry.State) {
		s.Nodes[n.node].Inside = inside
		s.Clients.Put("ann", &registry.Client{Name: "ann", Prefixes: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24")}})
		s.Clients.Put("ben", &registry.Client{Name: "ben", Prefixes: []netip.Prefix{netip.MustParsePrefix("10.9.0.0/24")}})
	})
	c := &clientStream{introduction: &introduction{}, who: auth.Principal{User: "ann"}}
	if id, known := a.peerOf(c); !known || !id.IsZero() {
		t.Errorf("no peer: %v, %v", id, known)
	}
	c.hello.Peer = "n2"
	if id, known := a.peerOf(c); !known || id != n.node {
		t.Errorf("a peer: %v, %v", id, known)
	}
	for name, spoil := range map[string]func(*clientStream){
		"unknown":       func(c *clientStream) { c.hello.Peer = "n7" },
		"not permitted": func(c *clientStream) { c.who.User = "ben" },
	} {
		bad := &clientStream{introduction: &introduction{hello: c.hello}, who: c.who, Stream: toClient(t, 1)}
		spoil(bad)
		clientOpened{bad, &protocol.Auth{Method: protocol.MethodPassword}}.apply(a)
		if m := bad.Take(); m.Refused == nil || m.Refused.Code != protocol.RefusedPolicy {
			t.Errorf("%s: %+v", name, m)
		}
	}
	session := f.session(a, 1, n.node)
	session.Peer = n.node
	f.store.View(func(s *registry.State) {
		if got := Reach(s, s.Sessions.Get(session.ID)); !slices.Equal(got, []netip.Prefix{netip.PrefixFrom(inside, 32)}) {
			t.Errorf("pushed %v", got)
		}
	})
}
