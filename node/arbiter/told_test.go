package arbiter

import (
	"slices"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/esp"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/crypto/mka"
	"github.com/meshcrypt/meshcrypt/node/protocol"
	"github.com/meshcrypt/meshcrypt/node/session"
)

// TestGatewaysThatChangeAreTold: not to say what the welcome said, but whenever they
// change in this term.
func TestGatewaysThatChangeAreTold(t *testing.T) {
	f := newFixture(t)
	a := f.still()
	n := f.member(a, "n2", dataRoles)
	f.commit(registry.Command{SetRoles: &registry.SetRoles{ID: n.node, Is: dataRoles}})
	s := f.session(a, 1, n.node)
	c := &clientStream{session: s.ID, Stream: toClient(t, 8)}
	a.serve(c, s.ID)
	told := func() (all []*protocol.Update) {
		a.pushGateways()
		for c.Waiting() > 0 {
			all = append(all, c.Take().Update)
		}
		return all
	}
	if got := told(); len(got) != 0 {
		t.Errorf("told what its welcome said: %+v", got)
	}
	if got := told(); len(got) != 0 {
		t.Errorf("nothing changed: %+v", got)
	}
	for _, is := range []registry.Roles{registry.RoleAgent, dataRoles} {
		f.commit(registry.Command{SetRoles: &registry.SetRoles{ID: n.node, Is: is}})
		got := told()
		if len(got) != 1 || got[0] == nil || slices.Contains(got[0].Gateways, f.store.state.Nodes[n.node].Outer) != (is == dataRoles) {
			t.Errorf("the node is %v: told %+v", is.Names(), got)
		}
	}
}

// TestManyClientsAreToldOfGatewaysAtOnce: those that are told the same share one message,
// which is encoded once; those that entered elsewhere are told another.
func TestManyClientsAreToldOfGatewaysAtOnce(t *testing.T) {
	f := newFixture(t)
	a := f.still()
	n := f.member(a, "n2", dataRoles)
	var all []*clientStream
	for i := range byte(6) {
		c := &clientStream{Stream: toClient(t, 8), entered: []identity.NodeID{n.node, a.config.Trust.Key.ID()}[i%2]}
		a.serve(c, f.session(a, i+1, n.node).ID)
		all = append(all, c)
	}
	a.pushGateways()
	f.commit(registry.Command{SetRoles: &registry.SetRoles{ID: n.node, Is: dataRoles}})
	a.pushGateways()
	messages := make(map[*protocol.Client]bool)
	for i, c := range all {
		m := c.Take()
		if m == nil || m.Update == nil || len(m.Update.Gateways) != 2 || m.Update.Gateways[0] != f.store.state.Nodes[c.entered].Outer {
			t.Fatalf("client %d is told %+v", i, m)
		}
		messages[m] = true
	}
	if len(messages) != 2 {
		t.Errorf("%d messages for two kinds of clients", len(messages))
	}
}

// TestGatesAreFoundOnce, and again when a node changed.
func TestGatesAreFoundOnce(t *testing.T) {
	f := newFixture(t)
	f.store.state.Feed = &registry.Feed{}
	a := f.still()
	n := f.member(a, "n2", dataRoles)
	gates := func() int { return len(a.gateways(f.store.state, n.node)) }
	if a.pushViews(); gates() != 1 {
		t.Fatalf("%d gateways", gates())
	}
	f.store.state.Nodes[n.node].Is = dataRoles // which the feed does not tell of
	if a.pushViews(); gates() != 1 || len(a.gatewaysNamed(f.store.state)) != 1 {
		t.Errorf("%d gateways are found anew though nothing changed", gates())
	}
	f.commit(registry.Command{SetRoles: &registry.SetRoles{ID: n.node, Is: dataRoles}})
	if a.pushViews(); gates() != 2 || len(a.gatewaysNamed(f.store.state)) != 2 {
		t.Errorf("%d gateways after one more", gates())
	}
}

// TestMeasuresLiveAsTheirSession: those of a session that goes on stay, and those of one
// that the registry has no more go.
func TestMeasuresLiveAsTheirSession(t *testing.T) {
	f := newFixture(t)
	a := f.still()
	n := f.member(a, "n2", dataRoles)
	s, over := f.session(a, 1, n.node), f.session(a, 2, n.node)
	a.pushViews()
	all := []registry.SessionID{s.ID, over.ID, {9}}
	say := func() {
		for _, id := range all {
			a.takeMeasures(id, &protocol.Alive{})
		}
	}
	if say(); len(a.measures) != 2 {
		t.Errorf("%d measures of two sessions", len(a.measures))
	}
	over.State = registry.SessionEnded
	a.pushViews()
	if say(); a.measures[s.ID] == nil || len(a.measures) != 1 {
		t.Errorf("%d measures are left", len(a.measures))
	}
}

