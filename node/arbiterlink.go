package node

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/crypto/pki"
	"github.com/meshcrypt/meshcrypt/node/agent"
	"github.com/meshcrypt/meshcrypt/node/arbiter"
	"github.com/meshcrypt/meshcrypt/node/loop"
	"github.com/meshcrypt/meshcrypt/node/port"
	"github.com/meshcrypt/meshcrypt/node/protocol"
	"github.com/meshcrypt/meshcrypt/node/search"
	"github.com/meshcrypt/meshcrypt/node/splice"
)

// arbiterLink is where this node last found the arbiter, or knows it to be.
type arbiterLink struct {
	mu     sync.Mutex // protects what follows
	node   identity.NodeID
	outer  netip.AddrPort
	reign  context.Context             // ends when another node takes its place; nil: there was none
	depose context.CancelFunc          // ends it
	stream *loop.Stream[protocol.Node] // the last one to it; nil: none
	fenced *loop.Stream[protocol.Node] // the one by which it spoke last
	trunks bool                        // it said then that it takes trunks
	way    *port.Way                   // the trunk to it; nil: none was needed yet
}

// set notes who the arbiter is.
func (l *arbiterLink) set(node identity.NodeID, outer netip.AddrPort, stream *loop.Stream[protocol.Node]) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.node != node {
		if l.depose != nil {
			l.depose()
		}
		l.reign, l.depose = context.WithCancel(context.Background())
		l.stream, l.way = nil, nil
	}
	l.node, l.outer = node, outer
	if stream != nil {
		l.stream = stream
	}
}

func (l *arbiterLink) get() (identity.NodeID, netip.AddrPort) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.node, l.outer
}

// beats reports whether the arbiter's stream to this node does: of a build that does, it
// may be told of other beats too.
func (l *arbiterLink) beats() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stream != nil && l.stream.Beating()
}

// during is get with a context that ends with ctx, or when another node has taken the
// arbiter's place.
func (l *arbiterLink) during(ctx context.Context) (outer netip.AddrPort, reign context.Context, release func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	reign, release = l.reigning(ctx)
	return l.outer, reign, release
}

// reigning is that context; the caller holds mu.
func (l *arbiterLink) reigning(ctx context.Context) (reign context.Context, release func()) {
	reign, cancel := context.WithCancel(ctx)
	if l.reign == nil {
		return reign, cancel
	}
	stop := context.AfterFunc(l.reign, cancel)
	return reign, func() { stop(); cancel() }
}

// leads reports whether this node's stream leads to that node.
func (l *arbiterLink) leads(to identity.NodeID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.node != to || l.stream == nil {
		return false
	}
	select {
	case <-l.stream.Done():
		return false
	default:
		return true
	}
}

// heedLeader leaves an arbiter that is none any more, as this node's own replica knows,
// for the one that is: the old one may be a host without power, which says nothing.
func (n *Node) heedLeader(id identity.NodeID) {
	if id.IsZero() || n.link.leads(id) {
		return
	}
	if id == n.trust.Key.ID() {
		n.link.set(id, n.self.Outer, nil)
	} else if row := n.members.find(id); row.Index != 0 {
		n.link.set(id, n.reach(row)[0], nil)
	}
	n.agent.Redial()
}

// heedServing is told when this node's own doors are open.
func (n *Node) heedServing(a *arbiter.Arbiter) {
	n.arbiter.Store(a)
	if a != nil {
		n.heedLeader(n.trust.Key.ID())
	}
}

// search is what this node knows for a search for the arbiter.
func (n *Node) search() search.Asker {
	leader := func() (identity.NodeID, bool) {
		if store := n.store.Load(); store != nil {
			return store.Leader()
		}
		return identity.NodeID{}, false
	}
	return search.Asker{
		Trust: n.trust, Outers: n.self.Outers(), Leader: leader, Last: n.link.get, Members: n.members.all, Dial: n.dialTLS,
	}
}

// dialArbiter opens a stream to the present arbiter.
func (n *Node) dialArbiter(ctx context.Context) (agent.Stream, error) {
	to, err := n.search().Stream(ctx)
	if err != nil {
		return agent.Stream{}, err
	}
	n.link.set(to.Node, to.At, to.Stream.Stream)
	to.Stream.Fenced = func(trunks bool) { n.link.heard(to.Stream.Stream, trunks) }
	return to.Stream, nil
}

