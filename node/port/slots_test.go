package port

import (
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshcrypt/meshcrypt/node/descriptors"
	"github.com/meshcrypt/meshcrypt/node/slots"
)

// stall sends a whole hello and then nothing; what comes back is thrown away.
func stall(p *Port, ca *authority, from netip.AddrPort, alpn string) net.Conn {
	conn := dial(p, from)
	go func() { _ = tls.Client(&mute{Conn: conn}, ca.config(alpn)).Handshake() }()
	return conn
}

// mute lets the first write through, and waits for ever on Read.
type mute struct {
	net.Conn
	said bool
}

func (m *mute) Write(b []byte) (int, error) {
	if m.said {
		return len(b), nil
	}
	m.said = true
	return m.Conn.Write(b)
}

func (m *mute) Read([]byte) (int, error) {
	_, _ = io.Copy(io.Discard, m.Conn) // until the port closes it
	return 0, io.EOF
}

// strangerRoom is MaxStrangerRoom, or what the descriptors of this host leave.
func strangerRoom() int { return rules(1, descriptors.Limit())[slots.Stranger].Room }

// TestSlotsOfOneSource: handshakes that stall hold MaxSourceSlots at most; the
// next one waits, a neighbour does not, and a stalled one is overtaken.
func TestSlotsOfOneSource(t *testing.T) { // I10
	synctest.Test(t, func(t *testing.T) {
		p, ca := newTestPort(t), newAuthority(t)
		p.Handle(ALPNClient, ca.config(ALPNClient), echo)
		for range MaxSourceSlots + 1 {
			stall(p, ca, stranger, ALPNClient)
		}
		synctest.Wait()
		p.mu.Lock()
		waiting := p.slots.Waiting()
		p.mu.Unlock()
		if !waiting {
			t.Fatalf("%d handshakes of one source go on at once", MaxSourceSlots+1)
		}
		begin := time.Now()
		wantEcho(t, tls.Client(dial(p, source(1)), ca.config(ALPNClient)), "a neighbour")
		if took := time.Since(begin); took > 2*slotEvery {
			t.Errorf("a neighbour waited %v", took)
		}
		late := tls.Client(dial(p, stranger), ca.config(ALPNClient))
		if err := late.Handshake(); err != nil {
			t.Fatal(err)
		}
		wantEcho(t, late, "the same source")
		if took := time.Since(begin); took > slots.Grace+2*slotEvery {
			t.Errorf("the same source waited %v", took)
		}
		synctest.Wait()
		if n := p.Stats().Dropped[ReasonOvertaken]; n == 0 {
			t.Error("nobody was overtaken")
		}
	})
}

// TestSilenceHoldsNoSlot: connections that say nothing leave the slots alone, and
// end.
func TestSilenceHoldsNoSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, ca := newTestPort(t), newAuthority(t)
		p.Handle(ALPNClient, ca.config(ALPNClient), echo)
		for i := range strangerRoom() {
			dial(p, source(i/100))
		}
		begin := time.Now()
		wantEcho(t, tls.Client(dial(p, stranger), ca.config(ALPNClient)), "beside silence")
		if took := time.Since(begin); took > 0 {
			t.Errorf("waited %v", took)
		}
		synctest.Wait()
		if n := p.Stats().Dropped[ReasonCrowded]; n != 1 {
			t.Errorf("%d had to go, want 1: the room was full but for that", n)
		}
	})
}

// TestNodesHaveSlotsOfTheirOwn: whatever strangers, and strangers that nodes pass
// on, do to their slots, a node's handshake is done at once.
func TestNodesHaveSlotsOfTheirOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, ca := newTestPort(t), newAuthority(t)
		node := netip.MustParseAddrPort("192.0.2.2:1")
		p.Know([]netip.Addr{node.Addr()}, nil)
		nodes := ca.config(ALPNRaft)
		nodes.ClientAuth = tls.RequireAndVerifyClientCert
		p.Handle(ALPNRaft, nodes, echo)
		p.Handle(ALPNClient, ca.config(ALPNClient), echo)
		p.Handle(ALPNRelay, ca.config(ALPNRelay), echo)
		for i := range 3 * StrangerRate {
			stall(p, ca, source(i/MaxSourceSlots), ALPNClient)
		}
		for range MaxRelaySlots {
			stall(p, ca, node, ALPNRelay)
		}
		synctest.Wait()
		begin := time.Now()
		wantEcho(t, tls.Client(dial(p, node), nodes), "an election")
		if took := time.Since(begin); took > 0 {
			t.Errorf("a node waited %v", took)
		}
	})
}

// TestKnownAddressesGoFirst: who logged in from an address is known there, and
// waits for no stranger and not for their budget.
func TestKnownAddressesGoFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, ca := newTestPort(t), newAuthority(t)
		p.Handle(ALPNClient, ca.config(ALPNClient), func(conn *tls.Conn, remote netip.AddrPort) {
			Prove(conn)
			echo(conn, remote)
		})
		p.Handle(ALPNJoin, ca.config(ALPNJoin), echo)
		wantEcho(t, tls.Client(dial(p, stranger), ca.config(ALPNClient)), "the first login")
		if !p.Knows(stranger.Addr()) || p.Knows(source(1).Addr()) {
			t.Fatal("known is not who logged in")
		}
		for i := range 3 * StrangerRate {
			stall(p, ca, source(i), ALPNJoin)
		}
		synctest.Wait()
		begin := time.Now()
		wantEcho(t, tls.Client(dial(p, stranger), ca.config(ALPNClient)), "again")
		if took := time.Since(begin); took > 0 {
			t.Errorf("a known address waited %v", took)
		}
	})
}

