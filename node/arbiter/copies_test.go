package arbiter

import (
	"net/netip"
	"testing"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// opened is a stream of a process of a node, as its hello tells.
func (f *fixture) opened(a *Arbiter, id identity.NodeID, boot byte) *nodeStream {
	n := stub(f.TB, id)
	n.hello.Boot, n.hello.Outer = identity.BootID{boot}, netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, boot}), 6484)
	nodeOpened{n}.apply(a)
	for _, c := range proposed(a) {
		if c.UpdateNode != nil {
			f.commit(c)
		}
	}
	return n
}

// toldToStop reports whether its last word to a stream was that another has its key,
// and that nothing but the fence came before, where it had none.
func toldToStop(n *nodeStream) (told bool) {
	for n.Waiting() > 0 {
		told = n.Take().Superseded != nil
	}
	return told
}

// TestTwoHostsOfOneKey: of two that come in turn the newer one is served, and the
// older one is told, refused for good, and named.
func TestTwoHostsOfOneKey(t *testing.T) {
	f := newFixture(t)
	a := f.still()
	id := f.member(a, "n2", dataRoles).node
	first := f.opened(a, id, 1)
	toldToStop(first)
	again := f.opened(a, id, 1) // the same process, by another connection
	if a.nodes[id] != again || toldToStop(first) {
		t.Fatal("a process that comes back is not served")
	}
	second := f.opened(a, id, 2)
	if a.nodes[id] != second || !toldToStop(again) || toldToStop(second) {
		t.Fatal("the newer process does not take the place of the older one")
	}
	late := f.opened(a, id, 1)
	if a.nodes[id] != second || !toldToStop(late) {
		t.Fatal("the older process is served again")
	}
	if all := a.copied(a.config.Now()); len(all) != 0 {
		t.Errorf("a connection that may have been under way as its process ended is a second host: %v", all)
	}
	f.opened(a, id, 1)
	if all := a.copied(a.config.Now()); all[id] != late.hello.Outer {
		t.Errorf("the older process came back twice, named are %v", all)
	}
	f.now.Add(int64(CopyForgotten) + 1)
	if all := a.copied(a.config.Now()); len(all) != 0 {
		t.Errorf("named for ever: %v", all)
	}
	nodeSaid{late, &protocol.Node{Superseded: &protocol.Superseded{}}}.apply(a)
	if all := a.copied(a.config.Now()); len(all) != 1 {
		t.Errorf("it answers, named are %v", all)
	}
	nodeSaid{second, &protocol.Node{Superseded: &protocol.Superseded{}}}.apply(a)
	if c := a.copies[id]; c.seen != late.hello.Outer {
		t.Error("the process that is served is named")
	}
	// The next arbiter knows it from the registry.
	next := f.still()
	if third := f.opened(next, id, 1); next.nodes[id] != nil || !toldToStop(third) {
		t.Error("the next arbiter serves the older process")
	}
	if third := f.opened(next, id, 3); next.nodes[id] != third {
		t.Error("a restarted node is refused")
	}
}

// TestArbiterGivesWayToNobody: who shows an arbiter its own key is the copy.
func TestArbiterGivesWayToNobody(t *testing.T) {
	f := newFixture(t)
	a := f.still()
	a.config.Boot = identity.BootID{9}
	own := f.opened(a, a.config.Trust.Key.ID(), 9)
	toldToStop(own)
	if n := f.opened(a, own.node, 10); a.nodes[own.node] != own || !toldToStop(n) || toldToStop(own) {
		t.Error("a copy of the arbiter takes its place")
	}
}

// TestMaxPastBoots: who restarts without end costs no memory.
func TestMaxPastBoots(t *testing.T) {
	f := newFixture(t)
	a := f.still()
	id := f.member(a, "n2", dataRoles).node
	for boot := range byte(3 * registry.MaxPastBoots) {
		f.opened(a, id, boot+1)
		if n := len(a.copies[id].over); n > registry.MaxPastBoots {
			t.Fatalf("%d boots are kept", n)
		}
	}
}

// TestSessionGoesOnElsewhere: of two processes that have a session's key, as after a
// client's machine was cloned, the one that came last goes on, and the other is told.
func TestSessionGoesOnElsewhere(t *testing.T) {
	f := newFixture(t)
	a := f.still()
	id := registry.SessionID{7}
	stream := func(request byte) *clientStream {
		c := &clientStream{request: registry.RequestID{request}, Stream: toClient(t, MaxOutbox)}
		a.clients[c.request] = c
		return c
	}
	older, newer, another := stream(1), stream(2), stream(3)
	a.serve(older, id)
	a.serve(another, registry.SessionID{8})
	a.leaveOlder(id, newer)
	if older.Waiting() != 1 || older.Take().Bye == nil || a.clients[older.request] != nil {
		t.Error("the older one is not told, or still served")
	}
	if newer.Waiting()+another.Waiting() != 0 || len(a.clients) != 2 {
		t.Errorf("told %d and %d, %d are served", newer.Waiting(), another.Waiting(), len(a.clients))
	}
}

// TestOvertakenConnection: what a client said on a connection that it gave up arrives after
// what it said on the next one, as when its network was out, and ends nothing. Of clients
// that count no connections the last to arrive is served, as ever.
func TestOvertakenConnection(t *testing.T) {
	for name, c := range map[string]struct {
		attempt uint64
		over    bool
	}{"an earlier one": {4, true}, "the next": {6, false}, "of a copy": {5, false}} {
		f := newFixture(t)
		a := f.still()
		id := registry.SessionID{7}
		stream := func(request byte, attempt uint64) *clientStream {
			c := &clientStream{introduction: &introduction{}, request: registry.RequestID{request}, Stream: toClient(t, MaxOutbox), attempt: attempt}
			return c
		}
		served, late := stream(1, 5), stream(2, c.attempt)
		a.clients[served.request] = served
		a.serve(served, id)
		clientOpened{late, &protocol.Auth{Method: protocol.MethodResume, Session: id}}.apply(a)
		if over := a.served[id] == served; over != c.over {
			t.Errorf("%s: the served one stays: %v", name, over)
		}
		if said := late.Take(); c.over && (said == nil || said.Refused == nil || said.Refused.Code != protocol.RefusedRetry) {
			t.Errorf("%s is told %+v", name, said)
		}
	}
}
