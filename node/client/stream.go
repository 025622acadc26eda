package client

import (
	"context"
	"fmt"
	"net"
	"net/netip"

	"github.com/meshcrypt/meshcrypt/crypto/pki"
	"github.com/meshcrypt/meshcrypt/mesh/link"
	"github.com/meshcrypt/meshcrypt/mesh/link/framed"
	"github.com/meshcrypt/meshcrypt/node/port"
)

// Stream carries datagrams to one gateway where UDP is blocked.
type Stream interface {
	link.Socket
	// Done is closed when the stream has ended.
	Done() <-chan struct{}
}

// keepStreams opens the streams that the loop asks for, until ctx ends.
func (c *Client) keepStreams(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case gateway := <-c.transport.wanted:
			stream, err := c.openStream(ctx, gateway)
			opened := streamOpened{stream, gateway, err}
			select {
			case c.events <- opened:
			case <-ctx.Done():
				discard(opened)
			}
		}
	}
}

// openStream is one attempt, which does not go on for being answered: meanwhile nothing of the
// session passes, and it queues at no arbiter.
func (c *Client) openStream(ctx context.Context, gateway netip.AddrPort) (Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, DialTimeout)
	defer cancel()
	config := pki.Client(port.ALPNDatagram, nil, func(raw [][]byte) error {
		_, err := pki.VerifyGateway(raw, c.config.Profile.CAHash, c.config.Profile.Cluster, c.config.Wall())
		return err
	})
	config.DynamicRecordSizingDisabled = true // trains fill records
	life := c.life.present()
	conn, err := c.secure(ctx, gateway, config, func(raw net.Conn) net.Conn { return raw })
	if err != nil {
		return nil, fmt.Errorf("no TLS to gateway %s: %w", gateway, err)
	}
	if !c.life.enter(conn, life) {
		return nil, errCopied
	}
	stream := framed.New(conn, gateway)
	go func() {
		<-stream.Done()
		c.life.leave(conn)
	}()
	return stream, nil
}
