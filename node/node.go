// Package node puts the parts together: it builds every part of a member or of
// a client, starts them in one visible order, and stops them in the reverse
// order. It owns that order, the operator's operations, and the steps by which
// a host becomes a member. It does not own what the parts do.
package node

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus"
	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/mesh"
	"github.com/meshcrypt/meshcrypt/node/agent"
	"github.com/meshcrypt/meshcrypt/node/arbiter"
	"github.com/meshcrypt/meshcrypt/node/datadir"
	"github.com/meshcrypt/meshcrypt/node/descriptors"
	"github.com/meshcrypt/meshcrypt/node/host"
	"github.com/meshcrypt/meshcrypt/node/load"
	"github.com/meshcrypt/meshcrypt/node/mirror"
	"github.com/meshcrypt/meshcrypt/node/port"
	"github.com/meshcrypt/meshcrypt/node/protocol"
	"github.com/meshcrypt/meshcrypt/node/scheduler"
	"github.com/meshcrypt/meshcrypt/node/trust"
)

// ErrLeft is how Run ends when the node is no longer a member.
var ErrLeft = errors.New("node: this host has left the mesh")

// RunConfig is what a member's daemon is started with.
type RunConfig struct {
	DataDir string
	Log     *slog.Logger
	Version string
	// BeginAnew replaces this process by a fresh one, at once and without a goodbye. It does
	// not return. Either the machine was cloned or restored, so every key in this process is
	// in use elsewhere, or was already; or the fresh one is to stand aside (see Aside), and a
	// part of this one does not end.
	BeginAnew func(aside bool)
	// Aside says that another host runs with this node's key: it stands aside from the
	// start.
	Aside bool

	endWithin time.Duration // zero: EndWithin; tests shorten it
}

// Node is one member's daemon. Its fields are set once, in the order in which
// Run starts the parts.
type Node struct {
	config  RunConfig
	started time.Time
	boot    identity.BootID
	dir     *datadir.Dir
	self    datadir.Node
	trust   *trust.Trust
	meter   *meter
	mbit    uint32
	exposed bool         // strangers reach the inside interface; at the start, see keepOwn
	own     []netip.Addr // at the start, see keepOwn
	forward *forwarding
	agent   *agent.Agent
	port    *port.Port
	gossip  *mesh.Mesh
	faults  hostFaults
	copier  *mirror.Copier                  // of the flows of egresses that this node stands behind
	store   atomic.Pointer[consensus.Raft]  // nil while this node keeps no log
	arbiter atomic.Pointer[arbiter.Arbiter] // nil unless this node leads
	link    arbiterLink
	members memberList
	wall    func() time.Time // that certificates are judged by
	clocks  timekeeping
	apart   apart
	memory  memory
	room    func(path string) error // why nothing more fits on the disk of a directory
	reserve *descriptors.Reserve
	lacks   func(now time.Duration) error // why this process can open nothing more
	lack    atomic.Pointer[string]        // the same, as it is told
	editing sync.Mutex                    // held by an operation that changes what it read of the registry
	kept    chan struct{}                 // closed when this node starts to keep the log
	// replicas are the others that keep it.
	replicas replicas
	left     chan string   // why this node is a member no more
	gone     chan struct{} // closed with it
	broken   chan error    // what of this host the daemon cannot go on without
	goneOne  sync.Once
	over     chan struct{} // closed when another process has this node's key
	overOne  sync.Once
	group    sync.WaitGroup
	running  running
}

// memberList is the members as last told by an arbiter. It outlives arbiters
// and restarts; it is a way to find the mesh, not an authority.
type memberList struct {
	mu    sync.Mutex // protects what follows
	rows  []protocol.NodeRow
	fence protocol.Fence
	key   []byte                   // gossip key
	admit map[identity.NodeID]bool // voters about to add this node
}

// Run is a member's daemon until ctx ends. It needs the data directory that
// Found or Join wrote.
func Run(ctx context.Context, config RunConfig) error {
	scheduler.Seat(0)              // there may be one CPU only
	descriptors.Raise(Descriptors) // before anybody takes a share of them
	reserve := descriptors.SetAside()
	dir, err := datadir.Open(config.DataDir)
	if err != nil {
		return err
	}
	defer dir.Close()
	n, err := newNode(config, dir, reserve)
	if err != nil {
		return err
	}
	return n.live(ctx)
}

// newNode is the node of a data directory, of which nothing runs yet.
func newNode(config RunConfig, dir *datadir.Dir, reserve *descriptors.Reserve) (*Node, error) {
	n := &Node{config: config, started: time.Now(), wall: wallClock(), room: roomOn, reserve: reserve, lacks: reserve.Look, dir: dir,
		kept: make(chan struct{}), left: make(chan string, 1), gone: make(chan struct{}), broken: make(chan error, 1), over: make(chan struct{})}
	rand.Read(n.boot[:])
	return n, n.remember()
}

