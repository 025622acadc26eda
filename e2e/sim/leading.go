package sim

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus"
	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/crypto/pki"
	"github.com/meshcrypt/meshcrypt/node/agent"
	"github.com/meshcrypt/meshcrypt/node/arbiter"
	"github.com/meshcrypt/meshcrypt/node/clocks"
	"github.com/meshcrypt/meshcrypt/node/loop"
	"github.com/meshcrypt/meshcrypt/node/port"
	"github.com/meshcrypt/meshcrypt/node/protocol"
	"github.com/meshcrypt/meshcrypt/node/search"
	"github.com/meshcrypt/meshcrypt/node/splice"
)

// What package node does around the parts: it is done here anew, shorter, for that one
// stands on a real host.

// Times of that, as package node has them.
const (
	dialWithin  = 2 * time.Second
	relayAgain  = 100 * time.Millisecond
	relayWithin = 3 * time.Second
	leadAgain   = time.Second
)

// arbiterLink is where this daemon last found the arbiter, or knows it to be.
type arbiterLink struct {
	mu     sync.Mutex // protects what follows
	node   identity.NodeID
	at     netip.AddrPort
	reign  context.Context // ends when another takes its place
	depose context.CancelFunc
	stream *loop.Stream[protocol.Node]
	fenced *loop.Stream[protocol.Node] // the one by which it spoke last
	trunks bool                        // it said then that it takes trunks
	way    *port.Way
	wire   *conn // under it; nil: it has none yet
}

func (l *arbiterLink) set(node identity.NodeID, at netip.AddrPort, stream *loop.Stream[protocol.Node]) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.node != node || l.reign == nil {
		if l.depose != nil {
			l.depose()
		}
		l.reign, l.depose = context.WithCancel(context.Background())
		l.stream, l.way, l.wire = nil, nil, nil
	}
	l.node, l.at = node, at
	if stream != nil {
		l.stream = stream
	}
}

// leads reports whether the stream leads to that node.
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

// open is the stream that the daemon has; nil: none.
func (l *arbiterLink) open() *loop.Stream[protocol.Node] {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stream
}

func (l *arbiterLink) get() (identity.NodeID, netip.AddrPort, context.Context) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.node, l.at, l.reign
}

// heed leaves an arbiter that is none any more for the one that is.
func (d *daemon) heed(id identity.NodeID) {
	n := d.world.memberOf(id)
	if n == nil || d.link.leads(id) {
		return
	}
	d.link.set(id, n.at(), nil)
	d.agent.Redial()
}

// search is what this daemon knows for a search for the arbiter.
func (d *daemon) search() search.Asker {
	leader := func() (identity.NodeID, bool) {
		if r := d.replica.Load(); r != nil {
			return r.Leader()
		}
		return identity.NodeID{}, false
	}
	last := func() (identity.NodeID, netip.AddrPort) {
		node, at, _ := d.link.get()
		return node, at
	}
	return search.Asker{
		Trust: d.trust, Outers: []netip.AddrPort{d.member.at()}, Leader: leader, Last: last, Members: d.member.knows, Dial: d.dialTLS,
	}
}

// dialArbiter opens a stream to the present arbiter.
func (d *daemon) dialArbiter(ctx context.Context) (agent.Stream, error) {
	to, err := d.search().Stream(ctx)
	if err != nil {
		return agent.Stream{}, err
	}
	d.link.set(to.Node, to.At, to.Stream.Stream)
	to.Stream.Fenced = func(trunks bool) { d.link.heard(to.Stream.Stream, trunks && d.world.trunks) }
	return to.Stream, nil
}

func (d *daemon) dialTLS(ctx context.Context, at netip.AddrPort, config *tls.Config) (*tls.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialWithin)
	defer cancel()
	raw, err := d.dial(ctx, "tcp", at.String())
	if err != nil {
		return nil, err
	}
	conn := tls.Client(raw, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, err
	}
	return conn, nil
}

// redirect answers node streams while this node is not the arbiter.
func (d *daemon) redirect() {
	check := func(raw [][]byte) error {
		_, err := d.trust.Member(raw, func(id identity.NodeID) bool { return d.world.memberOf(id) != nil })
		return err
	}
	d.port.Handle(port.ALPNStream, pki.Server(port.ALPNStream, d.trust.Certificate, check), func(conn *tls.Conn, _ netip.AddrPort) {
		defer conn.Close()
		_ = protocol.NewStream(conn).Write(&protocol.Node{Redirect: d.search().Redirect()}) // a peer that is gone asks somebody else
	})
}

// relayClients passes clients on while this node is not the arbiter.
func (d *daemon) relayClients(ctx context.Context) {
	d.port.Relay([]string{port.ALPNClient}, func(conn net.Conn, remote netip.AddrPort, alpn string) {
		defer conn.Close()
		onward, reign, err := d.dialRelay(ctx, port.RelayHeader{Client: remote, ALPN: alpn, Beats: true})
		if err != nil {
			return
		}
		splice.Relay(reign, conn, onward)
	})
}

// dialRelay waits for an arbiter during an election.
func (d *daemon) dialRelay(ctx context.Context, header port.RelayHeader) (onward net.Conn, reign context.Context, err error) {
	ctx, cancel := context.WithTimeout(ctx, relayWithin)
	defer cancel()
	for {
		var at netip.AddrPort
		if _, at, reign = d.link.get(); at.IsValid() {
			if onward, err = d.tryRelay(ctx, at, header); onward != nil {
				return onward, reign, nil
			}
		}
		select {
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		case <-time.After(relayAgain):
		}
	}
}

