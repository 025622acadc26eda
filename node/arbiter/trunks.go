package arbiter

import (
	"context"
	"crypto/tls"
	"net"
	"slices"
	"sync"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/node/port"
	"github.com/meshcrypt/meshcrypt/node/said"
	"github.com/meshcrypt/meshcrypt/node/trunk"
)

// trunks are what gateways have opened. A gateway needs one, and a second while it has
// noticed before us that the first is dead.
type trunks struct {
	mu   sync.Mutex // protects open
	open map[identity.NodeID][]*trunk.Trunk
}

// add notes a trunk, and ends the oldest of a node that has too many.
func (t *trunks) add(of identity.NodeID, made *trunk.Trunk) {
	t.mu.Lock()
	if t.open == nil {
		t.open = make(map[identity.NodeID][]*trunk.Trunk)
	}
	var oldest *trunk.Trunk
	if len(t.open[of]) >= MaxTrunks {
		oldest = t.open[of][0]
		t.open[of] = t.open[of][1:]
	}
	t.open[of] = append(t.open[of], made)
	t.mu.Unlock()
	if oldest != nil {
		oldest.Close()
	}
}

// remove forgets one that has ended.
func (t *trunks) remove(of identity.NodeID, gone *trunk.Trunk) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.open[of] = slices.DeleteFunc(t.open[of], func(o *trunk.Trunk) bool { return o == gone })
	if len(t.open[of]) == 0 {
		delete(t.open, of)
	}
}

// serveTrunk takes the connection in which a gateway passes on all clients that come to
// it, and serves each as if it had come directly. It ends with the term.
func (a *Arbiter) serveTrunk(ctx context.Context, raw *tls.Conn) {
	defer raw.Close()
	if peer, err := a.config.Trust.Peer(rawCerts(raw)); err == nil {
		a.carry(ctx, raw, peer.Node)
	}
}

// carry is serveTrunk of a known node. The handshake asked whether it is a member; one that
// was removed since passes on nobody more, and loses the trunk when it tries to.
func (a *Arbiter) carry(ctx context.Context, raw net.Conn, of identity.NodeID) {
	t := a.config.Trunk(raw)
	a.trunks.add(of, t)
	defer a.trunks.remove(of, t)
	stop := context.AfterFunc(ctx, t.Close)
	defer stop()
	through := of.String()
	err := t.Run(func(s *trunk.Stream, word []byte) {
		client, err := port.ParseRelayWord(word)
		switch {
		case !a.listed(of):
			a.logRefused(of, "the node was removed")
			t.Close()
		case err != nil:
			s.Close()
			a.logRefused(of, err)
		default:
			a.config.Port.Serve(relayedConn{s, of}, client, through)
		}
	})
	a.config.Log.Debug("trunk ended", "of", of.Short(), "error", err)
}

// logRefused names a member whose streams are not served. It may open thousands a second.
func (a *Arbiter) logRefused(through identity.NodeID, why any) {
	if unsaid, ok := a.passing.line(through.String(), a.config.Now()); ok {
		a.config.Log.Warn("relay refused", append([]any{"through", through.Short(), "why", why}, said.Left(unsaid)...)...)
	}
}
