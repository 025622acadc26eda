package arbiter

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus"
	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/crypto/mka"
	"github.com/meshcrypt/meshcrypt/node/loop"
	"github.com/meshcrypt/meshcrypt/node/protocol"
	"github.com/meshcrypt/meshcrypt/node/session"
)

// views takes the views said to a node.
func views(n *nodeStream) (all []*protocol.View) {
	for m := n.Take(); m != nil; m = n.Take() {
		if m.View != nil {
			all = append(all, m.View)
		}
	}
	return all
}

// member commits a node and gives it a stream.
func (f *fixture) member(a *Arbiter, name string, may registry.Roles) *nodeStream {
	f.Helper()
	j := f.joiner(name)
	token := f.token(may, 1, 3600)
	f.commit(registry.Command{JoinNode: &registry.JoinNode{Token: token.ID, Node: registry.Node{
		Key: j.key.Public(), WrapKey: j.wrap.Public(), Name: name, May: may,
		Outer: netip.MustParseAddrPort("192.0.2.9:6484"), Inside: netip.MustParseAddr("10.0.0.9"),
	}}})
	f.joined[j.key.ID()] = j
	return f.connect(a, j.key.ID())
}

// connect gives a member a stream.
func (f *fixture) connect(a *Arbiter, id identity.NodeID) *nodeStream {
	n := stub(f.TB, id)
	a.nodes[n.node] = n
	a.step(session.NodeUp{Node: n.node})
	return n
}

// TestDrainedIsTold to the node itself and to all others.
func TestDrainedIsTold(t *testing.T) {
	f := newFixture(t)
	a := f.still()
	n := f.member(a, "n2", dataRoles)
	for _, drained := range []bool{true, false} {
		f.commit(registry.Command{SetRoles: &registry.SetRoles{ID: n.node, Drained: drained}})
		a.pushViews()
		told := false
		for _, v := range views(n) {
			for _, row := range v.Nodes {
				told = told || row.ID == n.node && row.Drained == drained
			}
		}
		if !told {
			t.Errorf("drained %v: not told", drained)
		}
	}
}

// TestViewsAreDifferences: all once, then only what changed, and nothing when
// nothing did.
func TestViewsAreDifferences(t *testing.T) {
	f := newFixture(t)
	a := f.still()
	n := f.member(a, "n2", dataRoles)
	a.pushViews()
	first := views(n)
	if len(first) != 1 || !first[0].Full || len(first[0].Nodes) != 2 || len(first[0].Parts) != 1 ||
		first[0].Policy == nil || len(first[0].ProbeKey) == 0 || len(first[0].GossipKey) == 0 {
		t.Fatalf("first view %+v", first)
	}
	if a.pushViews(); len(views(n)) != 0 {
		t.Error("told again what did not change")
	}
	third := f.member(a, "n3", dataRoles)
	a.pushViews()
	if v := views(n); len(v) != 1 || v[0].Full || len(v[0].Nodes) != 1 || v[0].Nodes[0].Name != "n3" || len(v[0].Parts) != 0 {
		t.Errorf("a node joined: %+v", v)
	}
	f.commit(registry.Command{PutPolicy: &registry.PutPolicy{Policy: registry.Policy{Headless: 77}}})
	a.pushViews()
	if v := views(n); len(v) != 1 || v[0].Policy == nil || v[0].Policy.Headless != 77 || len(v[0].Nodes) != 0 {
		t.Errorf("the policy changed: %+v", v)
	}
	f.commit(registry.Command{RemoveNode: &registry.RemoveNode{ID: third.node}})
	a.pushViews()
	if v := views(n); len(v) != 1 || len(v[0].Nodes) != 1 || !v[0].Nodes[0].Removed || v[0].Nodes[0].Index != 3 {
		t.Errorf("a node left: %+v", v)
	}
	s := f.session(a, 1, n.node)
	s.Slices = append(s.Slices, registry.Slice{Number: 1, Epoch: 1, Agent: n.node, State: registry.SliceGranted, SPI: 9},
		registry.Slice{Number: 2, Epoch: 1, Agent: n.node, State: registry.SliceVoid, SPI: 8})
	a.pushViews()
	if v := views(n); len(v) != 1 || len(v[0].Routes) != 1 || len(v[0].Routes[0].Slices) != 1 ||
		!slices.Equal(v[0].Routes[0].Upward, []uint32{1, 9}) {
		t.Errorf("a session was opened: %+v", v)
	}
	f.store.state.Sessions.Get(registry.SessionID{1}).State = registry.SessionEnded
	a.pushViews()
	if v := views(n); len(v) != 1 || len(v[0].Unroutes) != 1 || len(v[0].Unrules) != 1 {
		t.Errorf("a session ended: %+v", v)
	}
	if a.pushViews(); len(views(n)) != 0 {
		t.Error("told again that it ended")
	}
}