// live is what a daemon does, from its parts to what is left to do without them.
func (n *Node) live(ctx context.Context) error {
	err := errSuperseded
	if !n.config.Aside {
		err = n.runAll(ctx)
	}
	stuck := errors.Is(err, ErrStuck)
	switch {
	case !errors.Is(err, errSuperseded):
	case !stuck:
		err = n.standAside(ctx)
	case ctx.Err() == nil:
		n.config.BeginAnew(true) // a process that may carry something still is not aside
	}
	if !errors.Is(err, ErrLeft) {
		return err
	}
	if failed := n.afterwards("forgetting the membership", n.dir.Forget); failed != nil {
		return failed
	}
	if stuck {
		err = errors.Join(err, n.giveBack())
	}
	return err
}

// runAll runs the parts, and hears all the while whether this machine is the one it was.
// Whatever ends the daemon, its parts have so long to end.
func (n *Node) runAll(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	return n.running.within(ctx, n.endWithin(), n.config.Log, func() error {
		defer n.group.Wait()
		defer cancel()
		n.goDo("calm the monitor", func() { _ = scheduler.KeepMonitorCalm(ctx) }) // what it saves is no reason to fail
		n.goDo("watch for clones", func() { n.watchGeneration(ctx) })             // before there is a key
		err := n.run(ctx, cancel)
		n.running.endsFor(err)
		return err
	})
}

// goDo has a part run until it ends by itself; the group waits for it.
func (n *Node) goDo(part string, does func()) { n.group.Go(func() { n.running.do(part, does) }) }

// end ends a part that was opened. From then on the daemon is to end, also one that never
// came to serve, for the error that it then has: a part that hangs has so long as one
// that ends later.
func (n *Node) end(cancel func(), why *error, part string, does func()) {
	n.running.endsFor(*why)
	cancel()
	n.running.do(part, does)
}

// remember reads who this node is.
func (n *Node) remember() (err error) {
	if n.self, err = n.dir.Node(); err != nil {
		return err
	}
	keys, err := n.dir.Keys()
	if err != nil {
		return err
	}
	certificate, err := n.dir.Certificate()
	if err != nil {
		return err
	}
	members, err := n.dir.Members()
	if err != nil {
		return err
	}
	known, err := readKnown(n.dir, n.config.Log)
	if err != nil {
		return err
	}
	if err := n.dir.SaveKnown(known); err != nil { // takes its place on the disk while there is some
		n.config.Log.Warn("no room is set aside for the fence", "error", err)
	}
	n.clocks.doubted = make(chan protocol.NodeRow, 1)
	n.memory.known, n.memory.saved = known, known
	n.memory.changed, n.memory.due = make(chan struct{}, 1), make(chan struct{}, 1)
	n.members.rows, n.members.fence, n.members.key = members.Nodes, known.Fence, members.GossipKey
	n.self.Name = nameOf(members.Nodes, n.self.Index, n.self.Name) // an earlier build kept the one it asked for
	n.trust, err = trust.New(trust.Config{
		Cluster: n.self.Cluster, CA: n.self.CA, Certificate: certificate,
		Identity: keys.Identity, Wrap: keys.Wrap, Save: n.dir.SaveCertificate, Wall: n.wall,
	})
	return err
}

// run starts the parts: first what can fail for lack of permission or a free
// port, then the packet path, then everything that talks to others. They stop
// in the reverse order, the packet path last: it needs nobody.
func (n *Node) run(ctx context.Context, cancel func()) (err error) {
	n.meter = newMeter(n.self.Capacity, n.config.Log)
	n.mbit = load.Calibrate(CalibrateFor, n.self.Capacity)
	if n.port, err = port.Listen(n.self.Listen, n.reserve, n.config.Log); err != nil {
		return err
	}
	defer n.end(cancel, &err, "TCP port", func() { _ = n.port.Close() }) // what is left of it ends with the process
	if n.exposed, err = n.judgeInside(); err != nil {
		return err
	}
	n.sayInside(n.exposed)
	if n.forward, err = openForwarding(n.self, n.exposed, n.dir, n.config.Log, n.fail); err != nil {
		return err
	}
	defer n.end(cancel, &err, "packet path", func() { err = errors.Join(err, n.forward.close(n.hasLeft())) })
	if n.own, err = n.ownAddresses(); err != nil {
		return err
	}
	n.copier = n.newCopier()
	n.newAgent()
	if err := n.forward.start(n.agent); err != nil {
		return err
	}
	if err := n.openGossip(); err != nil {
		return err
	}
	defer n.end(cancel, &err, "goodbye of gossip", n.closeGossip)
	n.serveClock() // voters that start ask each other before they vote
	if err := n.openStoreIfKept(); err != nil {
		return err
	}
	defer n.end(cancel, &err, "log", n.closeStore)
	operator, err := n.openOperator()
	if err != nil {
		return err
	}
	defer n.end(cancel, &err, "operator's socket", operator)
	n.config.Log.Info("node is running", "name", n.self.Name, "node", n.trust.Key.ID().Short(),
		"listen", n.self.Listen, "version", n.config.Version)
	return n.serve(ctx, cancel)
}

