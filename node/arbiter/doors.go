package arbiter

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/crypto/pki"
	"github.com/meshcrypt/meshcrypt/node/loop"
	"github.com/meshcrypt/meshcrypt/node/port"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// openDoors registers what only an arbiter serves. Until the returned function
// is called, relayed protocols end here instead of being relayed on.
func (a *Arbiter) openDoors(ctx context.Context) (withdraw func()) {
	t, p := a.config.Trust, a.config.Port
	cert := t.ArbiterCertificate
	member := func(raw [][]byte) error {
		_, err := t.Member(raw, a.listed)
		return err
	}
	listedKey := func(raw [][]byte) error {
		peer, err := pki.VerifyRenewal(raw, t.CA, t.Cluster, a.config.Wall())
		if err == nil && !a.listed(peer.Node) {
			err = errNotListed
		}
		return err
	}
	withdrawals := []func(){
		p.Pace(arrivalPlaces(), a.arrivals.count),
		p.Handle(port.ALPNStream, pki.Server(port.ALPNStream, cert, member),
			func(c *tls.Conn, _ netip.AddrPort) { a.serveNode(ctx, c) }),
		p.Handle(port.ALPNRelay, pki.Server(port.ALPNRelay, cert, member), a.serveRelay),
		p.Handle(port.ALPNTrunk, pki.Server(port.ALPNTrunk, cert, member),
			func(c *tls.Conn, _ netip.AddrPort) { a.serveTrunk(ctx, c) }),
		p.Handle(port.ALPNClient, pki.Server(port.ALPNClient, cert, nil),
			func(c *tls.Conn, remote netip.AddrPort) { a.serveClient(ctx, c, remote) }),
		p.Handle(port.ALPNJoin, pki.Server(port.ALPNJoin, cert, nil),
			func(c *tls.Conn, remote netip.AddrPort) { a.serveJoin(ctx, c, remote) }),
		p.Handle(port.ALPNRenew, pki.Server(port.ALPNRenew, cert, listedKey),
			func(c *tls.Conn, _ netip.AddrPort) { a.serveRenew(ctx, c) }),
	}
	return func() {
		for _, w := range withdrawals {
			w()
		}
	}
}

// listed reports whether a key is a member's.
func (a *Arbiter) listed(id identity.NodeID) (ok bool) {
	a.config.Store.View(func(s *registry.State) {
		n := s.Nodes[id]
		ok = n != nil && !n.Removed
	})
	return ok
}

// relayedConn is a client's connection inside a relay stream or a trunk: it remembers
// through which node it came.
type relayedConn struct {
	net.Conn
	through identity.NodeID
}

// NetConn is the connection itself, as with crypto/tls.
func (c relayedConn) NetConn() net.Conn { return c.Conn }

// serveRelay takes a connection that a gateway passed on, and serves it as if
// it had come directly.
func (a *Arbiter) serveRelay(raw *tls.Conn, _ netip.AddrPort) {
	var relayed relayedConn
	var client port.RelayHeader
	loop.Apart(func() { relayed, client = a.acceptRelay(raw) })
	if relayed.Conn == nil {
		raw.Close()
		return
	}
	a.config.Port.Serve(relayed, client, relayed.through.String())
}

// acceptRelay learns whose connection follows, through whom; of one that is refused there
// is none.
func (a *Arbiter) acceptRelay(raw *tls.Conn) (relayed relayedConn, client port.RelayHeader) {
	peer, err := a.config.Trust.Peer(rawCerts(raw))
	if err != nil {
		return relayedConn{}, client
	}
	header, conn, err := port.AcceptRelay(raw)
	if err != nil {
		a.logRefused(peer.Node, err)
		return relayedConn{}, client
	}
	return relayedConn{conn, peer.Node}, header
}

// enteredThrough is the gateway a client came through: this node itself when
// it was not relayed.
func (a *Arbiter) enteredThrough(conn *tls.Conn) identity.NodeID {
	for below := conn.NetConn(); below != nil; {
		switch here := below.(type) {
		case relayedConn:
			return here.through
		case interface{ NetConn() net.Conn }:
			below = here.NetConn()
		default:
			below = nil
		}
	}
	return a.config.Trust.Key.ID()
}

// serveRenew gives a listed key a fresh certificate, and nothing else.
func (a *Arbiter) serveRenew(ctx context.Context, conn *tls.Conn) {
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(HelloWithin + ProposeWithin))
	ctx, cancel := context.WithTimeout(ctx, ProposeWithin)
	defer cancel()
	a.answerJoin(conn, func(conn *tls.Conn, m *protocol.Join) (*protocol.JoinReply, error) {
		return a.renew(ctx, conn, m)
	})
}
