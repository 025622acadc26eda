package port

import (
	"crypto/tls"
	"net"
	"net/netip"
	"slices"
	"sync"
)

// The protocols behind the port. Those of nodes and operators end at the
// node; those of joiners and clients are relayed unopened to the arbiter.
const (
	ALPNRaft     = "mc-raft/1"
	ALPNStream   = "mc-stream/1"
	ALPNRelay    = "mc-relay/1"
	ALPNTrunk    = "mc-relay/2"
	ALPNOperator = "mc-operator/1"
	ALPNFlows    = "mc-flows/1"
	// ALPNClock asks a node what time it has, and how far the mesh's history went. Certificates
	// count there whatever their dates.
	ALPNClock = "mc-clock/1"
	// ALPNDatagram carries the datagrams of clients whose UDP is blocked.
	ALPNDatagram = "mc-datagram/1"

	ALPNJoin   = "mc-join/1"
	ALPNRenew  = "mc-renew/1"
	ALPNClient = "meshcrypt/1"
)

// Relayed reports whether the protocol is one of those that go to the arbiter.
func Relayed(alpn string) bool {
	return alpn == ALPNJoin || alpn == ALPNRenew || alpn == ALPNClient
}

// forClients reports whether the protocol is one of those by which one client, or who is no
// member yet, comes in.
func forClients(alpn string) bool {
	return Relayed(alpn) || alpn == ALPNRelay || alpn == ALPNDatagram
}

// routes maps an ALPN to what takes its connections.
type routes struct {
	mu     sync.Mutex // protects table
	table  map[string]route
	serial uint64
}

// route is both ways a connection can go; a handler goes first, so that a node
// that becomes the arbiter ends at itself what it relayed before.
type route struct {
	handler *handler
	relay   func(conn net.Conn, remote netip.AddrPort, alpn string)
	relayed uint64 // serial of the registration of relay
}

type handler struct {
	alpn   string
	config *tls.Config
	serve  func(*tls.Conn, netip.AddrPort) Reason
}

// Handle ends connections for alpn here: each finishes its handshake under
// config, which must be for TLS 1.3 and this ALPN alone, and is then h's to
// serve and close. h runs on a goroutine of its own connection. A handler
// replaces an earlier one. The returned function withdraws this registration
// and no later one; handshakes under way may still reach h.
func (p *Port) Handle(alpn string, config *tls.Config, h func(*tls.Conn, netip.AddrPort)) (withdraw func()) {
	return p.routes.handle(alpn, config, func(conn *tls.Conn, remote netip.AddrPort) Reason {
		p.counts.handled.Add(1)
		h(conn, remote)
		return 0
	})
}

// Relay hands connections for these protocols on as they came, their hello
// unread, unless a handler for the protocol is registered too. f owns the
// connection. The returned function withdraws this registration.
func (p *Port) Relay(alpns []string, f func(conn net.Conn, remote netip.AddrPort, alpn string)) (withdraw func()) {
	return p.routes.addRelay(alpns, f)
}

func (r *routes) handle(alpn string, config *tls.Config, serve func(*tls.Conn, netip.AddrPort) Reason) func() {
	if config.MinVersion != tls.VersionTLS13 || !slices.Equal(config.NextProtos, []string{alpn}) {
		panic("port: the configuration of " + alpn + " must be for TLS 1.3 and that protocol alone")
	}
	h := &handler{alpn: alpn, config: config, serve: serve}
	r.change(alpn, func(e *route) { e.handler = h })
	return func() {
		r.change(alpn, func(e *route) {
			if e.handler == h {
				e.handler = nil
			}
		})
	}
}

func (r *routes) addRelay(alpns []string, f func(net.Conn, netip.AddrPort, string)) func() {
	for _, alpn := range alpns {
		if !Relayed(alpn) {
			panic("port: " + alpn + " ends at the node and is never relayed")
		}
	}
	r.mu.Lock()
	r.serial++
	mine := r.serial
	r.mu.Unlock()
	for _, alpn := range alpns {
		r.change(alpn, func(e *route) { e.relay, e.relayed = f, mine })
	}
	return func() {
		for _, alpn := range alpns {
			r.change(alpn, func(e *route) {
				if e.relayed == mine {
					e.relay = nil
				}
			})
		}
	}
}

// change edits one entry and removes it when nothing is left of it.
func (r *routes) change(alpn string, edit func(*route)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.table[alpn]
	edit(&e)
	if e.handler == nil && e.relay == nil {
		delete(r.table, alpn)
		return
	}
	if r.table == nil {
		r.table = make(map[string]route)
	}
	r.table[alpn] = e
}

func (r *routes) find(alpn string) (route, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e, ok := r.table[alpn]
	return e, ok
}
