package node

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/crypto/pki"
	"github.com/meshcrypt/meshcrypt/mesh/link"
	"github.com/meshcrypt/meshcrypt/mesh/link/linktest"
	"github.com/meshcrypt/meshcrypt/node/admit"
	"github.com/meshcrypt/meshcrypt/node/agent"
	"github.com/meshcrypt/meshcrypt/node/control"
	"github.com/meshcrypt/meshcrypt/node/datadir"
	"github.com/meshcrypt/meshcrypt/node/dataplane"
	"github.com/meshcrypt/meshcrypt/node/gateway"
	"github.com/meshcrypt/meshcrypt/node/pages"
	"github.com/meshcrypt/meshcrypt/node/port"
	"github.com/meshcrypt/meshcrypt/node/protocol"
	"github.com/meshcrypt/meshcrypt/node/tun/tuntest"
)

// hangLimit ends a test that waits for what will not come.
const hangLimit = 30 * time.Second

// nodeMbit is the sealing capacity every node of the world claims.
const nodeMbit = 100

// nodeLoad is the load every node reports: little, but not the zero of silence.
const nodeLoad = 0.01

// worldPool is where the world's sessions have their leases: enough for a crowd.
var worldPool = netip.MustParsePrefix("10.77.0.0/18")

// world is a whole mesh in this process and without root: real registry, TCP
// ports, TLS, arbiter, agents, gateways and packet engines. Only the UDP
// network and the TUN devices are the in-memory twins.
type world struct {
	testing.TB
	sim     *linktest.Network
	lan     link.Socket // where path tests enter the inside network
	journal *journal
	founded Founded
	members []*member
	sockets atomic.Uint32 // UDP ports given out so far
	flows   int           // inner flows used so far
	unsure  bool          // what became of the last command
}

// member is one node of the world.
type member struct {
	*Node
	device *tuntest.Device
	ahead  atomic.Int64    // how far its clock is ahead, in nanoseconds
	wrong  atomic.Int64    // the same of its wall clock
	full   atomic.Bool     // its disk
	scarce atomic.Bool     // descriptors
	ctx    context.Context // of its loops
	cancel context.CancelFunc
	loops  sync.WaitGroup
	ended  bool
}

func (m *member) now() time.Duration { return bootTime() + time.Duration(m.ahead.Load()) }

// journal counts log lines by message: a test waits for what the parts say.
type journal struct {
	mu   sync.Mutex // protects said
	said map[string]int
}

func (*journal) Enabled(context.Context, slog.Level) bool { return true }
func (j *journal) WithAttrs([]slog.Attr) slog.Handler     { return j }
func (j *journal) WithGroup(string) slog.Handler          { return j }

func (j *journal) Handle(_ context.Context, r slog.Record) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.said[r.Message]++
	return nil
}

func (j *journal) count(message string) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.said[message]
}

// all is what was said so far, and how often.
func (j *journal) all() map[string]int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return maps.Clone(j.said)
}

// newWorld founds a mesh and has size-1 further nodes join it.
func newWorld(t testing.TB, size int) *world {
	t.Helper()
	t.TempDir() // the first one's end is the end of all: after the nodes'
	w := &world{TB: t, sim: linktest.New(1), journal: &journal{said: make(map[string]int)}}
	w.sockets.Store(20000)
	t.Cleanup(func() {
		for i := len(w.members) - 1; i >= 0; i-- {
			w.members[i].stop()
		}
	})
	w.found()
	for len(w.members) < size {
		w.join()
	}
	w.until("all nodes have a role and are known to each other", func() bool {
		for _, m := range w.members {
			if rows := m.Node.members.all(); len(rows) < size || slices.ContainsFunc(rows, func(r protocol.NodeRow) bool {
				return r.Is&dataRoles != dataRoles || !r.Up
			}) {
				return false
			}
		}
		return true
	})
	w.until("the arbiter has every node's load, and the prekeys said before it", func() bool {
		a := w.members[0].arbiter.Load()
		report, err := a.Report(w.Context())
		for _, m := range w.members {
			if err != nil || report.Load[m.trust.Key.ID()] != nodeLoad {
				return false
			}
		}
		return true
	})
	return w
}