// TestRouteIsPushedOnce: nothing is said that the node has heard.
func TestRouteIsPushedOnce(t *testing.T) {
	f := newFixture(t)
	a := f.still()
	n := f.member(a, "n2", dataRoles)
	s := f.session(a, 1, n.node)
	a.pushViews()
	views(n)
	if a.pushSessions(s.ID); n.Waiting() != 0 {
		t.Errorf("told again: %+v", n.Take())
	}
}

// TestSparesCarryAlone: what is spare is in a route always, for the egress needs it when
// all else is lost with the arbiter, and weighs nothing while there is something else.
// What is on a node that is none is not in it.
func TestSparesCarryAlone(t *testing.T) {
	f := newFixture(t)
	a := f.still()
	n := f.member(a, "n2", dataRoles)
	s := f.session(a, 1, n.node)
	s.Slices = append(s.Slices,
		registry.Slice{Number: 1, Epoch: 1, Agent: n.node, State: registry.SliceUp, SPI: 9, Weight: 3, Spare: true},
		registry.Slice{Number: 2, Epoch: 1, Agent: identity.NodeID{9}, State: registry.SliceUp, SPI: 8})
	routed := func() (weights [][2]uint32) {
		f.store.View(func(all *registry.State) {
			for _, sl := range a.routeOf(all, s).Slices {
				weights = append(weights, [2]uint32{uint32(sl.Number), sl.Weight})
			}
		})
		return weights
	}
	main := s.Slices[0].Weight
	if got := routed(); main == 0 || !slices.Equal(got, [][2]uint32{{0, main}, {1, 0}}) {
		t.Errorf("beside another: %v", got)
	}
	s.Slices = s.Slices[1:2]
	if got := routed(); !slices.Equal(got, [][2]uint32{{1, 3}}) {
		t.Errorf("alone: %v", got)
	}
}

// TestMaxAcknowledged: of one answer no more is committed at a time.
func TestMaxAcknowledged(t *testing.T) { // I10
	f := newFixture(t)
	a := f.still()
	n := f.member(a, "n2", registry.RoleAgent)
	n.hello.Reads = registry.CommandVersion
	n.asked = make(map[registry.SessionID]time.Duration)
	var all []registry.SessionID
	for i := range registry.MaxAcknowledged + 3 {
		id := registry.SessionID{byte(i), byte(i >> 8), 1}
		all, n.asked[id] = append(all, id), a.config.Now()
	}
	proposed(a)
	nodeSaid{n, &protocol.Node{Freed: &protocol.Sessions{Sessions: all}}}.apply(a)
	said := proposed(a)
	if len(said) != 1 || len(said[0].Acknowledge.Sessions) != registry.MaxAcknowledged || len(n.asked) != 3 {
		t.Errorf("%d commands, %d are asked still", len(said), len(n.asked))
	}
}

// decide commits what the arbitrator proposes, until it proposes nothing more.
func (f *fixture) decide(a *Arbiter) {
	f.Helper()
	for len(a.proposals) > 0 {
		p := <-a.proposals
		result, err := f.store.Propose(f.Context(), p.command)
		outcome{p, result, err}.apply(a)
	}
}

// TestRefusalNeedsNoReason: an agent that says no, whether it says why or not, has agreed
// to nothing, and its client is not welcomed.
func TestRefusalNeedsNoReason(t *testing.T) {
	for name, ack := range map[string]protocol.SliceAck{
		"with a reason": {Reason: "full"}, "without one": {}, "it agrees": {Ok: true},
	} {
		s := newLinkScene(t, registry.HandOnSealed)
		s.commit(registry.Command{SetRoles: &registry.SetRoles{ID: s.peer.node, Is: dataRoles}})
		s.commit(registry.Command{PutClient: &registry.PutClient{Client: registry.Client{Name: "ann"}}})
		s.peer.hello.Boot = identity.BootID{7}
		s.a.step(session.NodeUp{Node: s.peer.node, Boot: s.peer.hello.Boot})
		s.give(2)
		c := &clientStream{request: registry.RequestID{1}, Stream: toClient(t, 8)}
		s.a.clients[c.request] = c
		s.a.step(session.Open{
			Request: c.request, Client: "ann", Key: identity.PublicKey{5}, Identity: make([]byte, 32), Hello: make([]byte, 32),
			Suite: uint16(esp.AES256GCM), Mode: registry.ModeBurst, Entered: s.peer.node,
		})
		s.decide(s.a)
		var grant *protocol.Grant
		for s.peer.Waiting() > 0 {
			if m := s.peer.Take(); m.Grant != nil {
				grant = m.Grant
			}
		}
		if grant == nil {
			t.Fatalf("%s: nothing is granted", name)
		}
		g, err := mka.ParseGrant(grant.Grant, s.trust.Key.Public())
		s.ok(err)
		ack.Slice = protocol.SliceRef{Session: g.Session, Number: g.Slice, Epoch: g.Epoch}
		nodeSaid{s.peer, &protocol.Node{Ack: &ack}}.apply(s.a)
		if welcomed := c.Waiting() == 1 && c.Take().Welcome != nil; welcomed != ack.Ok {
			t.Errorf("%s: welcomed %v", name, welcomed)
		}
	}
}
