package node

import (
	"context"
	"crypto/tls"
	"time"

	"github.com/meshcrypt/meshcrypt/crypto/pki"
	"github.com/meshcrypt/meshcrypt/node/protocol"
	"github.com/meshcrypt/meshcrypt/node/trust"
)

// renew asks an arbiter, through any member, for a fresh certificate; an
// expired one of a listed key is enough for this and for nothing else.
func (n *Node) renew(ctx context.Context) error {
	err := ErrUnreachable
	for _, m := range n.members.all() {
		for _, at := range n.reach(m) {
			var leaf []byte
			if leaf, err = renewThrough(ctx, n.trust, at.String()); err == nil {
				if err := n.trust.Adopt(leaf); err != nil {
					n.config.Log.Warn("the new certificate is not saved; this process goes on with it", "error", err)
				}
				return nil
			}
		}
	}
	return err
}

func renewThrough(ctx context.Context, t *trust.Trust, peer string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, JoinTimeout)
	defer cancel()
	dialer := tls.Dialer{Config: t.ToRenew()}
	conn, err := dialer.DialContext(ctx, "tcp", peer)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Now()) })
	defer stop()
	messages := protocol.NewConn[protocol.Join](conn)
	if err := messages.Write(&protocol.Join{Renew: &protocol.Renew{CSR: pki.MakeRequest(t.Key)}}); err != nil {
		return nil, err
	}
	reply, err := readJoinReply(messages)
	if err != nil {
		return nil, err
	}
	return reply.Certificate, nil
}