func (w *world) log() *slog.Logger { return slog.New(w.journal) }

func (w *world) ok(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// until waits for a condition.
func (w *world) until(what string, holds func() bool) {
	w.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	end := time.NewTimer(hangLimit)
	defer end.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-end.C:
			w.Fatalf("never happened: %s\nlog: %v", what, w.journal.all())
		}
	}
}

// place is where member number n takes part: its own loopback address, and
// the founder's port.
func (w *world) place(n int) (Place, *port.Port) {
	w.Helper()
	number := uint16(0)
	if n > 1 {
		number = w.members[0].port.Addr().Port()
	}
	p, err := port.Listen(netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 77, byte(n)}), number), nil, w.log())
	w.ok(err)
	return Place{
		Name: "n" + string(rune('0'+n)), Listen: p.Addr(), Outer: p.Addr(), InsideIf: "sim", TUN: "sim",
		Inside: netip.AddrFrom4([4]byte{10, 0, 0, byte(n)}), Capacity: 1000,
	}, p
}

func (w *world) found() {
	w.Helper()
	place, p := w.place(1)
	dir, err := datadir.Open(w.TempDir())
	w.ok(err)
	w.founded, err = Found(dir, FoundConfig{
		Place: place, Pool: []netip.Prefix{worldPool},
		Egress: registry.EgressRouted, Prefixes: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")},
	}, time.Now())
	w.ok(err)
	w.start(dir, p)
	w.until("the founder serves", func() bool { return w.members[0].arbiter.Load() != nil })
}

// join has one more node join, as gateway and agent unless it is told otherwise.
func (w *world) join(roles ...string) {
	w.Helper()
	if len(roles) == 0 {
		roles = []string{"gateway", "agent"}
	}
	place, p := w.place(len(w.members) + 1)
	dir, err := datadir.Open(w.TempDir())
	w.ok(err)
	token, err := pki.ParseToken(w.founded.Token)
	w.ok(err)
	w.ok(Join(w.Context(), dir, JoinConfig{
		Place: place, Peers: []string{w.members[0].self.Outer.String()}, Token: token,
		Roles: roles,
	}, time.Now))
	w.start(dir, p)
}

// start runs a member's parts in the order of Node.run.
func (w *world) start(dir *datadir.Dir, p *port.Port) {
	w.Helper()
	m := &member{Node: &Node{
		config: RunConfig{Log: w.log(), Version: "test"}, dir: dir, port: p, started: time.Now(), mbit: nodeMbit,
		meter: &meter{capacity: 1000}, kept: make(chan struct{}), left: make(chan string, 1),
		gone: make(chan struct{}), over: make(chan struct{}),
	}}
	m.room = func(string) error {
		if m.full.Load() {
			return syscall.ENOSPC
		}
		return nil
	}
	m.lacks = func(time.Duration) error {
		if m.scarce.Load() {
			return syscall.EMFILE
		}
		return nil
	}
	m.wall = func() time.Time { return time.Now().Add(time.Duration(m.wrong.Load())) }
	w.members = append(w.members, m)
	rand.Read(m.boot[:])
	w.ok(m.remember())
	w.openPackets(m)
	m.serveClock()
	w.ok(m.openStoreIfKept())
	ctx, cancel := context.WithCancel(context.Background())
	m.ctx, m.cancel = ctx, cancel
	m.relayStrangers(ctx)
	m.loops.Go(func() { m.agent.Run(ctx) })
	m.loops.Go(func() { _ = m.keepLeading(ctx) })
	m.loops.Go(func() { m.keepReaching(ctx) })
	m.loops.Go(func() { m.keepClocks(ctx) })
	m.loops.Go(func() { m.keepMembers(ctx) })
	m.loops.Go(func() { m.keepDisk(ctx) })
	m.loops.Go(func() { m.keepDescriptors(ctx) })
}

