package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/crypto/pki"
	"github.com/meshcrypt/meshcrypt/node/agent"
	"github.com/meshcrypt/meshcrypt/node/port"
	"github.com/meshcrypt/meshcrypt/node/protocol"
	"github.com/meshcrypt/meshcrypt/node/splice"
	"github.com/meshcrypt/meshcrypt/node/trust"
)

var errNoArbiter = errors.New("node: no member led to an arbiter")

// arbiterLink is where this node last found the arbiter.
type arbiterLink struct {
	mu     sync.Mutex // protects what follows
	node   identity.NodeID
	outer  netip.AddrPort
	silent bool // its stream ended without a goodbye, as that of a host without power does
}

func (l *arbiterLink) set(node identity.NodeID, outer netip.AddrPort) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.node, l.outer, l.silent = node, outer, false
}

// fellSilent notes how the stream to a node ended.
func (l *arbiterLink) fellSilent(node identity.NodeID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.silent = l.silent || l.node == node
}

// isSilent reports whether a node is the arbiter that fell silent.
func (l *arbiterLink) isSilent(node identity.NodeID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.silent && l.node == node
}

func (l *arbiterLink) get() (identity.NodeID, netip.AddrPort) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.node, l.outer
}

// stream is a node stream as the agent sees it.
type stream struct {
	*protocol.Conn[protocol.Node]
	raw     *tls.Conn
	arbiter identity.PublicKey
	silent  func() // is called when the arbiter says nothing any more
}

// Read returns what the arbiter says next.
func (s stream) Read() (*protocol.Node, error) {
	m, err := s.Conn.Read()
	if errors.Is(err, os.ErrDeadlineExceeded) {
		s.silent()
	}
	return m, err
}

// Arbiter is the key that signs this arbiter's grants.
func (s stream) Arbiter() identity.PublicKey { return s.arbiter }

// Close ends the stream.
func (s stream) Close() error { return s.raw.Close() }

// dialArbiter opens a stream to the present arbiter: where this node's own
// log says, where the last one was, then whoever may know. One that fell silent comes
// behind the voters, which know its successor: to dial a host without power takes all of
// DialTimeout, and meanwhile a new arbiter waits for this node.
func (n *Node) dialArbiter(ctx context.Context) (agent.Stream, error) {
	var errs []error
	tried := make(map[netip.AddrPort]bool)
	candidates := n.arbiterCandidates()
	for i := 0; i < len(candidates) && i < MaxCandidates && ctx.Err() == nil; i++ {
		at := candidates[i]
		if !at.IsValid() || tried[at] {
			continue
		}
		tried[at] = true
		s, redirect, err := n.dialStream(ctx, at)
		if err == nil {
			return s, nil
		}
		redirect = slices.DeleteFunc(redirect, n.atSilent) // it is a candidate anyway
		candidates = slices.Insert(candidates, i+1, redirect...)
		errs = append(errs, fmt.Errorf("%s: %w", at, err))
	}
	return nil, errors.Join(append([]error{errNoArbiter}, errs...)...)
}

func (n *Node) arbiterCandidates() (all []netip.AddrPort) {
	if store := n.store.Load(); store != nil {
		if id, ok := store.Leader(); ok {
			if id == n.trust.Key.ID() {
				all = append(all, n.self.Outer)
			} else {
				all = append(all, n.reach(n.members.find(id))...)
			}
		}
	}
	node, last := n.link.get()
	all = append(all, last)
	members := n.members.all()
	for _, voters := range []bool{true, false} {
		for _, row := range members {
			if row.Voter == voters && row.ID != n.trust.Key.ID() {
				all = append(all, n.reach(row)...)
			}
		}
		if voters && n.link.isSilent(node) {
			all = slices.DeleteFunc(all, n.atSilent)
			all = append(append(all, last), n.reach(n.members.find(node))...)
		}
	}
	return all
}

// atSilent reports whether an address is of the arbiter that fell silent.
func (n *Node) atSilent(at netip.AddrPort) bool {
	node, last := n.link.get()
	return n.link.isSilent(node) && (at == last || slices.Contains(n.reach(n.members.find(node)), at))
}

// dialStream opens a stream at one address. A node that is not the arbiter
// answers with a redirect, and with nothing else that would be believed.
func (n *Node) dialStream(ctx context.Context, at netip.AddrPort) (s agent.Stream, redirect []netip.AddrPort, err error) {
	var peer pki.Peer
	raw, err := n.dialTLS(ctx, at, n.trust.ToArbiter(port.ALPNStream, &peer))
	if err != nil {
		return nil, nil, err
	}
	conn := protocol.NewStream(protocol.Alert{Conn: raw, After: protocol.Silence})
	if !peer.Has(pki.RoleArbiter) {
		defer raw.Close()
		m, err := conn.Read()
		if err == nil && m.Redirect != nil {
			redirect = n.reach(protocol.NodeRow{Outer: m.Redirect.Outer, Other: m.Redirect.Other})
		}
		return nil, redirect, trust.ErrNotArbiter
	}
	n.link.set(peer.Node, at)
	return stream{conn, raw, peer.Key, func() { n.link.fellSilent(peer.Node) }}, nil, nil
}

func (n *Node) dialTLS(ctx context.Context, at netip.AddrPort, config *tls.Config) (*tls.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, DialTimeout)
	defer cancel()
	dialer := tls.Dialer{Config: config}
	conn, err := dialer.DialContext(ctx, "tcp", at.String())
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
	onward, err := n.dialRelay(ctx, port.RelayHeader{Client: remote, ALPN: alpn, Known: n.port.Knows(remote.Addr())})
	if err != nil {
		n.config.Log.Debug("no arbiter for a relay", "alpn", alpn, "client", remote, "error", err)
		return
	}
	splice.Relay(ctx, conn, onward)
}

// dialRelay waits up to RelayWait for an arbiter: whoever comes during an
// election, or right after the start, is not sent away.
func (n *Node) dialRelay(ctx context.Context, header port.RelayHeader) (*tls.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, RelayWait)
	defer cancel()
	err := errNoArbiter
	for {
		if _, at := n.link.get(); at.IsValid() {
			var peer pki.Peer
			var onward *tls.Conn
			if onward, err = port.DialRelay(ctx, at, n.trust.ToArbiter(port.ALPNRelay, &peer), header); err == nil {
				return onward, nil
			}
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(RelayRetry):
		}
	}
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
			_ = protocol.NewStream(conn).Write(&protocol.Node{Redirect: n.whereArbiter()})
		})
}

// whereArbiter is the arbiter as this node knows it; where it was reached says
// little to an asker of another family.
func (n *Node) whereArbiter() *protocol.Redirect {
	node, outer := n.link.get()
	if store := n.store.Load(); store != nil {
		if id, ok := store.Leader(); ok {
			node = id
		}
	}
	if row := n.members.find(node); row.Index != 0 {
		return &protocol.Redirect{Node: node, Outer: row.Outer, Other: row.Other}
	}
	return &protocol.Redirect{Node: node, Outer: outer}
}
