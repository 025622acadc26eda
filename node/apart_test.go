package node

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/crypto/pki"
	"github.com/meshcrypt/meshcrypt/node/port"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

func silentRows(n int) (rows []protocol.NodeRow) {
	for i := range n {
		rows = append(rows, protocol.NodeRow{ID: identity.NodeID{byte(i >> 8), byte(i), 1}, Index: identity.Index(i + 1)})
	}
	return rows
}

// TestSilentMembersAreAskedInTurn: each of a thousand has its turn before another has two.
func TestSilentMembersAreAskedInTurn(t *testing.T) {
	const members, rounds = 1000, 2
	var a apart
	rows, asked := silentRows(members), make(map[identity.NodeID]int)
	for now := time.Hour; now < time.Hour+rounds*members*ClockEvery; now += ClockEvery {
		asked[a.next(rows, now).ID]++
	}
	for _, row := range rows {
		if asked[row.ID] != rounds {
			t.Errorf("node %d was asked %d times in %d rounds", row.Index, asked[row.ID], rounds)
		}
	}
}

// TestFewQuestionsAtATime: of many members that take connections and say nothing, as where they
// are hung, an arbiter waits for no more than it begins with while one of them may take, however
// often it is to ask somebody else.
func TestFewQuestionsAtATime(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	w.ok(err)
	defer l.Close()
	var open, most, all atomic.Int32
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			all.Add(1)
			most.Store(max(most.Load(), open.Add(1)))
			go func() {
				_, _ = io.Copy(io.Discard, conn) // until the arbiter gives up
				open.Add(-1)
				conn.Close()
			}()
		}
	}()
	w.propose(registry.Command{CreateToken: &registry.CreateToken{Token: registry.Token{
		ID: "many", Verify: []byte("v"), May: registry.RoleVoter, Uses: 40, Expires: 1000}}})
	for i := range 40 {
		w.propose(registry.Command{JoinNode: &registry.JoinNode{Token: "many", Node: registry.Node{
			Key: identity.PublicKey{byte(i), 1}, Name: fmt.Sprint("hung", i), Outer: netip.MustParseAddrPort(l.Addr().String())}}})
	}
	w.until("some are asked", func() bool {
		select {
		case w.members[0].clocks.doubted <- protocol.NodeRow{}:
		default:
		}
		return all.Load() >= 6
	})
	if limit := int32(ClockWithin/ClockEvery) + 1; most.Load() > limit { // one may begin as another ends
		t.Errorf("%d questions at a time", most.Load())
	}
}

// TestSilentHostIsAskedMoreSeldom, but never less often than each ApartMost, and as at first
// once it answers, or was heard.
func TestSilentHostIsAskedMoreSeldom(t *testing.T) {
	var a apart
	now, rows := time.Hour, silentRows(1)
	gaps := func(n int) (all []time.Duration) {
		for last := now; len(all) < n; now += ClockEvery {
			if row := a.next(rows, now); row.Index != 0 {
				all, last = append(all, now-last), now
			}
		}
		return all
	}
	seldom := fmt.Sprint([]time.Duration{0, time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, ApartMost, ApartMost})
	if got := fmt.Sprint(gaps(7)); got != seldom {
		t.Errorf("asked after %s", got)
	}
	for what, is := range map[string]func(){
		"answers":    func() { a.answered(rows[0].ID, now) },
		"has stream": func() { a.next(nil, now) },
	} {
		is()
		if got := fmt.Sprint(gaps(7)); got != seldom {
			t.Errorf("one that %s is asked after %s", what, got)
		}
	}
	if a.answered(identity.NodeID{9}, now); len(a.waits) != 1 {
		t.Error("one that was not silent is kept")
	}
}

// TestWhoAnswersStarvesNobody: it is asked in turn with those that do not.
func TestWhoAnswersStarvesNobody(t *testing.T) {
	var a apart
	rows, asked := silentRows(3), make(map[identity.NodeID]int)
	for now := time.Hour; now < time.Hour+time.Minute; now += ClockEvery {
		row := a.next(rows, now)
		if asked[row.ID]++; row.ID == rows[0].ID {
			a.answered(row.ID, now)
		}
	}
	if asked[rows[0].ID] < 20 || asked[rows[1].ID] < 5 || asked[rows[2].ID] < 5 {
		t.Errorf("asked %v", asked)
	}
}