// session puts an active session with one slice that is up into the registry.
func (f *fixture) session(a *Arbiter, id byte, agent identity.NodeID) *registry.Session {
	s := &registry.Session{
		ID: registry.SessionID{id}, Client: string(rune('a' + id)), State: registry.SessionActive, Egress: agent,
		Leases: []netip.Addr{netip.AddrFrom4([4]byte{10, 77, 0, 16 + id})}, Mode: registry.ModeBurst,
		Slices: []registry.Slice{{Number: 0, Epoch: 1, Agent: agent, State: registry.SliceUp, SPI: uint32(id), Weight: 1}},
	}
	f.store.View(func(state *registry.State) { state.Sessions.Put(s.ID, s) })
	return s
}

// TestSlicesInOrder: of a node that came back without its keys many sessions lack a slice at
// once, and what is proposed for them is the same in each run.
func TestSlicesInOrder(t *testing.T) {
	f := newFixture(t)
	a := f.still()
	own := f.trust.Key.ID()
	for id := range byte(20) {
		f.session(a, id+1, own)
	}
	a.pushViews()
	for range 5 {
		var refs []protocol.SliceRef
		f.store.View(func(s *registry.State) { refs = a.slicesOf(s, own, identity.BootID{}) })
		if len(refs) != 20 || !slices.IsSortedFunc(refs, func(x, y protocol.SliceRef) int { return bytes.Compare(x.Session[:], y.Session[:]) }) {
			t.Fatalf("%d slices: %v", len(refs), refs)
		}
	}
}

// about lists the sessions that commands are about.
func about(commands []registry.Command) (ids []registry.SessionID) {
	for _, c := range commands {
		switch {
		case c.MarkSlice != nil:
			ids = append(ids, c.MarkSlice.Session)
		case c.MarkSlices != nil:
			for _, m := range c.MarkSlices.Marks {
				ids = append(ids, m.Session)
			}
		case c.GrantSlice != nil:
			ids = append(ids, c.GrantSlice.Session)
		case c.EndSession != nil:
			ids = append(ids, c.EndSession.Session)
		}
	}
	return ids
}

// TestClientSpeaksOfItsOwnSession: what it says of another is about its own.
func TestClientSpeaksOfItsOwnSession(t *testing.T) {
	f := newFixture(t)
	a := f.still()
	n := f.member(a, "n2", dataRoles)
	own, other := f.session(a, 1, n.node), f.session(a, 2, n.node)
	c := &clientStream{request: registry.RequestID{1}, Stream: toClient(t, MaxOutbox)}
	a.clients[c.request] = c
	say := func() []registry.SessionID {
		for _, m := range []*protocol.Client{
			{Silent: &protocol.SliceRef{Session: other.ID, Number: 0, Epoch: 1, Reason: "a lie"}},
			{Up: &protocol.SliceRef{Session: other.ID, Number: 0, Epoch: 1}},
			{Bye: &protocol.Bye{Reason: "of the other"}},
		} {
			clientSaid{c: c, m: m}.apply(a)
		}
		return about(proposed(a))
	}
	if ids := say(); len(ids) != 0 {
		t.Errorf("a client without a session moved %v", ids)
	}
	c.session = own.ID
	if ids := say(); len(ids) == 0 || slices.Contains(ids, other.ID) {
		t.Errorf("spoke of %v", ids)
	}
	a.clients[c.request] = nil
	if clientSaid.apply(clientSaid{c: c, m: &protocol.Client{Bye: &protocol.Bye{}}}, a); len(proposed(a)) != 0 {
		t.Error("a connection that was replaced is still heard")
	}
}

// TestNodeSpeaksOfItsOwnSlices: an agent cannot end or confirm another's.
func TestNodeSpeaksOfItsOwnSlices(t *testing.T) {
	f := newFixture(t)
	a := f.still()
	honest, liar := f.member(a, "n2", dataRoles), f.member(a, "n3", dataRoles)
	s := f.session(a, 1, honest.node)
	proposed(a)
	ref := protocol.SliceRef{Session: s.ID, Number: 0, Epoch: 1}
	nodeSaid{liar, &protocol.Node{Gone: &ref}}.apply(a)
	if ids := about(proposed(a)); len(ids) != 0 {
		t.Errorf("a stranger's word ended a slice: %v", ids)
	}
	nodeSaid{honest, &protocol.Node{Gone: &ref}}.apply(a)
	if ids := about(proposed(a)); len(ids) != 1 {
		t.Errorf("the agent's own word: %v", ids)
	}
}

