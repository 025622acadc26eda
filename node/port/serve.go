package port

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"time"

	"github.com/meshcrypt/meshcrypt/node/splice"
)

// Serve takes over a connection that came to this node inside a relay stream
// and treats it as one that was accepted here: the same limits, by the
// client's address, and the same routes. Only a relayed ALPN that ends here
// is served; it is never relayed a second time. Serve returns when the
// handler does.
func (p *Port) Serve(conn net.Conn, remote netip.AddrPort) { p.handle(conn, remote, true) }

func (p *Port) handle(conn net.Conn, remote netip.AddrPort, relayed bool) {
	p.counts.accepted.Add(1)
	if why := p.hold(conn, remote.Addr()); why != 0 {
		p.drop(conn, remote, why)
		return
	}
	defer p.release(conn)
	deliver, why := p.prepare(conn, remote, relayed)
	if why != 0 {
		p.drop(conn, remote, why)
		return
	}
	deliver()
}

// prepare holds a handshake slot from the first byte to the end of the
// handshake; deliver runs without it, for as long as the connection lives.
func (p *Port) prepare(conn net.Conn, remote netip.AddrPort, relayed bool) (deliver func(), why Reason) {
	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
	default:
		return nil, ReasonBusy
	}
	conn.SetDeadline(time.Now().Add(HelloTimeout))
	hello, why := readHello(conn)
	if why != 0 {
		return nil, why
	}
	route, ok := p.routes.find(hello.alpn)
	replayed := &replayConn{Conn: conn, unread: hello.raw, remote: remote}
	switch {
	case !ok:
		return nil, ReasonALPN
	case relayed && (route.handler == nil || !Relayed(hello.alpn)):
		return nil, ReasonLoop
	case route.handler != nil:
		return p.terminate(replayed, route.handler)
	}
	conn.SetDeadline(time.Time{})
	return func() {
		p.counts.relayed.Add(1)
		route.relay(replayed, remote, hello.alpn)
	}, 0
}

func (p *Port) terminate(conn *replayConn, h *handler) (deliver func(), why Reason) {
	ctx, cancel := context.WithTimeout(context.Background(), HandshakeTimeout)
	defer cancel()
	conn.SetDeadline(time.Time{})
	secure := tls.Server(conn, h.config)
	if err := secure.HandshakeContext(ctx); err != nil {
		p.log.Debug("handshake failed", "alpn", h.alpn, "remote", conn.remote, "error", err)
		return nil, ReasonHandshake
	}
	if len(secure.ConnectionState().PeerCertificates) > 0 {
		p.refund(conn.remote.Addr())
	}
	return func() {
		if why := h.serve(secure, conn.remote); why != 0 {
			p.drop(conn, conn.remote, why)
		}
	}, 0
}

// drop closes without an answer: a scanner learns that the port is open and
// nothing else.
func (p *Port) drop(conn net.Conn, remote netip.AddrPort, why Reason) {
	conn.Close()
	p.counts.dropped[why].Add(1)
	p.log.Debug("connection dropped", "reason", why, "remote", remote)
}

func (p *Port) refund(source netip.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sources.refund(source, time.Now())
}

// replayConn is a connection whose first bytes were already read, and that
// answers with the address of the client, not of the node that relayed it.
// Read belongs to one goroutine.
type replayConn struct {
	net.Conn
	unread []byte
	remote netip.AddrPort
}

func (c *replayConn) Read(b []byte) (int, error) {
	if len(c.unread) == 0 {
		return c.Conn.Read(b)
	}
	n := copy(b, c.unread)
	c.unread = c.unread[n:]
	return n, nil
}

// RemoteAddr is the client's address.
func (c *replayConn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.remote) }

// CloseWrite ends our direction only, where the connection below can.
func (c *replayConn) CloseWrite() error { return splice.CloseWrite(c.Conn) }

// NetConn is the connection below, as with crypto/tls: a server may need to
// know through whom a relayed client came.
func (c *replayConn) NetConn() net.Conn { return c.Conn }