// TestWhomAnArbiterAsks: members that may be an arbiter and have no stream to it, and nobody while
// it is none itself.
func TestWhomAnArbiterAsks(t *testing.T) {
	row := func(i int, may registry.Roles, up bool) protocol.NodeRow {
		return protocol.NodeRow{ID: identity.NodeID{byte(i)}, Index: identity.Index(i), May: may, Up: up}
	}
	all := []protocol.NodeRow{
		row(1, registry.RoleVoter, false), row(2, registry.RoleVoter, true), row(3, registry.RoleGateway|registry.RoleAgent, false),
		row(4, registry.RoleVoter|registry.RoleAgent, false),
	}
	none := &Node{members: memberList{rows: all}}
	if asked := none.silent(); len(asked) != 0 {
		t.Errorf("who is no arbiter asks %v", asked)
	}
	if asked := apartFrom(all[0].ID, none.members.all()); len(asked) != 1 || asked[0].ID != all[3].ID {
		t.Errorf("the arbiter asks %v", asked)
	}
}

// TestTimeOfWhoDoesNotVote does not count, though it was asked: it could say any.
func TestTimeOfWhoDoesNotVote(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	arbiter := w.members[0]
	row := arbiter.Node.members.find(w.members[1].trust.Key.ID())
	arbiter.clocks.begin(row.ID)
	arbiter.hearClock(row, &protocol.Clock{Wall: time.Now().Add(time.Hour).UnixMilli()})
	if told := arbiter.clocks.recent(); row.Index == 0 || len(told) != 0 {
		t.Errorf("node %d: %v", row.Index, told)
	}
}

// TestAskingEndsInTime: who takes its time for the handshake, and then says nothing, is not
// waited for any longer.
func TestAskingEndsInTime(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	arbiter, slow := w.members[0], w.members[1]
	row := arbiter.Node.members.find(slow.trust.Key.ID())
	slow.stop()
	l, err := net.Listen("tcp", slow.self.Listen.String())
	w.ok(err)
	defer l.Close()
	shaken := make(chan error, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		<-time.After(DialTimeout * 3 / 4)
		secure := tls.Server(conn, pki.Server(port.ALPNClock, slow.trust.Certificate, func([][]byte) error { return nil }))
		shaken <- secure.Handshake()
		<-t.Context().Done()
	}()
	begin := time.Now()
	_, err = arbiter.askClock(t.Context(), row)
	if took := time.Since(begin); err == nil || took > ClockWithin+ClockEvery/2 {
		t.Errorf("it took %v, %v", took, err)
	}
	w.ok(<-shaken)
}

// TestWhoIsBelievedOfARecovery: one that may be an arbiter, and signed it, whoever passes it on.
func TestWhoIsBelievedOfARecovery(t *testing.T) {
	t.Parallel()
	const incarnation = 99
	w := newWorld(t, 2)
	m := w.members[0]
	said := func(by identity.Key) *protocol.Known {
		k := protocol.SignKnown(by, m.self.Cluster, protocol.Fence{Incarnation: incarnation, Term: 1}, 1, "")
		return &k
	}
	forged := said(w.members[1].trust.Key)
	forged.By = m.trust.Key.Public()
	for name, k := range map[string]*protocol.Known{"nothing": nil, "forged": forged, "by one that is no voter": said(w.members[1].trust.Key)} {
		if m.hearKnown(k); m.clocks.passed().Incarnation != 0 || m.arbiter.Load() == nil {
			t.Errorf("%s: believed", name)
		}
	}
	if m.hearKnown(said(m.trust.Key)); m.clocks.passed().Incarnation != incarnation {
		t.Error("an arbiter is not believed")
	}
	if !m.wasMember(w.members[1].trust.Key.ID()) || m.wasMember(identity.NodeID{9}) {
		t.Error("a key that no log knows is answered, or one that it knows is not")
	}
}
