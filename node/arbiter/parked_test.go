package arbiter

import (
	"net/netip"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/node/protocol"
	"github.com/meshcrypt/meshcrypt/node/session"
)

// lot is a client with a session that is settled, at one agent that calls.
type lot struct {
	*crasher
	id registry.SessionID
}

func newLot(t *testing.T) *lot {
	t.Helper()
	l := &lot{crasher: newCrasher(t)}
	l.peer.hello.Calls = true
	if no := l.start(); no != nil {
		t.Fatalf("%+v", no)
	}
	l.a.pushViews()
	l.a.pushGateways()
	for l.peer.Waiting() > 0 {
		if m := l.peer.Take(); m.Grant != nil {
			l.accept()
		}
	}
	l.id = l.c.session
	l.settle()
	if l.id == (registry.SessionID{}) {
		t.Fatal("not welcomed")
	}
	return l
}

// accept has the agent take all slices there are, and see them in use.
func (l *lot) accept() {
	l.Helper()
	for _, live := range l.live() {
		for _, sl := range live.Slices {
			ref := protocol.SliceRef{Session: live.ID, Number: sl.Number, Epoch: sl.Epoch}
			nodeSaid{l.peer, &protocol.Node{Ack: &protocol.SliceAck{Slice: ref, Ok: true}}}.apply(l.a)
			nodeSaid{l.peer, &protocol.Node{Up: &ref}}.apply(l.a)
		}
	}
}

func (l *lot) live() (all []*registry.Session) {
	l.store.View(func(r *registry.State) { all = r.ActiveSessions() })
	return all
}

// settle lets the arbiter do what is to be done.
func (l *lot) settle() {
	l.Helper()
	for range 40 {
		l.now.Add(int64(TickEvery))
		l.a.tick()
		l.decide(l.a)
		l.a.pushViews()
		for l.c.Waiting() > 0 {
			l.c.Take() // one that knows no beats is told twice a second that the arbiter lives
		}
	}
}

// asks is the client's question whether it may park, and the mark of the answer.
func (l *lot) asks() (mark uint64) {
	l.Helper()
	clientSaid{c: l.c, m: &protocol.Client{Park: &protocol.Park{}}}.apply(l.a)
	for l.c.Waiting() > 0 {
		if m := l.c.Take(); m.Parked != nil {
			mark = m.Parked.Mark
		}
	}
	return mark
}

// reports is the agent's word that the client is parked.
func (l *lot) reports(mark uint64) {
	l.Helper()
	nodeSaid{l.peer, &protocol.Node{Usage: &protocol.Usage{Changes: true, Slices: []protocol.SliceUsage{
		{Slice: protocol.SliceRef{Session: l.id, Epoch: 1}, Quiet: 1, Parked: mark},
	}}}}.apply(l.a)
}

// calls counts how often the agent was told to call the client, until now.
func (l *lot) calls() (n int) {
	l.settle()
	for l.peer.Waiting() > 0 {
		if m := l.peer.Take(); m.Call != nil && m.Call.Sessions[0] == l.id {
			n++
		}
	}
	return n
}

// TestClientParks: it is told its mark, and its session is parked once it has closed the
// connection; it stays so for as long as its agent reports it.
func TestClientParks(t *testing.T) {
	l := newLot(t)
	mark := l.asks()
	if mark == 0 {
		t.Fatal("it may not")
	}
	if _, is := l.a.parking.sessions[l.id]; is {
		t.Error("parked, and still connected")
	}
	clientClosed{l.c}.apply(l.a)
	if l.a.parking.sessions[l.id].mark != mark {
		t.Error("not parked")
	}
	for range 60 { // headless is a day where there is one voter
		l.now.Add(int64(time.Hour))
		l.reports(mark)
		if l.calls() != 0 {
			t.Fatal("called for nothing")
		}
	}
	if len(l.live()) != 1 {
		t.Error("its session has ended")
	}
}

// TestWhoIsNotLetGo: whose agent cannot call it, or who was not told of all gateways yet.
// One that goes on speaking has not left.
func TestWhoIsNotLetGo(t *testing.T) {
	l := newLot(t)
	l.peer.hello.Calls = false
	if l.asks() != 0 {
		t.Error("its agent does not call")
	}
	l.peer.hello.Calls = true
	l.a.told = "other"
	if l.asks() != 0 {
		t.Error("it was not told of the gateways")
	}
	l.a.pushGateways()
	if l.asks() == 0 {
		t.Fatal("nothing is in the way")
	}
	clientSaid{c: l.c, m: &protocol.Client{Alive: &protocol.Alive{}}}.apply(l.a)
	clientClosed{l.c}.apply(l.a)
	if len(l.a.parking.sessions) != 0 {
		t.Error("it went on, and counts as parked when its connection breaks")
	}
}