// serve runs the loops until ctx ends, the node has left, or a part failed.
func (n *Node) serve(ctx context.Context, cancel func()) error {
	defer n.group.Wait()
	defer cancel()
	n.relayStrangers(ctx)
	n.serveFlows(ctx)
	n.takeStreams()
	for part, loop := range map[string]func(context.Context){
		"agent": n.agent.Run, "certificate": n.keepCertificate, "gossip": n.keepGossip, "replicas": n.keepReaching,
		"addresses": n.keepOwn, "gateway": n.forward.keep, "acquaintances": n.keepAcquaintances, "copies of flows": n.copier.Run,
		"faults": n.keepFaults, "clocks": n.keepClocks, "members": n.keepMembers, "disk": n.keepDisk,
		"descriptors": n.keepDescriptors, "refusals": n.keepRefusals, "heap": n.keepHeap,
	} {
		n.goDo(part, func() { loop(ctx) })
	}
	failed := make(chan error, 1)
	n.goDo("lead", func() { failed <- n.keepLeading(ctx) })
	err := n.lasts(ctx, failed)
	n.running.endsFor(err)
	return err
}

// lasts waits until there is a reason to end, which it returns; nil: it was told to.
func (n *Node) lasts(ctx context.Context, failed <-chan error) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-failed:
		return err
	case err := <-n.broken:
		return fmt.Errorf("%w; the daemon ends, so that whoever supervises it starts it again", err)
	case <-n.over:
		select {
		case <-ctx.Done():
		case <-time.After(SupersededLinger):
		}
		return errSuperseded
	case <-n.gone:
		reason := <-n.left
		n.config.Log.Info("this host is a member no more", "reason", reason)
		n.left <- reason // for close
		return ErrLeft
	}
}

// fail ends the daemon for want of a part of this host; the first reason counts.
func (n *Node) fail(err error) {
	select {
	case n.broken <- err:
	default:
	}
}

// watchGeneration hears when this machine is cloned or restored. Prekeys, traffic
// keys, and those of every TLS connection are then in two places, with the same
// counters (I2): nothing of this process is worth keeping, and its goodbyes would
// count too.
func (n *Node) watchGeneration(ctx context.Context) {
	err := host.WatchGeneration(ctx, func() {
		n.config.Log.Warn("this machine was cloned or restored: all keys are dropped, and the node begins anew")
		n.config.BeginAnew(false)
	})
	if err != nil {
		n.config.Log.Warn("it would not be noticed if this machine were cloned or restored", "error", err)
	}
}

func (n *Node) hasLeft() bool { return len(n.left) > 0 }

// newAgent wires the obedient half.
func (n *Node) newAgent() { n.agent = agent.New(n.agentConfig(), n.members.fence) }

func (n *Node) agentConfig() agent.Config {
	return agent.Config{
		Key: n.trust.Key, Boot: n.boot, Start: n.countStart(), Index: n.self.Index,
		Port: n.self.Outer.Port(), InsidePort: insidePort(n.self),
		InsideMTU: func() int { return host.MTU(n.self.InsideIf) },
		Engine:    n.forward.engine, Gateway: n.forward.gateway, Host: n.forward.stack,
		Inside: n.forward.inside[0], Whole: n.forward.whole, Outer: n.forward.outer[0], Ledger: n.forward.ledger, KeyLog: keyLog(),
		Dial: n.dialArbiter, Facts: n.facts, Faults: n.faults.all, Load: n.load, Learned: n.learn, Told: n.told, Recovered: n.recovered, Standby: n.keepLog, Replica: n.replica, Own: n.own, Exposed: n.exposed,
		Follow: n.follow,
		Left:   n.leave, Fenced: n.saveFence, Superseded: n.superseded,
		Random: rand.Reader, Now: bootTime, Log: n.config.Log,
	}
}

