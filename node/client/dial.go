package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/meshcrypt/meshcrypt/crypto/pki"
	"github.com/meshcrypt/meshcrypt/node/port"
)

// reached is a TLS connection to the arbiter and the gateway it leads through.
type reached struct {
	raw     *tls.Conn
	peer    pki.Peer
	gateway netip.AddrPort
	err     error // why there is none
}

// race tries one way after the other, the next one as soon as the last has
// failed or not answered for DialStagger (RFC 8305): the first that leads to
// the arbiter wins. It returns when every attempt has ended.
func race(ctx context.Context, ways []netip.AddrPort, reach func(context.Context, netip.AddrPort) reached) (reached, error) {
	ctx, cancel := context.WithCancel(ctx)
	ended, running := make(chan reached), 0
	defer func() {
		cancel()
		for ; running > 0; running-- {
			if late := <-ended; late.err == nil {
				late.raw.Close()
			}
		}
	}()
	var errs []error
	for len(ways) > 0 || running > 0 {
		var next <-chan time.Time
		if len(ways) > 0 {
			gateway := ways[0]
			ways, running = ways[1:], running+1
			go func() { ended <- reach(ctx, gateway) }()
		}
		if len(ways) > 0 {
			next = time.After(DialStagger)
		}
		select {
		case r := <-ended:
			running--
			if r.err == nil {
				return r, nil
			}
			errs = append(errs, r.err)
		case <-next:
		}
	}
	return reached{}, errors.Join(errs...)
}

// reach is one attempt. The arbiter is recognised by the pinned CA before a
// byte of the client's is sent.
func (c *Client) reach(ctx context.Context, gateway netip.AddrPort) (r reached) {
	r.gateway = gateway
	check := func(raw [][]byte) (err error) {
		r.peer, err = pki.VerifyArbiter(raw, c.config.Profile.CAHash, c.config.Profile.Cluster, c.config.Wall())
		return err
	}
	dialer := tls.Dialer{NetDialer: &net.Dialer{Control: c.mark}, Config: pki.Client(port.ALPNClient, nil, check)}
	raw, err := dialer.DialContext(ctx, "tcp", gateway.String())
	if err != nil {
		r.err = fmt.Errorf("no arbiter through gateway %s: %w", gateway, err)
		return r
	}
	r.raw = raw.(*tls.Conn)
	return r
}