// TestBudgets: what handshakes cost is bounded for all but nodes, so an address that
// somebody else shares, or forges, is no way around it (I10).
func TestBudgets(t *testing.T) {
	all := rules(2, descriptors.Limit())
	for class, r := range all {
		if is := r.Rate > 0 && r.Burst > 0; is == (slots.Class(class) == slots.Member) {
			t.Errorf("class %d: %+v", class, r)
		}
	}
	for _, known := range []slots.Class{slots.Known, slots.RelayKnown} {
		if r := all[known]; r.Rate != 2*KnownRate || r.Rate <= all[slots.Stranger].Rate {
			t.Errorf("clients known: %+v", r)
		}
	}
}

// TestUnprovenMustGo: connections whose handshake is done and that say nothing
// more do not fill the port.
func TestUnprovenMustGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, ca := newTestPort(t), newAuthority(t)
		p.Handle(ALPNClient, ca.config(ALPNClient), echo)
		first := tls.Client(dial(p, stranger), ca.config(ALPNClient))
		wantEcho(t, first, "no proof")
		for i := range strangerRoom() {
			dial(p, source(i))
		}
		synctest.Wait()
		if s := p.Stats(); s.Unproven+s.Dropped[ReasonCrowded] != 1 {
			t.Errorf("%+v: want one that had to go", s)
		}
	})
}

// TestSiegeIsTold: what was refused for want of slots is told, and no more when it
// is over.
func TestSiegeIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, ca := newTestPort(t), newAuthority(t)
		p.Handle(ALPNClient, ca.config(ALPNClient), echo)
		begin := time.Now()
		for i := range 200 {
			stall(p, ca, source(i%2), ALPNClient)
		}
		<-time.After(QueueTimeout + HandshakeTimeout)
		r, since, under := p.Siege()
		if !under || r.Sources != 2 || r.Refused < 100 || since.Before(begin) || since.After(begin.Add(time.Second)) {
			t.Errorf("told %+v since %v, %t", r, since.Sub(begin), under)
		}
		<-time.After(2 * slots.CalmAfter)
		if _, _, under := p.Siege(); under {
			t.Error("told when it was over")
		}
	})
}

// TestRelayTellsWhomItKnows: the word travels ahead of the frame.
func TestRelayTellsWhomItKnows(t *testing.T) {
	p, ca := listenTCP(t), newAuthority(t)
	p.Know([]netip.Addr{p.Addr().Addr()}, nil)
	names := make(chan string, 1)
	config := ca.config(ALPNRelay)
	p.Handle(ALPNRelay, config, func(conn *tls.Conn, _ netip.AddrPort) {
		names <- conn.ConnectionState().ServerName
		conn.Close()
	})
	for _, known := range []bool{true, false} {
		client := ca.config(ALPNRelay)
		client.InsecureSkipVerify, client.ServerName = true, ""
		conn, err := DialRelay(t.Context(), p.Addr(), client, RelayHeader{Client: stranger, ALPN: ALPNClient, Known: known})
		if err != nil {
			t.Fatal(err)
		}
		if got := <-names; (got == relayKnown) != known {
			t.Errorf("known %t came as %q", known, got)
		}
		conn.Close()
	}
}

// TestNamedAddressIsNoMembers: a node that names another's address for a connection has
// no slots of nodes by it, and makes nobody known but for those that it passes on.
func TestNamedAddressIsNoMembers(t *testing.T) {
	p := newTestPort(t)
	member, client := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	p.Know([]netip.Addr{member}, []netip.Addr{client})
	for at, want := range map[netip.Addr]slots.Class{member: slots.Stranger, client: slots.Known} {
		if got := p.classOf(at, "a node"); got != want {
			t.Errorf("%v, as a node names it: %v, want %v", at, got, want)
		}
	}
	other := netip.MustParseAddr("192.0.2.3")
	h, why := p.enter(&net.TCPConn{}, other, introduction{through: "a node"})
	if why != 0 {
		t.Fatal(why)
	}
	p.prove(h, slots.Member)
	if named, direct := p.classOf(other, "a node"), p.classOf(other, ""); named != slots.Known || direct != slots.Stranger {
		t.Errorf("after a login: %v as nodes name it, %v by itself", named, direct)
	}
	p.release(h)
}

// TestRelaySlotsAreOfNodes: who is no node and asks for a relay has a stranger's slot,
// whomever he says that he knows: those of relays stay for what nodes pass on.
func TestRelaySlotsAreOfNodes(t *testing.T) {
	p := newTestPort(t)
	member := netip.MustParseAddr("192.0.2.1")
	p.Know([]netip.Addr{member}, nil)
	for _, c := range []struct {
		from netip.Addr
		name string
		want slots.Class
	}{
		{member, "", slots.Relay}, {member, relayKnown, slots.RelayKnown},
		{stranger.Addr(), "", slots.Stranger}, {stranger.Addr(), relayKnown, slots.Stranger},
	} {
		h, why := p.enter(&net.TCPConn{}, c.from, introduction{})
		if why == 0 {
			why = p.queue(h, hello{alpn: ALPNRelay, name: c.name})
		}
		if why != 0 {
			t.Fatal(why)
		}
		if got := h.ticket.Class(); got != c.want {
			t.Errorf("%v, name %q: class %v, want %v", c.from, c.name, got, c.want)
		}
		p.release(h)
	}
}
