package sim

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/crypto/vault"
	"github.com/meshcrypt/meshcrypt/mesh/link"
	"github.com/meshcrypt/meshcrypt/node/admit"
	"github.com/meshcrypt/meshcrypt/node/agent"
	"github.com/meshcrypt/meshcrypt/node/dataplane"
	"github.com/meshcrypt/meshcrypt/node/gateway"
	"github.com/meshcrypt/meshcrypt/node/pages"
	"github.com/meshcrypt/meshcrypt/node/port"
	"github.com/meshcrypt/meshcrypt/node/protocol"
	"github.com/meshcrypt/meshcrypt/node/trust"
	"github.com/meshcrypt/meshcrypt/node/tun/tuntest"
)

// member is a node: its host, its disk, and its present daemon.
type member struct {
	*host
	world *World
	index identity.Index
	key   identity.Key
	wrap  vault.Recipient

	mu       sync.Mutex     // protects the disk, which outlives a daemon
	fence    protocol.Fence // the highest that was saved
	known    *protocol.Known
	rows     []protocol.NodeRow // the members, as last heard
	keepsLog bool
	backup   *disk
	starts   uint64 // so far; the driver's

	daemon *daemon // the present one, or the last
}

// daemon is one process of a member, put together as package node does it.
type daemon struct {
	*process
	member    *member
	boot      identity.BootID
	trust     *trust.Trust
	port      *port.Port
	device    *tuntest.Device
	engine    *dataplane.Engine
	gateway   *gateway.Gateway
	agent     *agent.Agent
	replica   atomic.Pointer[replica] // nil while it keeps no log
	link      arbiterLink
	serving   atomic.Uint64       // the term; 0: none
	obeys     protocol.Fence      // the driver's
	holding   map[netip.Addr]bool // the driver's
	announces map[netip.Addr]bool // the driver's
	wish      func()              // of an arbiter: keep the log
	cancel    context.CancelFunc
	running   sync.WaitGroup
}

// start begins a daemon.
func (n *member) start(keepsLog bool) {
	d := &daemon{process: n.host.start(n.world), member: n, holding: make(map[netip.Addr]bool), announces: make(map[netip.Addr]bool)}
	n.daemon = d
	n.starts++
	random := d.newSource("boot")
	d.trust = n.newTrust(d.process)
	_, _ = random.Read(d.boot[:])
	d.port = port.On(d.listenTCP(n.at()), nil, d.log())
	d.openPackets()
	ctx, cancel := context.WithCancel(context.Background())
	d.cancel = cancel
	d.relayClients(ctx)
	d.redirect()
	n.world.ok(d.engine.Start())
	d.running.Go(func() { d.agent.Run(ctx) })
	d.wish = func() { d.openLog(ctx) }
	if keepsLog {
		d.wish()
	}
	d.ended = func() { go d.close() }
	d.world.trace.note(n.name, "starts")
}

// openPackets makes the packet path over the world's sockets.
func (d *daemon) openPackets() {
	n, w := d.member, d.world
	outer, inside := d.listen(n.at()), d.listen(netip.AddrPortFrom(n.inside, insidePort))
	clock := func() int64 { return int64(d.now()) }
	var err error
	d.gateway, err = gateway.New(gateway.Config{Clock: clock, OpenPort: func(receive func([]byte, link.Train)) (link.Sender, error) {
		return d.openFor(d.freePort(n.outer), receive), nil
	}})
	w.ok(err)
	d.device = tuntest.New(1)
	d.engine, err = dataplane.New(dataplane.Config{
		Device: d.forward(d.device), Outer: []link.Socket{outer}, Inside: []link.Socket{inside}, Clock: clock, Forwarder: d.gateway,
		Marked: func(from link.Socket, path link.Path, m dataplane.Marker, b []byte) {
			d.agent.ReceiveMarked(from, path, m, b)
		},
		Stalled: func(gap duration) { d.agent.Stalled(gap) },
	})
	w.ok(err)
	d.agent = agent.New(agent.Config{
		Key: n.key, Boot: d.boot, Start: n.starts, Index: n.index, Port: outerPort, InsidePort: insidePort, InsideMTU: func() int { return 0 },
		Engine: d.engine, Gateway: d.gateway, Host: addresses{d}, Inside: inside, Outer: outer,
		Dial: d.dialArbiter, Facts: d.facts, Faults: func() []string { return nil },
		Load:    func() protocol.Load { return protocol.Load{Used: 0.1, Wall: d.wall().UnixMilli()} },
		Learned: d.learned, Follow: func(map[identity.NodeID][]registry.Part) {},
		Standby: func(protocol.Standby) {
			if d.replica.Load() == nil {
				d.wish()
			}
		}, Replica: d.stands, Told: d.told, Fenced: d.fenced,
		Superseded: func() { w.trace.note(n.name, "is superseded") }, Left: func(reason string) { w.trace.note(n.name, "has left: %s", reason) },
		Random: d.newSource("agent"), Now: d.now, Log: d.log(),
	}, n.floor())
}