// openPackets gives a member its packet path, over the twins.
func (w *world) openPackets(m *member) {
	w.Helper()
	f := &forwarding{log: m.config.Log}
	m.forward, m.device = f, tuntest.New(1)
	f.outer = []link.Socket{w.listen(m.self.Outer)}
	f.inside = []link.Socket{w.listen(netip.AddrPortFrom(m.self.Inside, insidePort(m.self)))}
	var err error
	clock := newPacketClock()
	f.gateway, err = gateway.New(gateway.Config{Clock: clock.now, OpenPort: func(receive func([]byte, link.Train)) (link.Sender, error) {
		return w.sim.Open(netip.AddrPortFrom(m.self.Outer.Addr(), uint16(w.sockets.Add(1))), receive)
	}})
	w.ok(err)
	f.engine, err = dataplane.New(dataplane.Config{
		Device: w.soundly(m), Outer: f.outer, Inside: f.inside, Clock: clock.now, Forwarder: f.gateway,
		Marked: func(from link.Socket, path link.Path, k dataplane.Marker, d []byte) {
			m.agent.ReceiveMarked(from, path, k, d)
		},
		Violation: f.violation, Stalled: func(gap time.Duration) { m.agent.Stalled(gap) },
	})
	w.ok(err)
	c := m.agentConfig()
	c.InsideMTU, c.Host, c.Now = func() int { return 0 }, fixedHost{}, m.now
	c.Faults = func() []string { return nil }
	c.Follow = func(map[identity.NodeID][]registry.Part) {}
	c.Load = func() protocol.Load {
		return protocol.Load{Used: nodeLoad, Wall: m.wall().UnixMilli(), Disk: m.diskSays(), Lack: m.lackSays()}
	}
	m.agent = agent.New(c, m.Node.members.fence)
	w.ok(f.start(m.agent))
}

func (w *world) listen(at netip.AddrPort) link.Socket {
	w.Helper()
	s, err := w.sim.Listen(at)
	w.ok(err)
	return s
}

// fixedHost has no moving addresses.
type fixedHost struct{}

func (fixedHost) HoldAddress(netip.Addr) error    { return nil }
func (fixedHost) ReleaseAddress(netip.Addr) error { return nil }

func (fixedHost) Reach(pages.Addresses[*admit.Rule]) {}

func (fixedHost) Hide(netip.Prefix, netip.Addr) error { return nil }

// stop ends a member at once, as kill -9 does for its peers.
func (m *member) stop() {
	if m.ended {
		return
	}
	m.ended = true
	m.cancel()
	_ = m.forward.close(false) // the twins cannot fail to close
	_ = m.port.Close()
	m.loops.Wait()
	m.closeStore()
	_ = m.dir.Close()
}

// registry reads the truth.
func (w *world) registry(read func(*registry.State)) {
	w.Helper()
	w.ok(w.members[0].view(read))
}

func (w *world) propose(c registry.Command) {
	w.Helper()
	w.until("a command is committed", func() bool { return w.proposed(c) })
}

// proposed tries once, at whoever leads. What is refused was never good, but where an
// earlier try may have been committed.
func (w *world) proposed(c registry.Command) bool {
	w.Helper()
	for _, m := range w.members {
		if m.ended || m.arbiter.Load() == nil {
			continue
		}
		_, err := m.propose(w.Context(), c)
		var refused *control.Error
		if errors.As(err, &refused) && refused.Code == control.CodeFailed && !w.unsure {
			w.Fatal(err)
		}
		w.unsure = err != nil && (refused == nil || refused.Code != control.CodeFailed)
		return !w.unsure
	}
	return false
}

func (w *world) byID(id identity.NodeID) *member {
	for _, m := range w.members {
		if m.trust.Key.ID() == id {
			return m
		}
	}
	return nil
}
