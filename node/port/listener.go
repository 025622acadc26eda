package port

import (
	"crypto/tls"
	"net"
	"net/netip"
	"sync"
)

// Conn is what a Listener accepts: a TLS connection whose handshake is done.
// It is a type of its own because net/http closes a *tls.Conn whose ALPN it
// does not know, but serves HTTP/1.1 over anything else, r.TLS included.
type Conn struct{ *tls.Conn }

// Listener gives the connections of one ALPN in the shape that net/http and a
// Raft transport ask for. Each is a Conn, or beats where who dialled said that it knows
// that. Closing it withdraws the route.
func (p *Port) Listener(alpn string, config *tls.Config) net.Listener {
	l := &listener{port: p, ready: make(chan net.Conn, MaxBacklog), done: make(chan struct{})}
	l.withdraw = p.routes.handle(alpn, config, l.push)
	return l
}

type listener struct {
	port     *Port
	withdraw func()
	ready    chan net.Conn
	done     chan struct{}
	once     sync.Once

	mu     sync.Mutex // orders push and Close, so that nothing stays in ready
	closed bool
}

// push never waits: a listener that does not accept must not hold up the port.
func (l *listener) push(conn *tls.Conn, _ netip.AddrPort) Reason {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return ReasonClosing
	}
	var made net.Conn = Conn{conn}
	if HearsBeats(conn) {
		made = Beating(conn)
	}
	select {
	case l.ready <- made:
		l.port.counts.handled.Add(1)
		return 0
	default:
		return ReasonBacklog
	}
}

// Accept waits for the next connection; ErrClosed after Close.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.ready:
		return conn, nil
	case <-l.done:
	case <-l.port.done:
	}
	return nil, ErrClosed
}

// Close withdraws the route and closes what nobody accepted.
func (l *listener) Close() error {
	l.once.Do(func() {
		l.withdraw()
		l.mu.Lock()
		defer l.mu.Unlock()
		l.closed = true
		close(l.done)
		for {
			select {
			case conn := <-l.ready:
				conn.Close()
			default:
				return
			}
		}
	})
	return nil
}

// Addr is the address of the port.
func (l *listener) Addr() net.Addr { return l.port.listener.Addr() }
