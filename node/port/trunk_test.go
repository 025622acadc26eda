package port

import (
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"testing"

	"github.com/meshcrypt/meshcrypt/node/slots"
	"github.com/meshcrypt/meshcrypt/node/splice"
	"github.com/meshcrypt/meshcrypt/node/trunk"
)

// TestTrunkEndToEnd: all clients of a gateway cost the arbiter one handshake more than
// they themselves do, and it knows their addresses.
func TestTrunkEndToEnd(t *testing.T) {
	const clients = 5
	ca := newAuthority(t)
	nodes := ca.config(ALPNTrunk)
	nodes.ClientAuth = tls.RequireAndVerifyClientCert
	gateway, arbiter := listenTCP(t), listenTCP(t)
	seen := make(chan netip.AddrPort, clients)
	arbiter.Handle(ALPNTrunk, nodes, func(conn *tls.Conn, _ netip.AddrPort) {
		trunk.New(conn).Run(func(s *trunk.Stream, word []byte) {
			h, err := ParseRelayWord(word)
			if err != nil {
				t.Error(err)
			}
			arbiter.Serve(s, h, "a node")
		})
	})
	arbiter.Handle(ALPNClient, ca.config(ALPNClient), func(conn *tls.Conn, remote netip.AddrPort) {
		seen <- remote
		echo(conn, remote)
	})
	up, err := DialTrunk(t.Context(), arbiter.Addr(), nodes)
	if err != nil {
		t.Fatal(err)
	}
	go up.Run(nil)
	gateway.Relay([]string{ALPNClient}, func(conn net.Conn, remote netip.AddrPort, alpn string) {
		defer conn.Close()
		s, err := OpenRelay(up, RelayHeader{Client: remote, ALPN: alpn})
		if err != nil {
			t.Error(err)
			return
		}
		splice.Relay(t.Context(), conn, s)
	})
	for range clients {
		conn, err := tls.Dial("tcp", gateway.Addr().String(), ca.config(ALPNClient))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		wantEcho(t, conn, "unopened by the gateway")
		if got, want := <-seen, addrPort(conn.LocalAddr()); got != want {
			t.Errorf("arbiter saw %v, want the client's %v", got, want)
		}
	}
	if s := arbiter.Stats(); s.Handled != clients+1 || s.Accepted != clients+1 {
		t.Errorf("%d clients cost the arbiter %+v", clients, s)
	}
	up.Close()
	gateway.Close()
	arbiter.Close()
	wantBalance(t, gateway.Stats())
}

// TestDialTrunkToFollowerFails: it has no route for one.
func TestDialTrunkToFollowerFails(t *testing.T) {
	ca := newAuthority(t)
	follower := listenTCP(t)
	if up, err := DialTrunk(t.Context(), follower.Addr(), ca.config(ALPNTrunk)); err == nil {
		up.Close()
		t.Error("a node without a route for trunks took one")
	}
}

// TestKnownByTheGateway: whom a gateway knows the arbiter takes for known, at the cost of
// that gateway's share; for no node, and only who was passed on.
func TestKnownByTheGateway(t *testing.T) {
	p := newTestPort(t)
	member := netip.MustParseAddr("192.0.2.1")
	p.Know([]netip.Addr{member}, nil)
	for _, from := range []netip.Addr{stranger.Addr(), member} {
		for known, want := range map[bool]slots.Class{true: slots.Known, false: slots.Stranger} {
			h, why := p.enter(&net.TCPConn{}, from, introduction{through: "a node", known: known})
			if why != 0 {
				t.Fatal(why)
			}
			if got := h.ticket.Class(); got != want || h.source().Via != "a node" {
				t.Errorf("%v, known %t: class %v by %q, want %v", from, known, got, h.source().Via, want)
			}
			p.release(h)
		}
	}
}

func TestRelayWord(t *testing.T) {
	a, b := net.Pipe()
	near, far := trunk.New(a), trunk.New(b)
	defer near.Close()
	words := make(chan []byte, 1)
	go near.Run(nil)
	go far.Run(func(_ *trunk.Stream, word []byte) { words <- word })
	for _, known := range []bool{true, false} {
		h := RelayHeader{Client: netip.MustParseAddrPort("192.0.2.1:1"), ALPN: ALPNRenew, Known: known}
		if _, err := OpenRelay(near, h); err != nil {
			t.Fatal(err)
		}
		if got, err := ParseRelayWord(<-words); err != nil || got != h {
			t.Errorf("%+v came as %+v, %v", h, got, err)
		}
	}
	if _, err := OpenRelay(near, RelayHeader{Client: stranger, ALPN: ALPNRaft}); !errors.Is(err, ErrRelayFrame) {
		t.Errorf("raft is relayed: %v", err)
	}
}

func FuzzRelayWord(f *testing.F) {
	frame, err := RelayHeader{Client: stranger, ALPN: ALPNClient}.Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(append([]byte{1}, frame...))
	f.Add(append([]byte{0, relayBeats}, frame[1:]...))
	f.Add([]byte{2})
	f.Fuzz(func(t *testing.T, word []byte) {
		h, err := ParseRelayWord(word)
		if err != nil {
			return
		}
		if again, err := h.Marshal(); err != nil || h.Beats || string(again) != string(word[1:]) {
			t.Errorf("%x is %+v, and that %x, %v", word, h, again, err)
		}
	})
}
