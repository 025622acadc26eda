//go:build !race

package port

import (
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"runtime"
	"testing"

	"github.com/meshcrypt/meshcrypt/node/splice"
)

// held is what this process keeps, in bytes: objects and stacks.
func held() int64 {
	for range 2 { // what the first one finishes is free after the second
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// TestRestingRelayIsSmall: of a client that says nothing its gateway keeps neither the
// hello, nor a buffer, nor the stack that a handshake needs. What is measured has both
// ends of both connections in it, of which crypto/tls keeps some 8 KiB each. It is built without
// the race detector, which needs memory of its own.
func TestRestingRelayIsSmall(t *testing.T) {
	const clients, most = 64, 62 << 10
	ca := newAuthority(t)
	nodes := ca.config(ALPNRelay)
	nodes.ClientAuth = tls.RequireAndVerifyClientCert
	gateway, arbiter := listenTCP(t), listenTCP(t)
	arbiter.Handle(ALPNRelay, nodes, func(conn *tls.Conn, _ netip.AddrPort) {
		defer conn.Close()
		if h, carried, err := AcceptRelay(conn); err == nil {
			arbiter.Serve(carried, h, "a node")
		}
	})
	arbiter.Handle(ALPNClient, ca.config(ALPNClient), func(conn *tls.Conn, _ netip.AddrPort) {
		defer conn.Close()
		Prove(conn)
		io.CopyBuffer(conn, conn, make([]byte, 64))
	})
	gateway.Relay([]string{ALPNClient}, func(conn net.Conn, remote netip.AddrPort, alpn string) {
		defer conn.Close()
		up, err := DialRelay(t.Context(), arbiter.Addr(), nodes, RelayHeader{Client: remote, ALPN: alpn, Beats: true})
		if err == nil {
			splice.Relay(t.Context(), conn, up)
		}
	})
	connect := func() *tls.Conn {
		conn, err := tls.Dial("tcp", gateway.Addr().String(), ca.config(ALPNClient))
		if err != nil {
			t.Fatal(err)
		}
		wantEcho(t, conn, "said once")
		return conn
	}
	defer connect().Close() // what is made once
	before := held()
	for range clients {
		defer connect().Close()
	}
	each := (held() - before) / clients
	t.Logf("%d bytes for each client", each)
	if each > most {
		t.Errorf("%d bytes for each client that rests, at most %d", each, most)
	}
}
