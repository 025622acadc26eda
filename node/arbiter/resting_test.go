package arbiter

import (
	"net"
	"net/netip"
	"runtime"
	"testing"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/node/port"
	"github.com/meshcrypt/meshcrypt/node/trunk"
)

// throughGateway has clients come by a gateway's trunk.
func (m *loginMesh) throughGateway() {
	near, far := net.Pipe()
	up, down := trunk.New(near), trunk.New(far)
	m.Cleanup(up.Close)
	go up.Run(nil)
	go down.Run(func(s *trunk.Stream, word []byte) {
		h, err := port.ParseRelayWord(word)
		if err != nil {
			m.Error(err)
		}
		m.port.Serve(relayedConn{s, identity.NodeID{9}}, h, "a gateway")
	})
	m.line = func() net.Conn {
		s, err := port.OpenRelay(up, port.RelayHeader{Client: netip.MustParseAddrPort("192.0.2.1:1"), ALPN: port.ALPNClient})
		m.ok(err)
		return s
	}
}

// TestRestingClientsHaveNoGoroutine at their arbiter, where they came by a trunk.
func TestRestingClientsHaveNoGoroutine(t *testing.T) {
	const clients = 30
	m := newLoginMesh(t, 0)
	m.start()
	m.throughGateway()
	m.stock(clients + 1)
	m.stay(true).Close()
	m.until(func(a *Arbiter) bool { return len(a.clients) == 0 })
	before := runtime.NumGoroutine()
	there := newResting(t)
	for range clients {
		there.add(m.stay(true))
	}
	m.until(func(a *Arbiter) bool {
		if len(a.clients) != clients {
			t.Fatalf("%d of %d clients are there", len(a.clients), clients)
		}
		return runtime.NumGoroutine() <= before+clients/5 // some are heard just now
	})
	close(there.gone)
	<-there.done
}
