package client

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/meshcrypt/meshcrypt/crypto/pki"
	"github.com/meshcrypt/meshcrypt/node/channel"
	"github.com/meshcrypt/meshcrypt/node/port"
)

// reached is a TLS connection to the arbiter and the gateway it leads through.
type reached struct {
	raw     *tls.Conn
	peer    pki.Peer
	gateway netip.AddrPort
}

// attempt is what the dialer is at: the gateway that it tries first, and how to end that.
type attempt struct {
	gateway netip.AddrPort
	cancel  context.CancelFunc
}

// search is one search of loop.Race for a way to the arbiter. Its first ways are tried
// beside each other. A further gateway is for hosts that do not answer: where one takes
// a connection the arbiter may only be busy, and a crowd that asks it twice makes it busier.
type search struct {
	*Client
	beside int
	queues bool // it takes no appointment

	mu    sync.Mutex    // protects the fields below
	told  error         // to wait: whoever is asked beside is no less busy
	begun int           // attempts
	open  int           // of them that a gateway took and that have not ended
	ended chan struct{} // closed when one of those fails, and made anew
}

func newSearch(c *Client, beside int) *search {
	return &search{Client: c, beside: beside, queues: c.queues, ended: make(chan struct{})}
}

// reach is one attempt. It names no further way.
func (s *search) reach(ctx context.Context, gateway netip.AddrPort) (r reached, further []netip.AddrPort, err error) {
	if err := s.patience(ctx); err != nil {
		return r, nil, err
	}
	taken := false
	r, err = s.connect(ctx, gateway, s.queues, func() {
		taken = true
		s.count(1)
	})
	if wait := (*port.Wait)(nil); errors.As(err, &wait) {
		s.mu.Lock()
		s.told = wait
		s.mu.Unlock()
	}
	if taken && err != nil {
		s.count(-1)
	}
	return r, nil, err
}

func (s *search) count(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open += n; n < 0 {
		close(s.ended)
		s.ended = make(chan struct{})
	}
}

// patience lets a further attempt wait for those that a gateway took; not for ever, since
// a process that stands still takes connections as well.
func (s *search) patience(ctx context.Context) error {
	s.mu.Lock()
	s.begun++
	waits, ended, told := s.begun > s.beside && s.open > 0, s.ended, s.told
	s.mu.Unlock()
	if told != nil || !waits {
		return told
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-ended:
	case <-time.After(TakenPatience):
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.told
}

// connect is TLS to the arbiter through one gateway; taken is told when that is there. The
// arbiter is recognised by the pinned CA before a byte of the client's is sent. Who queues
// does not say that it can be told to come again, and hears nobody who says so.
func (c *Client) connect(ctx context.Context, gateway netip.AddrPort, queues bool, taken func()) (r reached, err error) {
	r.gateway = gateway
	check := func(raw [][]byte) (err error) {
		r.peer, err = pki.VerifyArbiter(raw, c.config.Profile.CAHash, c.config.Profile.Cluster, c.config.Wall())
		return err
	}
	var waiter *port.Waiter
	stands := func(raw net.Conn) net.Conn {
		taken()
		if queues {
			return channel.Below(hearing(raw, QueuedWithin))
		}
		waiter = &port.Waiter{Conn: hearing(raw, AnswerWithin)}
		return channel.Below(waiter)
	}
	config := pki.Client(port.ALPNClient, nil, check)
	if !queues {
		config.ServerName = port.WaitName
	}
	r.raw, err = c.secure(ctx, gateway, config, stands)
	if err != nil && waiter != nil {
		err = cmp.Or(waiter.Told(), err)
	}
	if err != nil {
		return r, fmt.Errorf("no arbiter through gateway %s: %w", gateway, err)
	}
	return r, nil
}

// secure opens TLS by way of a gateway, outside the tunnel; stands is told when the
// connection below it does, and makes of it what TLS goes over.
func (c *Client) secure(ctx context.Context, gateway netip.AddrPort, config *tls.Config, stands func(net.Conn) net.Conn) (*tls.Conn, error) {
	raw, err := c.open(ctx, gateway)
	if err != nil {
		return nil, err
	}
	conn := tls.Client(stands(raw), config)
	if err := conn.HandshakeContext(ctx); err != nil {
		raw.Close() // the handshake's error is the one to tell
		return nil, err
	}
	return conn, nil
}

func (c *Client) open(ctx context.Context, gateway netip.AddrPort) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, DialTimeout)
	defer cancel()
	dial := c.config.Dial
	if dial == nil {
		dial = (&net.Dialer{Control: c.mark}).DialContext
	}
	return dial(ctx, "tcp", gateway.String())
}

// errMute is no time of an arbiter that was exceeded, after which a crowd waits (backoff.ended):
// that is told to come again before.
var errMute = errors.New("it took the connection and says nothing")

// answered is a connection over which the other end has a time to say something first.
// What comes behind that has the time of the whole attempt: where a crowd is let in whoever
// gives up in the middle of a handshake throws it away, and asks for another one.
type answered struct {
	net.Conn
	heard bool
}

func hearing(conn net.Conn, within time.Duration) net.Conn {
	_ = conn.SetReadDeadline(time.Now().Add(within)) // the attempt ends in any case
	return &answered{Conn: conn}
}

// Read is the connection's. It belongs to one goroutine.
func (a *answered) Read(b []byte) (int, error) {
	n, err := a.Conn.Read(b)
	switch {
	case a.heard:
	case n > 0:
		a.heard = true
		_ = a.Conn.SetReadDeadline(time.Time{})
	case errors.Is(err, os.ErrDeadlineExceeded):
		err = errMute
	}
	return n, err
}

// NetConn is the connection below, as with crypto/tls.
func (a *answered) NetConn() net.Conn { return a.Conn }
