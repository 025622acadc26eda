package node

import (
	"context"

	"github.com/meshcrypt/meshcrypt/crypto/pki"
	"github.com/meshcrypt/meshcrypt/node/loop"
	"github.com/meshcrypt/meshcrypt/node/port"
	"github.com/meshcrypt/meshcrypt/node/protocol"
	"github.com/meshcrypt/meshcrypt/node/trunk"
)

// heard is told by what stream the arbiter spoke, and whether it takes trunks.
func (l *arbiterLink) heard(by *loop.Stream[protocol.Node], trunks bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fenced, l.trunks = by, trunks
}

// wayOnward is the trunk to the present arbiter, opened for who needs it first and after
// it has ended; nil for an arbiter that takes none. It is told when that is known: after a
// restart of all nodes the clients are there before the arbiter has spoken, and by
// connections of their own a whole crowd would go.
func (n *Node) wayOnward(ctx context.Context) (way *port.Way, told bool) {
	l := &n.link
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stream == nil || l.fenced != l.stream {
		return nil, false
	}
	if !l.trunks {
		return nil, true
	}
	if l.way == nil || l.way.Over() {
		reign, release := l.reigning(ctx)
		at := l.outer
		l.way = port.OpenWay(reign, func(ctx context.Context) (made *trunk.Trunk, err error) {
			ctx, cancel := context.WithTimeout(ctx, DialTimeout)
			defer cancel()
			var peer pki.Peer
			err = n.reserve.Open(func() (err error) {
				made, err = port.DialTrunk(ctx, at, n.trust.ToArbiter(port.ALPNTrunk, &peer))
				return err
			})
			return made, err
		}, func(err error) {
			release()
			n.config.Log.Debug("trunk to the arbiter ended", "error", err)
		})
	}
	return l.way, true
}