// TestResumptionReplacesWhatTheClientLost: its word about a slice may have gone
// down with its old connection.
func TestResumptionReplacesWhatTheClientLost(t *testing.T) {
	f := newFixture(t)
	a := f.still()
	n := f.member(a, "n2", dataRoles)
	s := f.session(a, 1, n.node)
	s.Slices = append(s.Slices, registry.Slice{Number: 1, Epoch: 3, Agent: n.node, State: registry.SliceUp, SPI: 9, Weight: 1})
	proposed(a)
	resume := func(number byte, held ...protocol.SliceRef) []registry.SessionID {
		c := &clientStream{introduction: &introduction{}, request: registry.RequestID{number}, Stream: toClient(t, MaxOutbox)}
		clientOpened{c, &protocol.Auth{Method: protocol.MethodResume, Session: s.ID, Held: held}}.apply(a)
		return about(proposed(a))
	}
	if ids := resume(1, protocol.SliceRef{Number: 0, Epoch: 1}, protocol.SliceRef{Number: 1, Epoch: 3}); len(ids) != 0 {
		t.Errorf("what the client holds was replaced: %v", ids)
	}
	if ids := resume(2, protocol.SliceRef{Number: 0, Epoch: 1}, protocol.SliceRef{Number: 1, Epoch: 2}); len(ids) != 1 {
		t.Errorf("what the client lost was not replaced: %v", ids)
	}
}

// TestElectorateGrowsInAPair: one voter stays alone until two standbys have the
// log; then both get the data key, and then their votes.
func TestElectorateGrowsInAPair(t *testing.T) {
	f := newFixture(t)
	a := f.still()
	a.nodes[f.trust.Key.ID()] = stub(t, f.trust.Key.ID())
	second := f.member(a, "n2", dataRoles|registry.RoleVoter)
	f.member(a, "n3", dataRoles)
	run := func() bool {
		plan := a.planElectorate()
		if plan != nil {
			f.ok(plan(context.Background()))
		}
		return plan != nil
	}
	for run() {
	}
	want := []string{"standby " + second.node.Short()}
	if !slices.Equal(f.store.log, want) {
		t.Fatalf("with two that may vote: %v, want %v", f.store.log, want)
	}
	if m := second.Take(); m.Standby == nil || !slices.Contains(m.Standby.Voters, f.trust.Key.ID()) {
		t.Errorf("the standby was told %+v", m)
	}
	fourth := f.member(a, "n4", dataRoles|registry.RoleVoter)
	for run() {
	}
	want = append(want, "standby "+fourth.node.Short(), "wrap "+second.node.Short(), "wrap "+fourth.node.Short(),
		"voter "+second.node.Short(), "voter "+fourth.node.Short())
	slices.Sort(f.store.log[2:4]) // one command
	slices.Sort(want[2:4])
	if !slices.Equal(f.store.log, want) {
		t.Errorf("with three that may vote: %v, want %v", f.store.log, want)
	}
	f.member(a, "n5", dataRoles|registry.RoleVoter)
	if run() {
		t.Error("grows beyond three by itself")
	}
	if got := a.voters(); !got[second.node] || !got[fourth.node] || len(f.store.Servers()) != 3 {
		t.Errorf("voters %v", got)
	}
	if !slices.Contains(f.store.Servers(), consensus.Server{ID: f.trust.Key.ID(), Voter: true}) {
		t.Error("the founder lost its vote")
	}
}