// newsForParked is a lot whose parked client was called for a change of policy, and the mark
// that it says.
func newsForParked(t *testing.T) (l *lot, mark uint64) {
	t.Helper()
	l = newLot(t)
	mark = l.asks()
	clientClosed{l.c}.apply(l.a)
	l.calls()
	l.commit(registry.Command{PutPolicy: &registry.PutPolicy{Policy: registry.Policy{DNS: []netip.Addr{netip.MustParseAddr("10.0.0.53")}}}})
	if n := l.calls(); n != 1 {
		t.Fatalf("called %d times for a change of policy", n)
	}
	return l, mark
}

// TestParkedClientIsCalledForNews: for what it is not told, at once, and again while its
// agent reports it as parked. It is not called when it came, nor for what it knows.
func TestParkedClientIsCalledForNews(t *testing.T) {
	l, mark := newsForParked(t)
	l.reports(mark)
	if n := l.calls(); n != 0 {
		t.Errorf("called %d times more, at once", n)
	}
	for range 3 {
		l.now.Add(int64(CallAgain))
		l.reports(mark)
		if n := l.calls(); n != 1 {
			t.Errorf("called %d times more for a report of %v later", n, CallAgain)
		}
	}
	l.a.clients[l.c.request] = l.c
	l.a.serve(l.c, l.id)
	l.now.Add(int64(CallAgain))
	l.reports(mark) // was on its way
	if n := l.calls(); n != 0 || len(l.a.parking.sessions) != 0 {
		t.Errorf("called %d times though it is there", n)
	}
	if s := l.a.clone(); markOf(s, active(s, l.id)) == mark {
		t.Error("what it is told now has the old mark")
	}
}

// TestCallOutlivesAStream: an agent whose stream breaks forgets whom it was to call, and says
// in its first word on the next one who is parked. The next word may be minutes away.
func TestCallOutlivesAStream(t *testing.T) {
	l, mark := newsForParked(t)
	l.peer = l.connect(l.a, l.peer.node)
	l.peer.hello.Calls = true
	nodeSaid{l.peer, &protocol.Node{Usage: &protocol.Usage{Slices: []protocol.SliceUsage{
		{Slice: protocol.SliceRef{Session: l.id, Epoch: 1}, Quiet: 1, Parked: mark},
	}}}}.apply(l.a)
	if n := l.calls(); n != 1 {
		t.Errorf("called %d times by the next stream", n)
	}
}

// TestParkedClientsRestWhenGatewaysChange: their agents tell those whom it concerns. That
// every one of them comes took 100 s of CPU for ten thousand.
func TestParkedClientsRestWhenGatewaysChange(t *testing.T) {
	l := newLot(t)
	l.asks()
	clientClosed{l.c}.apply(l.a)
	l.calls()
	l.commit(registry.Command{SetRoles: &registry.SetRoles{ID: l.asker.node, Is: dataRoles}})
	l.commit(registry.Command{SetRoles: &registry.SetRoles{ID: l.peer.node, Is: registry.RoleAgent}})
	l.a.pushGateways()
	if n := l.calls(); n != 0 {
		t.Errorf("called %d times", n)
	}
}

// TestNewsBetweenTwoWords: what changes after the client was let go and before it closed the
// connection is what it is called for.
func TestNewsBetweenTwoWords(t *testing.T) {
	l := newLot(t)
	l.asks()
	l.commit(registry.Command{PutPolicy: &registry.PutPolicy{Policy: registry.Policy{Search: []string{"example.org"}}}})
	l.calls()
	clientClosed{l.c}.apply(l.a)
	if n := l.calls(); n != 1 {
		t.Errorf("called %d times", n)
	}
}

// TestAnotherArbiterFindsTheParked: by what agents report, and calls whom the one before
// it should have. The mark is the same in each term.
func TestAnotherArbiterFindsTheParked(t *testing.T) {
	l := newLot(t)
	mark := l.asks()
	next := func() {
		l.a = l.stillOn(l.trust)
		l.peer = l.connect(l.a, l.peer.node)
		l.peer.hello.Calls = true
		l.settle()
		for l.peer.Take() != nil {
		}
	}
	next()
	l.reports(mark)
	if n := l.calls(); n != 0 || l.a.parking.sessions[l.id].mark != mark {
		t.Errorf("called %d times, known as %x", n, l.a.parking.sessions[l.id].mark)
	}
	next()
	l.reports(mark + 1)
	if n := l.calls(); n != 1 {
		t.Errorf("called %d times under a mark of something else", n)
	}
	l.asker = l.connect(l.a, l.asker.node)
	l.a.parking.sessions = map[registry.SessionID]parked{}
	nodeSaid{l.asker, &protocol.Node{Usage: &protocol.Usage{Slices: []protocol.SliceUsage{
		{Slice: protocol.SliceRef{Session: l.id, Epoch: 1}, Parked: mark + 1},
	}}}}.apply(l.a)
	if len(l.a.parking.sessions) != 0 {
		t.Error("a node that has no part in a session says that it is parked")
	}
}

