// Package proxy lets programs without a route into the tunnel use it: SOCKS5
// (RFC 1928, with RFC 1929) and HTTP proxying on one port, told apart by the
// first byte.
//
// It owns what is said to those programs and how long their connections live.
// It does not own where connections go: a Network reaches what it reaches, and
// what it refuses is refused, never sent another way.
package proxy

import (
	"bufio"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/meshcrypt/meshcrypt/node/splice"
)

// Errors of a Network.
var (
	// ErrOutside is a destination that is not behind the network.
	ErrOutside = errors.New("not in a network that the mesh offers")
	// ErrNoNames says that nobody behind the network knows names.
	ErrNoNames = errors.New("the mesh named no DNS server; use an address")
	// ErrUnknownName says that the name does not exist.
	ErrUnknownName = errors.New("no such name")
)

// Network is where connections go. Its errors wrap the ones above, or an errno.
type Network interface {
	DialTCP(ctx context.Context, to netip.AddrPort) (net.Conn, error)
	// OpenUDP makes a socket for destinations of one family.
	OpenUDP(v6 bool) (net.PacketConn, error)
	// Reaches tells whether an address is behind the network.
	Reaches(addr netip.Addr) bool
	// Lookup gives a name's addresses, the best first.
	Lookup(ctx context.Context, name string) ([]netip.Addr, error)
}

// Credentials are what a program must know to use the proxy.
type Credentials struct{ User, Password string }

// Config is what a Server is made of.
type Config struct {
	Listener    net.Listener
	Network     Network
	Credentials *Credentials // nil lets everybody in who reaches the port
	Log         *slog.Logger
}

// Server serves one port until Close.
type Server struct {
	config Config
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	web    *http.Server
	inbox  *inbox // of connections that speak HTTP
	onward *http.Transport
	group  sync.WaitGroup

	mu     sync.Mutex // protects the fields below
	conns  map[*conn]struct{}
	closed bool
}

// Start serves the port.
func Start(config Config) *Server {
	s := &Server{config: config, conns: make(map[*conn]struct{})}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.startWeb()
	s.group.Go(s.accept)
	return s
}

// Close ends the port and every connection, and waits for the last of them.
func (s *Server) Close() error {
	s.cancel()
	err := s.config.Listener.Close()
	s.mu.Lock()
	s.closed = true
	for c := range s.conns {
		c.Conn.Close() // its own Close follows, from whoever serves it
	}
	s.mu.Unlock()
	s.closeWeb()
	s.group.Wait()
	return err
}

func (s *Server) accept() {
	for {
		raw, err := s.config.Listener.Accept()
		switch {
		case err == nil:
		case errors.Is(err, net.ErrClosed):
			return
		default: // for want of descriptors
			select {
			case <-s.ctx.Done():
				return
			case <-time.After(acceptRetry):
			}
			continue
		}
		if c := s.admit(raw); c != nil {
			s.group.Go(func() { s.serve(c) })
		}
	}
}

// admit counts a connection, or closes one too many.
func (s *Server) admit(raw net.Conn) *conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || len(s.conns) >= MaxConnections {
		raw.Close()
		s.config.Log.Warn("proxy: connection refused", "connections", len(s.conns), "limit", MaxConnections)
		return nil
	}
	c := &conn{Conn: raw, reader: bufio.NewReader(raw), server: s}
	s.conns[c] = struct{}{}
	return c
}

// serve tells the protocols apart.
func (s *Server) serve(c *conn) {
	c.SetDeadline(time.Now().Add(HandshakeTimeout))
	first, err := c.reader.Peek(1)
	switch {
	case err != nil:
		c.Close()
	case first[0] == socksVersion:
		defer c.Close()
		s.serveSOCKS(c)
	case first[0] >= 'A' && first[0] <= 'Z':
		c.SetDeadline(time.Time{})
		s.inbox.put(c) // the web server has limits of its own
	default:
		c.Close()
	}
}

// conn is one connection of a local program.
type conn struct {
	net.Conn
	reader *bufio.Reader
	server *Server
	ended  atomic.Bool
}

// Read implements net.Conn over what was already buffered.
func (c *conn) Read(b []byte) (int, error) { return c.reader.Read(b) }

// Close implements net.Conn.
func (c *conn) Close() error {
	if !c.ended.Swap(true) {
		c.server.mu.Lock()
		delete(c.server.conns, c)
		c.server.mu.Unlock()
	}
	return c.Conn.Close()
}

// CloseWrite ends our direction.
func (c *conn) CloseWrite() error { return splice.CloseWrite(c.Conn) }

// SetLinger is that of a TCP connection.
func (c *conn) SetLinger(seconds int) error { return splice.SetLinger(c.Conn, seconds) }