// TestPrekeysOfAnother: signed by somebody else, or of another boot, they are
// not kept; a fresh pool replaces the old one; and there is a limit (I10).
func TestPrekeysOfAnother(t *testing.T) {
	f := newFixture(t)
	a := f.still()
	j := f.joiner("x")
	n := stub(t, j.key.ID())
	a.nodes[n.node] = n
	make := func(boot identity.BootID, spi uint32) []byte {
		_, sp, err := mka.NewPrekey(a.config.Random, j.key, boot, spi, 60)
		f.ok(err)
		return sp
	}
	give := func(fresh bool, keys ...[]byte) int {
		a.nodeEvent(n, &protocol.Node{Prekeys: &protocol.Prekeys{Fresh: fresh, Keys: keys}}).apply(a)
		return len(n.prekeys)
	}
	bad := make(identity.BootID{}, 1<<20|5)
	bad[len(bad)-1]++
	if got := give(false, bad, make(identity.BootID{9}, 1<<20|6), []byte("garbage")); got != 0 {
		t.Errorf("%d bad prekeys are kept", got)
	}
	if got := give(false, make(identity.BootID{}, 1<<20|7)); got != 1 {
		t.Errorf("%d good prekeys are kept", got)
	}
	if got := give(true, make(identity.BootID{}, 1<<20|8), make(identity.BootID{}, 1<<20|9)); got != 2 || n.prekeys[1<<20|7] != nil {
		t.Errorf("%d prekeys after a fresh pool of two", got)
	}
	for spi := uint32(0); len(n.prekeys) < MaxPrekeysEach; spi++ {
		n.prekeys[spi] = mka.SignedPrekey{}
	}
	if got := give(false, make(identity.BootID{}, 1<<20|10)); got != MaxPrekeysEach {
		t.Errorf("I10: %d prekeys of one node", got)
	}
}

// TestFirstWordIsTheAnswer: whatever is said to every client waits for the
// welcome; a client takes anything else for a broken arbiter.
func TestFirstWordIsTheAnswer(t *testing.T) {
	f := newFixture(t)
	a := f.still()
	c := &clientStream{Stream: toClient(t, MaxOutbox)}
	a.clients[c.request] = c
	a.sayAlive()
	if c.Waiting() != 0 {
		t.Fatalf("said before the welcome: %+v", c.Take())
	}
	c.session[0] = 1
	a.sayAlive()
	if m := c.Take(); m == nil || m.Alive == nil {
		t.Errorf("said after it: %+v", m)
	}
	c.Beats()
	if a.sayAlive(); c.Waiting() != 0 {
		t.Errorf("said to one that hears beats: %+v", c.Take())
	}
}

// TestSameRequestTakesTheConnectionOver, if it is the same client's: no other
// gets near it.
func TestSameRequestTakesTheConnectionOver(t *testing.T) {
	f := newFixture(t)
	a := f.still()
	connect := func(key byte) *clientStream {
		c := &clientStream{introduction: &introduction{}, request: registry.RequestID{1}, Stream: toClient(t, 1)}
		c.key[0] = key
		clientOpened{c, &protocol.Auth{Method: protocol.MethodResume, Session: registry.SessionID{9}}}.apply(a)
		return c
	}
	first, again := connect(1), connect(1)
	if a.clients[first.request] != again {
		t.Fatal("the older connection stays")
	}
	eventually(t, "the older connection is closed", func() bool { return ended(first.Stream) })
	clientClosed{first}.apply(a)
	stranger := connect(2)
	if m := stranger.Take(); a.clients[first.request] != again || m.Refused == nil {
		t.Errorf("a stranger with the same request: %+v", m)
	}
}

// farewell is a connection whose end waits until somebody takes the goodbye.
type farewell struct {
	net.Conn
	taken chan struct{}
}

func (f farewell) Close() error { <-f.taken; return nil }

// TestNoGoodbyeHoldsTheLoopUp: who takes none, be it the client or the gateway that gives it
// no credit, waits alone.
func TestNoGoodbyeHoldsTheLoopUp(t *testing.T) {
	f := newFixture(t)
	a := f.still()
	taken := make(chan struct{})
	connect := func() *clientStream {
		line := farewell{rawConn(t), taken}
		c := &clientStream{introduction: &introduction{}, request: registry.RequestID{1}, Stream: loop.New(line, protocol.NewAsked[protocol.Client], loop.Clients(), 1)}
		clientOpened{c, &protocol.Auth{Method: protocol.MethodResume, Session: registry.SessionID{9}}}.apply(a)
		return c
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		connect()
		a.do([]session.Action{session.CloseClient{Request: connect().request}})
	}()
	select {
	case <-done:
	case <-time.After(hangLimit):
		t.Error("the loop waits for a client")
	}
	close(taken)
	<-done
}

// TestNothingIsDoneForOneThatHungUp before its turn came.
func TestNothingIsDoneForOneThatHungUp(t *testing.T) {
	f := newFixture(t)
	a := f.still()
	for _, gone := range []bool{true, false} {
		c := &clientStream{introduction: &introduction{}, request: registry.RequestID{1}, Stream: toClient(t, 1)}
		if gone {
			c.Close()
		}
		clientOpened{c, &protocol.Auth{Method: protocol.MethodResume, Session: registry.SessionID{9}}}.apply(a)
		if answered := c.Waiting() > 0; answered == gone || (a.clients[c.request] == c) == gone {
			t.Errorf("gone: %v, answered: %v", gone, answered)
		}
	}
}