// close frees what the process had.
func (d *daemon) close() {
	d.cancel()
	_ = d.engine.Close() // the twins cannot fail to close
	_ = d.gateway.Close()
	_ = d.port.Close()
	d.running.Wait()
}

func (p *process) freePort(a netip.Addr) netip.AddrPort {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ports++
	return netip.AddrPortFrom(a, 20000+p.ports)
}

// log is nobody's, as long as nobody reads the run.
func (p *process) log() *slog.Logger {
	if p.world.journal == nil {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(p.world.journal, &slog.HandlerOptions{Level: slog.LevelDebug})).With("at", p.name)
}

// floor is the fence on the disk.
func (n *member) floor() protocol.Fence {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.fence
}

// learned keeps the members on the disk.
func (d *daemon) learned(rows []protocol.NodeRow, f protocol.Fence, _ *protocol.View) {
	d.member.mu.Lock()
	d.member.rows = rows
	d.member.mu.Unlock()
	d.world.watch.fence(d, f)
}

// knows is the members on the disk: whoever joined has them from the beginning.
func (n *member) knows() (rows []protocol.NodeRow) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.rows != nil {
		return n.rows
	}
	for _, o := range n.world.mesh.members {
		rows = append(rows, protocol.NodeRow{ID: o.key.ID(), Index: o.index, Outer: o.at()})
	}
	return rows
}

// facts is what the node says of itself.
func (d *daemon) facts() protocol.NodeHello {
	n := d.member
	n.mu.Lock()
	defer n.mu.Unlock()
	return protocol.NodeHello{
		Boot: d.boot, Version: "sim", Outer: n.at(), Inside: n.inside, Capacity: 1000, Mbit: 1000, Standby: d.replica.Load() != nil,
		Reads: registry.CommandVersion, Judges: true, Known: n.known,
	}
}

// stands is what the arbiter is told of this node's copy of the log.
func (d *daemon) stands() *protocol.Replica {
	r := d.replica.Load()
	if r == nil {
		return nil
	}
	stats := r.Stats()
	return &protocol.Replica{Term: stats.Term, Applied: stats.Applied}
}

// told keeps how far the log is committed.
func (d *daemon) told(k protocol.Known) {
	n := d.member
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.known == nil || n.known.Less(k) {
		n.known = &k
	}
}

// fenced keeps a fence on the disk.
func (d *daemon) fenced(f protocol.Fence) error {
	d.gate()
	n := d.member
	n.mu.Lock()
	defer n.mu.Unlock()
	n.fence = f
	return nil
}

// addresses is agent.Host: which inside addresses a host answers for.
type addresses struct{ d *daemon }

// HoldAddress implements agent.Host.
func (a addresses) HoldAddress(at netip.Addr) error {
	a.d.gate()
	a.d.world.watch.holds(a.d, at, true)
	return nil
}

// ReleaseAddress implements agent.Host.
func (a addresses) ReleaseAddress(at netip.Addr) error {
	a.d.gate()
	a.d.world.watch.holds(a.d, at, false)
	return nil
}

// Hide implements agent.Host.
func (addresses) Hide(netip.Prefix, netip.Addr) error { return nil }

// Reach implements agent.Host.
func (addresses) Reach(pages.Addresses[*admit.Rule]) {}
