package port

import (
	"context"
	"net"

	"github.com/meshcrypt/meshcrypt/node/trunk"
)

// Way is a node's way to the arbiter of one reign: the trunk in which all that it relays
// goes, or the attempt to open it.
type Way struct {
	known chan struct{} // closed when what follows is
	trunk *trunk.Trunk
	err   error
}

// OpenWay dials a trunk and serves it until it ends, or ctx does, and with it all that is
// relayed by it: the clients come back. over is told why it ended.
func OpenWay(ctx context.Context, dial func(context.Context) (*trunk.Trunk, error), over func(error)) *Way {
	w := &Way{known: make(chan struct{})}
	go func() { over(w.keep(ctx, dial)) }()
	return w
}

func (w *Way) keep(ctx context.Context, dial func(context.Context) (*trunk.Trunk, error)) error {
	w.trunk, w.err = dial(ctx)
	close(w.known)
	if w.err != nil {
		return w.err
	}
	stop := context.AfterFunc(ctx, w.trunk.Close)
	defer stop()
	return w.trunk.Run(nil)
}

// Over reports whether another attempt is due.
func (w *Way) Over() bool {
	select {
	case <-w.known:
		return w.err != nil || w.trunk.Over()
	default:
		return false
	}
}

// Relay begins a stream for one connection, as soon as there is a trunk.
func (w *Way) Relay(ctx context.Context, header RelayHeader) (net.Conn, error) {
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-w.known:
	}
	if w.err != nil {
		return nil, w.err
	}
	return OpenRelay(w.trunk, header)
}

// Close ends the trunk once it is there, and with it what is relayed.
func (w *Way) Close() {
	if <-w.known; w.trunk != nil {
		w.trunk.Close()
	}
}