// tryRelay goes by the trunk, where the arbiter takes one.
func (d *daemon) tryRelay(ctx context.Context, at netip.AddrPort, header port.RelayHeader) (net.Conn, error) {
	switch way, told := d.wayOnward(); {
	case way != nil:
		ctx, cancel := context.WithTimeout(ctx, dialWithin)
		defer cancel()
		return way.Relay(ctx, header)
	case !told:
		return nil, nil
	}
	return d.relayAlone(ctx, at, header)
}

// relayAlone is a connection for one client, as among earlier builds.
func (d *daemon) relayAlone(ctx context.Context, at netip.AddrPort, header port.RelayHeader) (net.Conn, error) {
	frame, err := header.Marshal()
	if err != nil {
		return nil, err
	}
	var peer pki.Peer
	conn, err := d.dialTLS(ctx, at, d.trust.ToArbiter(port.ALPNRelay, &peer))
	if err != nil {
		return nil, err
	}
	if _, err := conn.Write(frame); err != nil {
		conn.Close()
		return nil, err
	}
	return loop.NewPipe(conn, loop.Relays()), nil
}

// keepLeading serves a term whenever this node leads.
func (d *daemon) keepLeading(ctx context.Context, r *replica) {
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-r.Leadership():
			d.heed(now.ID)
			for now.Leader && ctx.Err() == nil {
				now = d.lead(ctx, r, now)
				d.heed(now.ID)
			}
		}
	}
}

// lead serves one term and returns the leadership that ended it.
func (d *daemon) lead(ctx context.Context, r *replica, now consensus.Leadership) consensus.Leadership {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	served := make(chan error, 1)
	go func() { served <- d.serveTerm(ctx, r, now.Term) }()
	for {
		select {
		case next := <-r.Leadership():
			if next == now {
				continue
			}
			cancel()
			<-served
			d.redirect()
			return next
		case <-served:
			d.redirect()
			return d.giveUpLead(ctx, r, now)
		}
	}
}

// giveUpLead has somebody else lead.
func (d *daemon) giveUpLead(ctx context.Context, r *replica, now consensus.Leadership) consensus.Leadership {
	if ctx.Err() != nil {
		return consensus.Leadership{}
	}
	if r.TransferLeadership(ctx) == nil {
		return consensus.Leadership{}
	}
	select {
	case <-ctx.Done():
	case next := <-r.Leadership():
		return next
	case <-time.After(leadAgain):
	}
	return now
}

func (d *daemon) serveTerm(ctx context.Context, r *replica, term uint64) error {
	own := d.trust.Key.ID()
	readings := append(d.clocks(), clocks.Reading{Node: own, Voter: true, Shows: d.shows()})
	if v := clocks.Judge(readings); len(readings) > 1 && v.Sure && v.Off[own] != 0 {
		return arbiter.ErrClock
	}
	if err := d.found(ctx, r); err != nil {
		return err
	}
	d.world.trace.note(d.name, "serves term %d", term)
	err := arbiter.Serve(ctx, arbiter.Config{
		Trust: d.trust, Boot: d.boot, Store: r, Port: d.port, Random: d.newSource(fmt.Sprint("term", term)),
		Now: d.now, Wall: d.wall, Log: d.log(), Answers: d.answers, Clocks: d.clocks, Trunk: newTrunk,
		Serving: func(a *arbiter.Arbiter) {
			if a == nil {
				d.serving.Store(0)
				return
			}
			d.world.watch.serves(d, r, term)
			d.serving.Store(term)
			d.heed(own)
		},
	}, term)
	d.world.trace.note(d.name, "ends term %d", term)
	return err
}

// found commits the first commands of the mesh, once.
func (d *daemon) found(ctx context.Context, r *replica) error {
	founded := false
	r.View(func(s *registry.State) { founded = len(s.Nodes) > 0 })
	for _, c := range d.world.mesh.commands {
		if founded {
			break
		}
		result, err := r.Propose(ctx, c)
		if err = errors.Join(err, result.Err()); err != nil {
			return err
		}
	}
	return nil
}

// answers says whether the replica of another server answers.
func (d *daemon) answers(id identity.NodeID) bool { return d.hears(d.world.memberOf(id)) }

// hears reports whether what a member says comes here, and the other way round.
func (d *daemon) hears(n *member) bool {
	net := d.world.net
	return n != nil && n.daemon != nil && n.daemon.runs() && net.open(d.host, n.host) && net.open(n.host, d.host)
}

// shows is this host's wall clock less its boot time.
func (d *daemon) shows() time.Duration { return time.Duration(d.wall().UnixNano()) - d.now() }

// clocks is what the others say of theirs, who can be asked.
func (d *daemon) clocks() (all []clocks.Reading) {
	for _, n := range d.world.mesh.members {
		if n != d.member && d.hears(n) {
			all = append(all, clocks.Reading{Node: n.key.ID(), Voter: true, Shows: time.Duration(n.daemon.wall().UnixNano()) - d.now()})
		}
	}
	return all
}

// memberOf is the node with an id; nil where there is none.
func (w *World) memberOf(id identity.NodeID) *member {
	for _, n := range w.mesh.members {
		if n.key.ID() == id {
			return n
		}
	}
	return nil
}
