package node

import (
	"context"
	"net"
	"net/netip"

	"github.com/meshcrypt/meshcrypt/crypto/pki"
	"github.com/meshcrypt/meshcrypt/node/loop"
	"github.com/meshcrypt/meshcrypt/node/port"
	"github.com/meshcrypt/meshcrypt/node/protocol"
	"github.com/meshcrypt/meshcrypt/node/trunk"
)

// wayOnward is this node's trunk to the arbiter of one reign, in which all relayed
// connections go, or the attempt to open it.
type wayOnward struct {
	known chan struct{} // closed when what follows is
	trunk *trunk.Trunk
	err   error
}

// over reports whether another attempt is due.
func (w *wayOnward) over() bool {
	select {
	case <-w.known:
		return w.err != nil || w.trunk.Over()
	default:
		return false
	}
}

// relay begins a stream for one connection, as soon as there is a trunk.
func (w *wayOnward) relay(ctx context.Context, header port.RelayHeader) (net.Conn, error) {
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-w.known:
	}
	if w.err != nil {
		return nil, w.err
	}
	return port.OpenRelay(w.trunk, header)
}

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
func (n *Node) wayOnward(ctx context.Context) (way *wayOnward, told bool) {
	l := &n.link
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stream == nil || l.fenced != l.stream {
		return nil, false
	}
	if !l.trunks {
		return nil, true
	}
	if l.way == nil || l.way.over() {
		l.way = &wayOnward{known: make(chan struct{})}
		reign, release := l.reigning(ctx)
		go n.keepTrunk(reign, release, l.way, l.outer)
	}
	return l.way, true
}

// keepTrunk opens a trunk and serves it until it ends, or the reign does, and with it
// all that is relayed by it: the clients come back.
func (n *Node) keepTrunk(reign context.Context, release func(), w *wayOnward, at netip.AddrPort) {
	defer release()
	ctx, cancel := context.WithTimeout(reign, DialTimeout)
	var peer pki.Peer
	w.err = n.reserve.Open(func() (err error) {
		w.trunk, err = port.DialTrunk(ctx, at, n.trust.ToArbiter(port.ALPNTrunk, &peer))
		return err
	})
	cancel()
	close(w.known)
	if w.err != nil {
		n.config.Log.Debug("no trunk to the arbiter", "error", w.err)
		return
	}
	stop := context.AfterFunc(reign, w.trunk.Close)
	defer stop()
	n.config.Log.Debug("trunk to the arbiter ended", "error", w.trunk.Run(nil))
}
