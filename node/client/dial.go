package client

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"

	"github.com/meshcrypt/meshcrypt/crypto/pki"
	"github.com/meshcrypt/meshcrypt/node/port"
)

// reached is a TLS connection to the arbiter and the gateway it leads through.
type reached struct {
	raw     *tls.Conn
	peer    pki.Peer
	gateway netip.AddrPort
}

// reach is one attempt, of at most two that loop.Race tries. The arbiter is recognised by
// the pinned CA before a byte of the client's is sent. It names no further way.
func (c *Client) reach(ctx context.Context, gateway netip.AddrPort) (r reached, further []netip.AddrPort, err error) {
	r.gateway = gateway
	check := func(raw [][]byte) (err error) {
		r.peer, err = pki.VerifyArbiter(raw, c.config.Profile.CAHash, c.config.Profile.Cluster, c.config.Wall())
		return err
	}
	dial := c.config.Dial
	if dial == nil {
		dial = (&net.Dialer{Control: c.mark}).DialContext
	}
	raw, err := dial(ctx, "tcp", gateway.String())
	if err == nil {
		r.raw = tls.Client(raw, pki.Client(port.ALPNClient, nil, check))
		if err = r.raw.HandshakeContext(ctx); err != nil {
			raw.Close() // the handshake's error is the one to tell
		}
	}
	if err != nil {
		return r, nil, fmt.Errorf("no arbiter through gateway %s: %w", gateway, err)
	}
	return r, nil, nil
}