func (n *Node) dialTLS(ctx context.Context, at netip.AddrPort, config *tls.Config) (*tls.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, DialTimeout)
	defer cancel()
	dialer := tls.Dialer{Config: config}
	var conn net.Conn
	err := n.reserve.Open(func() (err error) {
		conn, err = dialer.DialContext(ctx, "tcp", at.String())
		return err
	})
	if err != nil {
		return nil, err
	}
	return conn.(*tls.Conn), nil
}

// relayStrangers passes the connections of clients and joiners on, unopened,
// while this node is not the arbiter itself.
func (n *Node) relayStrangers(ctx context.Context) {
	n.port.Relay([]string{port.ALPNClient, port.ALPNJoin, port.ALPNRenew},
		func(conn net.Conn, remote netip.AddrPort, alpn string) { n.relay(ctx, conn, remote, alpn) })
	n.redirect()
}

func (n *Node) relay(ctx context.Context, conn net.Conn, remote netip.AddrPort, alpn string) {
	defer conn.Close()
	onward, reign, release, err := n.dialRelay(ctx, port.RelayHeader{Client: remote, ALPN: alpn, Known: n.port.Knows(remote.Addr())})
	if err != nil {
		n.config.Log.Debug("no arbiter for a relay", "alpn", alpn, "client", remote, "error", err)
		return
	}
	defer release()
	splice.Relay(reign, conn, onward)
}

// dialRelay waits up to port.RelayWait for an arbiter: whoever comes during an
// election, or right after the start, is not sent away. reign ends when the arbiter that
// was reached is known to be none any more, so that its client comes back to the next.
func (n *Node) dialRelay(ctx context.Context, header port.RelayHeader) (onward net.Conn, reign context.Context, release func(), err error) {
	begun := time.Now()
	until := begun.Add(port.RelayWait)
	for err = search.ErrNoArbiter; ; {
		var at netip.AddrPort
		if at, reign, release = n.link.during(ctx); at.IsValid() {
			header.Beats = n.link.beats()
			way, told := n.wayOnward(ctx)
			if told || time.Since(begun) > TrunkWait {
				onward, err = n.tryRelay(reign, at, until, way, header)
			}
			if onward != nil {
				return onward, reign, release, nil
			}
		}
		release()
		if ctx.Err() != nil || time.Until(until) < RelayRetry {
			return nil, nil, nil, err
		}
		select {
		case <-ctx.Done():
		case <-time.After(RelayRetry):
		}
	}
}

// tryRelay is one attempt: none waits for a host without power while another node
// becomes the arbiter. An arbiter of an older build takes no trunk.
func (n *Node) tryRelay(reign context.Context, at netip.AddrPort, until time.Time, way *port.Way, header port.RelayHeader) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(reign, min(DialTimeout, time.Until(until)))
	defer cancel()
	if way != nil {
		return way.Relay(ctx, header)
	}
	var peer pki.Peer
	return port.DialRelay(ctx, at, n.trust.ToArbiter(port.ALPNRelay, &peer), header)
}

// takeStreams lets clients whose UDP is blocked bring their datagrams by TLS. It
// ends here, and has no part in the keys inside.
func (n *Node) takeStreams() {
	config := pki.Server(port.ALPNDatagram, n.trust.Certificate, nil)
	config.DynamicRecordSizingDisabled = true // trains fill records
	n.port.Handle(port.ALPNDatagram, config, func(conn *tls.Conn, remote netip.AddrPort) {
		n.forward.gateway.ServeStream(conn, remote)
	})
}

// redirect answers node streams while this node is not the arbiter.
func (n *Node) redirect() {
	check := func(raw [][]byte) error {
		_, err := n.trust.Member(raw, func(id identity.NodeID) bool { return n.members.find(id).Index != 0 })
		return err
	}
	n.port.Handle(port.ALPNStream, pki.Server(port.ALPNStream, n.trust.Certificate, check),
		func(conn *tls.Conn, _ netip.AddrPort) {
			defer conn.Close()
			// A peer that is gone asks somebody else.
			_ = protocol.NewStream(conn).Write(&protocol.Node{Redirect: n.search().Redirect()})
		})
}