// watchedConn leads nowhere and notes for how long somebody may speak.
type watchedConn struct {
	net.Conn
	readUntil time.Time
}

func (w *watchedConn) SetReadDeadline(at time.Time) error { w.readUntil = at; return nil }
func (w *watchedConn) SetWriteDeadline(time.Time) error   { return nil }
func (w *watchedConn) Write(b []byte) (int, error)        { return len(b), nil }

// TestLimitsOfATerm holds I10 where no other test does.
func TestLimitsOfATerm(t *testing.T) {
	f := newFixture(t)
	a := f.still()
	n := stub(t, identity.NodeID{1})
	for range MaxOutbox {
		n.Say(&protocol.Node{})
	}
	n.Say(&protocol.Node{})
	if !ended(n.Stream) {
		t.Error("a node that does not read keeps its stream")
	}
	filler := &clientStream{introduction: &introduction{}}
	for i := uint32(0); len(a.clients) < MaxClients; i++ {
		a.clients[registry.RequestID{byte(i), byte(i >> 8), byte(i >> 16)}] = filler
	}
	line := &watchedConn{}
	c := &clientStream{introduction: &introduction{}, request: registry.RequestID{15: 1}, Stream: loop.New(line, protocol.NewAsked[protocol.Client], loop.Clients(), 1)}
	clientOpened{c, &protocol.Auth{Method: protocol.MethodPassword}}.apply(a)
	if m := c.Take(); m.Refused == nil || m.Refused.Code != protocol.RefusedRetry || len(a.clients) != MaxClients {
		t.Errorf("one client beyond the limit: %+v", m)
	}
	if line.readUntil.IsZero() {
		t.Error("one client beyond the limit may stay for ever")
	}
	for range MaxProposals + 1 {
		a.submit(proposal{})
	}
	if len(a.proposals) != MaxProposals {
		t.Errorf("%d proposals wait", len(a.proposals))
	}
	for range MaxEvents {
		a.events <- asked{}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if a.must(ctx, asked{}) {
		t.Error("one event beyond the limit was queued")
	}
}

// TestAskAfterTheEnd: nothing is said to be done that was not, and nothing is done
// for somebody who has been told so.
func TestAskAfterTheEnd(t *testing.T) {
	a := newFixture(t).still()
	ran := false
	ctx, cancel := context.WithCancel(context.Background())
	answer := make(chan error)
	go func() { answer <- a.ask(ctx, func() { ran = true }) }()
	late := <-a.events
	cancel()
	if err := <-answer; !errors.Is(err, context.Canceled) {
		t.Errorf("nobody waits any more: %v", err)
	}
	if late.apply(a); ran {
		t.Error("done all the same")
	}
	close(a.over)
	for range 50 { // the queue has room and the term is over: either may be seen first
		if err := a.ask(context.Background(), func() {}); !errors.Is(err, ErrOver) {
			t.Fatalf("after the term: %v", err)
		}
	}
}

// TestWeightsReachTheirClient: once, and again when they changed; only what is
// up, and only the client's own.
func TestWeightsReachTheirClient(t *testing.T) {
	f := newFixture(t)
	a := f.still()
	n := f.member(a, "n2", dataRoles)
	s := f.session(a, 1, n.node)
	s.Slices = append(s.Slices, registry.Slice{Number: 1, Epoch: 3, Agent: n.node, State: registry.SliceGranted, Weight: 9})
	c := &clientStream{session: s.ID, Stream: toClient(t, 8)}
	a.serve(c, s.ID)
	a.clients[registry.RequestID{2}] = &clientStream{Stream: toClient(t, 8)}
	told := func() (all [][]registry.SliceWeight) {
		a.pushViews()
		for m := c.Take(); m != nil; m = c.Take() {
			if m.Weights != nil {
				all = append(all, m.Weights.Slices)
			}
		}
		return all
	}
	if got := told(); len(got) != 1 || !slices.Equal(got[0], []registry.SliceWeight{{Number: 0, Epoch: 1, Weight: 1}}) {
		t.Fatalf("first %+v", got)
	}
	if got := told(); len(got) != 0 {
		t.Errorf("told again: %+v", got)
	}
	s.Slices[0].Weight = 4
	if got := told(); len(got) != 1 || got[0][0].Weight != 4 {
		t.Errorf("after a change: %+v", got)
	}
}
