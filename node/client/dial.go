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
	dialer := tls.Dialer{NetDialer: &net.Dialer{Control: c.mark}, Config: pki.Client(port.ALPNClient, nil, check)}
	raw, err := dialer.DialContext(ctx, "tcp", gateway.String())
	if err != nil {
		return r, nil, fmt.Errorf("no arbiter through gateway %s: %w", gateway, err)
	}
	r.raw = raw.(*tls.Conn)
	return r, nil, nil
}