// facts is what this node says of itself at the start of a stream.
func (n *Node) facts() protocol.NodeHello {
	return protocol.NodeHello{
		Boot: n.boot, Version: n.config.Version, Outer: n.self.Outer, Other: n.self.Other, Inside: n.self.Inside,
		Networks: n.insideNetworks(), Capacity: n.meter.capacity, Mbit: n.mbit, Standby: n.store.Load() != nil,
		Reads: registry.CommandVersion, Judges: true, Known: n.memory.proven(),
	}
}

// load is what the arbiter is told of this host twice a second.
func (n *Node) load() protocol.Load {
	return protocol.Load{Used: n.meter.load(), Wall: n.wall().UnixMilli(), Disk: n.diskSays(), Lack: n.lackSays()}
}

// insideNetworks are those whose addresses this host can be asked for. More than
// an arbiter takes are told as none, for who tells some is not asked for others.
func (n *Node) insideNetworks() []netip.Prefix {
	if n.self.InsideIf == "" {
		return nil // without a TUN none need be named
	}
	all, err := host.Networks(n.self.InsideIf)
	if err != nil || len(all) > registry.MaxNetworks {
		n.config.Log.Warn("the networks of the inside interface are not told", "interface", n.self.InsideIf, "networks", len(all), "error", err)
		return nil
	}
	return all
}

// leave is told by the arbiter, or by the operator when no arbiter can be.
func (n *Node) leave(reason string) {
	n.goneOne.Do(func() {
		n.left <- reason
		close(n.gone)
	})
}

// all returns the members as last heard.
func (m *memberList) all() []protocol.NodeRow {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]protocol.NodeRow(nil), m.rows...)
}

// find returns a member's row; its Index is 0 when there is none.
func (m *memberList) find(id identity.NodeID) protocol.NodeRow {
	for _, row := range m.all() {
		if row.ID == id {
			return row
		}
	}
	return protocol.NodeRow{}
}

// reach is where this node reaches a member.
func (n *Node) reach(row protocol.NodeRow) []netip.AddrPort { return row.ReachedFrom(n.self.Outers()) }

// insidePort is where nodes hand on to each other.
func insidePort(n datadir.Node) uint16 { return n.Outer.Port() + 2 }

// gossipPort is where nodes gossip.
func gossipPort(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr(), a.Port()+1) }

// keepCertificate renews at two thirds of the certificate's life, and tries
// again soon while nobody answers: a mesh that was off for a week starts with
// every certificate expired, its arbiter's own too.
func (n *Node) keepCertificate(ctx context.Context) {
	for ctx.Err() == nil {
		wait := RenewCheck
		if n.trust.Stale() {
			left := func() time.Duration { return n.trust.CertificateLeft().Round(time.Minute) }
			if err := n.renew(ctx); err != nil {
				n.config.Log.Warn("certificate not renewed", "left", left(), "error", err)
				wait = RenewRetry
			} else {
				n.config.Log.Info("certificate renewed", "left", left())
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

// openGossip joins the members' gossip: a hint, never an authority (I9).
func (n *Node) openGossip() error {
	known := func(id identity.NodeID) bool { return id == n.trust.Key.ID() || n.members.find(id).Index != 0 }
	gossip, err := mesh.Open(mesh.Config{
		Name: n.trust.Key.ID(), Cluster: n.self.Cluster, Bind: gossipPort(n.self.Listen),
		Advertise: gossipPort(n.self.Outer), Key: n.members.key, Known: known, Log: n.config.Log,
	})
	if err != nil {
		return fmt.Errorf("gossip: %w", err)
	}
	n.gossip = gossip
	return nil
}

func (n *Node) closeGossip() {
	// Whoever does not hear the goodbye finds out by itself.
	_ = n.gossip.Leave()
	_ = n.gossip.Close()
}

// keepGossip finds the others again and tells them this node's load.
func (n *Node) keepGossip(ctx context.Context) {
	ticker := time.NewTicker(GossipEvery)
	defer ticker.Stop()
	for {
		n.gossip.SetHint(mesh.Hint{
			Index: n.self.Index, Boot: n.boot, Capacity: n.meter.capacity,
			Load: uint32(n.meter.load() * float64(n.meter.capacity)),
		})
		if peers := n.lonely(); len(peers) > 0 {
			if err := n.gossip.Join(ctx, peers); err != nil {
				n.config.Log.Debug("gossip found nobody", "error", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// lonely lists members to join while gossip knows no other node alive.
func (n *Node) lonely() (peers []netip.AddrPort) {
	for _, member := range n.gossip.Hints() {
		if member.Node != n.trust.Key.ID() && member.State == mesh.Alive {
			return nil
		}
	}
	for _, row := range n.members.all() {
		if row.ID != n.trust.Key.ID() {
			for _, at := range n.reach(row) {
				peers = append(peers, gossipPort(at))
			}
		}
	}
	return peers
}