// TestAgentThatWavers: however often it says that a client is parked, and is not, that waits
// for one call (I10).
func TestAgentThatWavers(t *testing.T) {
	l := newLot(t)
	l.asks()
	clientClosed{l.c}.apply(l.a)
	for n := range uint64(50) {
		l.reports(n + 1)
		l.reports(0)
	}
	if n := len(l.a.parking.waiting); n != 1 {
		t.Errorf("%d calls wait", n)
	}
	if l.settle(); len(l.a.parking.waiting)+len(l.a.parking.inLine) != 0 {
		t.Error("a call that is needed no more waits")
	}
}

// TestCallIsNotForgotten: an agent that did not hear yet that a client is parked does not undo
// that it was called. The others forget the call when their stream ends, and what it was called
// for, a slice, is in no mark.
func TestCallIsNotForgotten(t *testing.T) {
	l := newLot(t)
	mark := l.asks()
	clientClosed{l.c}.apply(l.a)
	l.reports(mark)
	if l.reports(0); len(l.a.parking.sessions) != 0 {
		t.Error("one that nobody called is parked, against its agent's word")
	}
	l.reports(mark)
	if l.a.callFor(l.id); l.calls() != 1 {
		t.Fatal("not called for a slice")
	}
	l.reports(0)
	l.now.Add(int64(CallAgain))
	l.reports(mark)
	if n := l.calls(); n != 1 {
		t.Errorf("called %d times more", n)
	}
	l.a.clients[l.c.request] = l.c
	l.a.serve(l.c, l.id)
	if l.reports(0); len(l.a.parking.sessions) != 0 {
		t.Error("it is there, and parked")
	}
}

// TestKickedWhileParked: the call goes ahead of the revocation.
func TestKickedWhileParked(t *testing.T) {
	l := newLot(t)
	l.asks()
	clientClosed{l.c}.apply(l.a)
	l.calls()
	l.a.step(session.End{Session: l.id, Reason: "kicked"})
	l.decide(l.a)
	called := false
	for l.peer.Waiting() > 0 {
		m := l.peer.Take()
		called = called || m.Call != nil
		if m.Revoke != nil && !called {
			t.Fatal("revoked before it is called")
		}
	}
	if !called {
		t.Error("not called")
	}
	if l.settle(); len(l.a.parking.sessions) != 0 {
		t.Error("a session that is over is parked")
	}
}

// TestCallsArePaced: what concerns all, or all of an agent, does not bring all back at
// once (I10).
func TestCallsArePaced(t *testing.T) {
	l := newLot(t)
	for n := range byte(200) {
		s := l.session(l.a, n+1, l.peer.node)
		l.a.parking.sessions[s.ID] = parked{mark: 1}
		if n%2 == 0 {
			l.a.callFor(s.ID)
		} else {
			l.a.line(s.ID)
		}
		l.a.line(s.ID)
	}
	for l.peer.Waiting() > 0 {
		if l.peer.Take().Call != nil {
			t.Fatal("called out of turn")
		}
	}
	now := l.a.config.Now()
	l.a.callWaiting(now)
	if n := 200 - len(l.a.parking.waiting); n != CallsFree {
		t.Errorf("%d are called at once", n)
	}
	l.a.callWaiting(now + time.Second)
	if n := 200 - len(l.a.parking.waiting); n != CallsFree+CallsRate {
		t.Errorf("%d are called in a second", n)
	}
}

// parkNext is a client that logs in and parks.
func (m *loginMesh) parkNext() {
	m.Helper()
	conn := m.stay(true)
	c := protocol.NewConn[protocol.Client](conn)
	let := make(chan struct{})
	go func() {
		defer close(let)
		for {
			if said, err := c.Next(); err != nil || said != nil && said.Parked != nil {
				return
			}
		}
	}()
	again := time.NewTicker(2 * TickEvery)
	defer again.Stop()
	for {
		select {
		case <-let:
			conn.Close()
			return
		case <-again.C: // until its slices are settled
			m.ok(c.Write(&protocol.Client{Park: &protocol.Park{}}))
		}
	}
}

// TestBytesOfAParkedClient is what one takes of its arbiter's heap, its session of three
// slices included, and that is nothing that a session without a client would not take.
func TestBytesOfAParkedClient(t *testing.T) {
	const clients, most = 100, 5_600
	m := newLoginMesh(t, 0)
	m.store.others = nil // one replica, as each node has
	m.start()
	m.stock(1)
	m.parkNext()
	was := living()
	m.stock(clients)
	for range clients {
		m.parkNext()
	}
	m.until(func(a *Arbiter) bool { return len(a.clients) == 0 && len(a.parking.sessions) == clients+1 })
	now := living()
	<-time.After(TickEvery) // something may have been under way
	each := (min(now, living()) - was) / clients
	t.Logf("%d bytes for each", each)
	if each > most {
		t.Errorf("%d bytes for each, at most %d", each, most)
	}
}
