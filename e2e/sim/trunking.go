package sim

import (
	"context"
	"net"

	"github.com/meshcrypt/meshcrypt/crypto/pki"
	"github.com/meshcrypt/meshcrypt/node/loop"
	"github.com/meshcrypt/meshcrypt/node/port"
	"github.com/meshcrypt/meshcrypt/node/protocol"
	"github.com/meshcrypt/meshcrypt/node/trunk"
)

// Clients come to the arbiter by their gateway's trunk, as package node has it, and in every
// fourth run by connections of their own, as among earlier builds.
const singlyEvery = 4

// breakTrunk has a gateway's trunk reset, as something on the way does while both hosts are
// well: at both ends, or at the arbiter's alone.
func (w *World) breakTrunk(n *member, both bool) {
	wire := n.daemon.link.carrier()
	if wire == nil || wire.peer == nil {
		return
	}
	w.trace.note("plan", "the trunk of %s breaks, at both ends: %v", n.name, both)
	wire.peer.take(segment{end: errReset})
	if both {
		wire.take(segment{end: errReset})
	}
}

// carrier is the trunk's connection.
func (l *arbiterLink) carrier() *conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.wire
}

// heard is told by what stream the arbiter spoke, and whether it takes trunks.
func (l *arbiterLink) heard(by *loop.Stream[protocol.Node], trunks bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fenced, l.trunks = by, trunks
}

// wayOnward is the trunk to the present arbiter, opened for who needs it first and after it
// has ended; nil for one that takes none. It is told when that is known.
func (d *daemon) wayOnward() (way *port.Way, told bool) {
	l := &d.link
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.stream == nil || l.fenced != l.stream:
		return nil, false
	case !l.trunks:
		return nil, true
	case l.way == nil || l.way.Over():
		at := l.at
		l.way = port.OpenWay(l.reign, func(ctx context.Context) (*trunk.Trunk, error) {
			var peer pki.Peer
			onward, err := d.dialTLS(ctx, at, d.trust.ToArbiter(port.ALPNTrunk, &peer))
			if err != nil {
				return nil, err
			}
			l.mu.Lock()
			l.wire = onward.NetConn().(*conn)
			l.mu.Unlock()
			d.world.trace.note(d.name, "has a trunk")
			return newTrunk(onward), nil
		}, func(err error) { d.world.trace.note(d.name, "has no trunk: %v", err) })
	}
	return l.way, true
}

// newTrunk is one that gathers nothing, or a seed would not give the same run twice.
func newTrunk(conn net.Conn) *trunk.Trunk { return trunk.Gathering(conn, 0) }
