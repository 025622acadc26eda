// Package port is the one TCP port of a node, split by ALPN. It owns the
// listener, the reading of each ClientHello, the limits on strangers, and the
// relay stream that carries an unopened client connection to the arbiter.
//
// It does not own certificates (crypto/pki makes each tls.Config), does not
// know who the arbiter is, and takes no part in any protocol behind a
// handshake. Whose turn it is decides node/slots.
//
// The way of a connection, in file order of serve.go: enter, read the hello
// without consuming it, find the route of its one ALPN, wait for a slot, then
// either relay it as it came or finish TLS with that ALPN's own configuration.
// Whatever fails is closed without a byte of answer and counted under a named
// Reason, but that a client which asked for it is told when its turn is (wait.go).
package port

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/meshcrypt/meshcrypt/node/descriptors"
	"github.com/meshcrypt/meshcrypt/node/said"
	"github.com/meshcrypt/meshcrypt/node/slots"
)

// ErrClosed is returned by a Listener after its or the port's Close.
var ErrClosed = fmt.Errorf("port: closed: %w", net.ErrClosed)

// Port accepts connections and hands each to the route of its ALPN.
type Port struct {
	listener net.Listener
	reserve  *descriptors.Reserve
	log      *slog.Logger
	failing  said.Line // of accept alone
	routes   routes
	counts   counts
	started  time.Time
	acquaint atomic.Pointer[acquaintances]
	wanted   chan struct{} // that slots be given out in time
	done     chan struct{} // closed by Close
	running  sync.WaitGroup

	mu       sync.Mutex // protects what follows
	closed   bool
	live     map[*slots.Ticket]*holding
	slots    *slots.Slots
	memory   slots.Memory
	named    slots.Memory // of addresses as other nodes named them
	siege    slots.Siege
	besieged bool  // and said so
	pace     *pace // of the clients that end here; nil: there is none
}

// Listen opens the TCP port and starts to accept, by the reserve's descriptors only nodes.
// Connections are closed until routes are registered.
func Listen(addr netip.AddrPort, reserve *descriptors.Reserve, log *slog.Logger) (*Port, error) {
	config := net.ListenConfig{KeepAlive: -1} // set for those that get a slot
	l, err := config.Listen(context.Background(), "tcp", addr.String())
	if err != nil {
		return nil, explain(addr, err)
	}
	return On(l, reserve, log), nil
}

// explain says what to do about a port that cannot be opened.
func explain(addr netip.AddrPort, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("port: TCP port %v is taken by another program; "+
			"find it with `ss -ltpn` or choose another port: %w", addr, err)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("port: %v is not an address of this host; see `ip address`: %w", addr.Addr(), err)
	}
	return fmt.Errorf("port: listen on %v: %w", addr, err)
}

// On is Listen for a listener that there is already; the port closes it.
func On(l net.Listener, reserve *descriptors.Reserve, log *slog.Logger) *Port {
	p := &Port{
		listener: l,
		reserve:  reserve,
		log:      log,
		started:  time.Now(),
		wanted:   make(chan struct{}, 1),
		done:     make(chan struct{}),
		live:     make(map[*slots.Ticket]*holding),
		slots:    slots.New(rules(runtime.NumCPU(), descriptors.Limit())),
	}
	p.acquaint.Store(&acquaintances{})
	p.running.Go(p.accept)
	p.running.Go(p.keepSlots)
	return p
}

// Addr is the address the port listens on.
func (p *Port) Addr() netip.AddrPort { return addrPort(p.listener.Addr()) }

// Close stops accepting, closes every connection the port still holds and
// waits until no goroutine of its own is left. Connections already handed out
// by a Listener belong to whoever accepted them.
func (p *Port) Close() error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil
	}
	p.closed = true
	close(p.done)
	for _, h := range p.live {
		h.conn.Close()
	}
	p.mu.Unlock()
	err := p.listener.Close()
	p.running.Wait()
	return err
}

func (p *Port) accept() {
	for {
		conn, last, err := p.reserve.Accept(p.listener)
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			if unsaid, ok := p.failing.Say(p.now(), freeLines, lineRate); ok {
				p.log.Warn("port cannot accept", append(said.Left(unsaid), "error", err)...)
			}
			if !p.pause(acceptRetry) {
				return
			}
		default:
			p.running.Go(func() { p.handle(conn, addrPort(conn.RemoteAddr()), introduction{last: last}) })
		}
	}
}

// pause waits d, or returns false when the port closes first.
func (p *Port) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-p.done:
		return false
	}
}

// addrPort gives an IPv4 peer as a plain IPv4 address and an IPv6 peer without
// its zone, and the zero value for an address that is no IP, as of a pipe.
func addrPort(a net.Addr) netip.AddrPort {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := tcp.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port())
}
