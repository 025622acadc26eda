package port

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"time"

	"github.com/meshcrypt/meshcrypt/node/channel"
	"github.com/meshcrypt/meshcrypt/node/loop"
	"github.com/meshcrypt/meshcrypt/node/slots"
	"github.com/meshcrypt/meshcrypt/node/splice"
)

// Serve takes over a connection that came to this node inside a relay stream
// and treats it as one that was accepted here: the same limits, by the
// client's address as that node, named by through, gives it, and the same routes. What
// one node says harms only clients that come through it. Only a relayed ALPN that ends here
// is served; it is never relayed a second time. Serve returns when the
// handler does, who may keep the connection (Keep).
func (p *Port) Serve(conn net.Conn, client RelayHeader, through string) {
	p.handle(conn, client.Client, introduction{through: through, known: client.Known})
}

// introduction is who passed a connection on, and whether he knows whose it is; and whether
// it was accepted with what this process kept aside, which is for nodes.
type introduction struct {
	through string
	known   bool
	last    bool
}

func (p *Port) handle(conn net.Conn, remote netip.AddrPort, by introduction) {
	p.counts.accepted.Add(1)
	h, why := p.enter(conn, remote.Addr(), by)
	if why != 0 {
		p.drop(conn, remote, why)
		return
	}
	defer func() {
		if !h.kept {
			p.release(h)
		}
	}()
	var deliver func()
	loop.Apart(func() { deliver, why = p.prepare(h, remote) })
	if why != 0 {
		if why == ReasonWait {
			sayWait(conn, h.come)
		}
		p.drop(conn, remote, p.fateOf(h, why))
		return
	}
	deliver()
}

// keep is Keep of one connection.
func (p *Port) keep(h *holding) (over func()) {
	h.kept = true
	p.running.Add(1) // whoever keeps it runs, and is counted
	return func() {
		p.release(h)
		p.running.Done()
	}
}

// prepare takes a connection from its first byte to the end of its handshake.
// Reading the hello costs no slot, so silence holds none.
func (p *Port) prepare(h *holding, remote netip.AddrPort) (deliver func(), why Reason) {
	h.conn.SetDeadline(time.Now().Add(HelloTimeout))
	hello, why := readHello(h.conn)
	if why != 0 {
		return nil, why
	}
	h.conn.SetDeadline(time.Time{})
	route, ok := p.routes.find(hello.alpn)
	switch {
	case !ok:
		return nil, ReasonALPN
	case h.through != "" && (route.handler == nil || !Relayed(hello.alpn)):
		return nil, ReasonLoop
	case h.last && forClients(hello.alpn):
		return nil, ReasonFiles
	}
	if why := p.queue(h, hello); why != 0 {
		return nil, why
	}
	keepAlive(h.conn)
	replayed := &replayConn{Conn: h.conn, unread: hello.raw, remote: remote, port: p, holding: h}
	if route.handler != nil {
		return p.terminate(h, replayed, route.handler)
	}
	// The arbiter's end is open, and the hello on its way, when somebody reads it.
	replayed.first = func() { p.handshakeDone(h); p.settleLater(h) }
	alpn := hello.alpn // alone: the hello's bytes are not to stay
	return func() {
		p.counts.relayed.Add(1)
		route.relay(replayed, remote, alpn)
	}, 0
}

func (p *Port) terminate(h *holding, conn *replayConn, to *handler) (deliver func(), why Reason) {
	ctx, cancel := context.WithTimeout(context.Background(), HandshakeTimeout)
	defer cancel()
	secure := tls.Server(beneath(conn, to.alpn), to.config)
	if err := secure.HandshakeContext(ctx); err != nil {
		p.log.Debug("handshake failed", "alpn", to.alpn, "remote", conn.remote, "error", err)
		return nil, ReasonHandshake
	}
	p.handshakeDone(h)
	switch {
	case len(secure.ConnectionState().PeerCertificates) > 0:
		p.prove(h, slots.Member)
	case to.alpn == ALPNDatagram:
		p.settleLater(h)
	}
	return func() {
		if why := to.serve(secure, conn.remote); why != 0 {
			p.drop(conn, conn.remote, why)
		}
	}, 0
}

// beneath is what TLS goes over: a client's connection goes on without it later.
func beneath(conn *replayConn, alpn string) net.Conn {
	if alpn == ALPNClient {
		return channel.Below(conn)
	}
	return conn
}

// Prove is how a handler says that it knows who stands behind a connection that
// it was given: it counts as a stranger's no more, and its address is known.
func Prove(conn *tls.Conn) {
	if c := replayed(conn); c != nil {
		c.port.prove(c.holding, slots.Known)
	}
}

// Keep is how a handler keeps a connection that it was given beyond its own end: a client
// that rests needs no goroutine. It calls over, once, when it has closed the connection.
func Keep(conn *tls.Conn) (over func()) {
	if c := replayed(conn); c != nil {
		return c.port.keep(c.holding)
	}
	return func() {}
}

// replayed is what a handler's connection stands on.
func replayed(conn *tls.Conn) *replayConn {
	for c := conn.NetConn(); c != nil; {
		switch here := c.(type) {
		case *replayConn:
			return here
		case interface{ NetConn() net.Conn }:
			c = here.NetConn()
		default:
			return nil
		}
	}
	return nil
}

// keepAlive notices a dead peer. It waits until here because it costs four
// system calls, which most strangers are not worth.
func keepAlive(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		// A connection that is gone already says so by itself.
		_ = tcp.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3})
	}
}

// drop closes without an answer: a scanner learns that the port is open and
// nothing else.
func (p *Port) drop(conn net.Conn, remote netip.AddrPort, why Reason) {
	conn.Close()
	p.counts.dropped[why].Add(1)
	p.log.Debug("connection dropped", "reason", why, "remote", remote)
}

// replayConn is a connection whose first bytes were already read, and that
// answers with the address of the client, not of the node that relayed it.
// Read belongs to one goroutine.
type replayConn struct {
	net.Conn
	unread []byte
	remote netip.AddrPort
	first  func() // before the first Read; may be nil

	port    *Port
	holding *holding
}

func (c *replayConn) Read(b []byte) (int, error) {
	if c.first != nil {
		c.first()
		c.first = nil
	}
	if len(c.unread) == 0 {
		return c.Conn.Read(b)
	}
	n := copy(b, c.unread)
	if c.unread = c.unread[n:]; len(c.unread) == 0 {
		c.unread = nil // the connection may stay for days
	}
	return n, nil
}

// Await is that of splice.
func (c *replayConn) Await() error {
	if c.first != nil || len(c.unread) > 0 {
		return nil
	}
	return splice.Await(c.Conn)
}

// RemoteAddr is the client's address.
func (c *replayConn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.remote) }

// CloseWrite ends our direction only, where the connection below can.
func (c *replayConn) CloseWrite() error { return splice.CloseWrite(c.Conn) }

// NetConn is the connection below, as with crypto/tls: a server may need to
// know through whom a relayed client came.
func (c *replayConn) NetConn() net.Conn { return c.Conn }
