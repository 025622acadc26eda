package gateway

import (
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/mesh/link"
	"github.com/meshcrypt/meshcrypt/mesh/link/linktest"
)

// manyClients is what one gateway is to have at one node.
const manyClients = 16_000

// entries is how many there are in a directory of /proc/self.
func entries(t testing.TB, of string) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/" + of)
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

// heap is how much memory is in use.
func heap() int64 {
	runtime.GC()
	runtime.GC() // what a pool kept over the first
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// TestManyClients: 16,000 of them have slices at one node. Each has a port that no
// other has, packets go through all of them, both ways, and what all that takes is given
// back when they have gone.
func TestManyClients(t *testing.T) {
	if !linktest.Isolate(t) { // nobody else takes ports
		return
	}
	if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil || limit.Cur < manyClients+500 {
		t.Fatalf("this process may open %d descriptors and needs %d: raise the limit (ulimit -Hn, LimitNOFILE)", limit.Cur, manyClients+500)
	}
	var now atomic.Int64
	r := newReal(t, Config{Clock: now.Load})
	buffer := make([]byte, link.MaxTrain+1024)
	r.enter(r.host(manyClients), 1, buffer) // what one client takes is there
	before, threads, descriptors := heap(), entries(t, "task"), entries(t, "fd")

	ports := r.fill(&now, manyClients, buffer)
	each := (heap() - before) / manyClients
	t.Logf("%d bytes for a row, %d threads more", each, entries(t, "task")-threads)
	if each > 2048 {
		t.Errorf("%d bytes for a row, want at most 2,048", each)
	}
	r.answerAll(ports, buffer)
	if s := r.g.Stats(); s.Rows != manyClients+1 || s.Confirmed != manyClients || s.Ports != manyClients+1 || s.Lost != 0 {
		t.Errorf("%+v", s)
	}
	if n := entries(t, "task"); n > threads+4*runtime.NumCPU() {
		t.Errorf("%d threads, %d before there were clients", n, threads)
	}
	now.Add(int64(IdleConfirmed) + 1)
	r.g.Tick()
	now.Add(int64(PortRest))
	r.g.Tick()
	if s := r.g.Stats(); s.Rows != 0 || s.Ports != 0 {
		t.Errorf("left of clients that are gone: %+v", s)
	}
	if n := entries(t, "fd"); n >= descriptors { // one client's went, too
		t.Errorf("%d descriptors, %d before there were clients", n, descriptors)
	}
	ports = nil
	if left := (heap() - before) / 1024; left > 256 {
		t.Errorf("%d KiB are kept for %d clients that are gone", left, manyClients)
	}
	if r.enter(r.host(0), 1, buffer); r.g.Stats().Ports != 1 {
		t.Error("the next client was not let in")
	}
}

// fill has so many clients enter, as many a second as a prefix may, and gives their ports.
// The node answers each, as it would.
func (r *real) fill(now *atomic.Int64, clients int, buffer []byte) (ports []netip.AddrPort) {
	r.Helper()
	seen := make(map[netip.AddrPort]bool, clients)
	for n := range clients {
		now.Add(int64(PortRestLeast) / PrefixRate)
		at := r.enter(r.host(n), uint32(1000+n), buffer)
		if seen[at] {
			r.Fatalf("client %d has the port of another: %v", n, at)
		}
		seen[at] = true
		ports = append(ports, at)
		row := r.g.table.find(&key{client: r.host(n), local: r.local, node: 2})
		row.answer(now.Load())
	}
	return ports
}

// answerAll has the node answer at every port, and waits until clients had all of it.
func (r *real) answerAll(ports []netip.AddrPort, buffer []byte) {
	r.Helper()
	for n, at := range ports {
		b := packetOf(uint32(n))
		if err := r.node.Send(b, len(b), link.Path{Remote: at}); err != nil {
			r.Fatal(err)
		}
		if _, err := r.client.Receive(buffer); err != nil {
			r.Fatal(err)
		}
	}
}

// TestUnusedPortsAreClosed: a port goes when no row of any node had it for PortRest, and
// what the nodes know of the others stays right.
func TestUnusedPortsAreClosed(t *testing.T) {
	r := newRig(t, Config{})
	r.now.Store(1)
	answered := func(node int, ports ...int) {
		for _, p := range ports {
			r.answer(p, nodeAt(node), packet(0, 100))
		}
	}
	for n := range 4 {
		r.send(client(n), packet(2, 100), 100)
	}
	for n := range 2 {
		r.send(client(n), packet(1, 100), 100)
	}
	answered(2, 0, 1, 2, 3)
	answered(1, 0, 1)
	r.now.Add(int64(IdleConfirmed))
	answered(2, 2)
	answered(1, 1)
	r.now.Add(1)
	r.g.Tick()
	r.now.Add(int64(PortRest) - 1)
	if r.g.Tick(); r.g.Stats().Ports != 4 || r.g.Stats().Rows != 2 {
		t.Fatalf("before they have rested: %+v", r.g.Stats())
	}
	r.now.Add(1)
	if r.g.Tick(); r.g.Stats().Ports != 2 {
		t.Fatalf("when they have rested: %+v", r.g.Stats())
	}
	for n, p := range r.ports {
		if want := n == 0 || n == 3; p.closed != want {
			t.Errorf("port %d is closed: %t, want %t", n, p.closed, want)
		}
	}
	for n := range 3 { // a port that the other node has, and two new ones
		for node := 1; node <= 2; node++ {
			if !r.send(client(10+n), packet(node, 100), 100) {
				t.Fatalf("client %d is refused at node %d: %+v", n, node, r.g.Stats())
			}
		}
	}
	if s := r.g.Stats(); s.Ports != 4 || s.Rows != 8 {
		t.Errorf("%+v, want 8 rows on 4 ports", s)
	}
	r.outer.sent = nil
	answered(1, 0, 1, 2, 3)
	answered(2, 0, 1, 2, 3)
	to := map[netip.AddrPort]int{}
	for _, s := range r.outer.sent {
		to[s.path.Remote]++
	}
	if len(to) != 5 || to[client(1)] != 1 || to[client(2)] != 1 || to[client(10)] != 2 || to[client(11)] != 2 || to[client(12)] != 2 {
		t.Errorf("answers went to %v", to)
	}
}

// TestPortsInUseCostNothing: each sweep looks at them all, and almost always finds none to close.
func TestPortsInUseCostNothing(t *testing.T) {
	m := &making{}
	for range 100 {
		m.ports = append(m.ports, &port{rows: map[identity.Index]*row{1: nil}})
	}
	if pieces := testing.AllocsPerRun(10, func() { m.idle(1 << 60) }); pieces != 0 {
		t.Errorf("a look makes %v pieces of memory", pieces)
	}
}

// TestNothingIsKeptOfIdleClients: of rows, ports, nodes and prefixes, though one client lives.
func TestNothingIsKeptOfIdleClients(t *testing.T) {
	const clients = 300
	r := newRig(t, Config{})
	r.now.Store(1)
	for n := range clients {
		r.send(client(n), packet(2, 100), 100)
		r.answer(n, nodeAt(2), packet(0, 100))
	}
	r.send(client(0), packet(1, 100), 100)
	r.now.Add(int64(IdleConfirmed) + 1)
	r.answer(0, nodeAt(1), packet(0, 100))
	r.g.Tick()
	r.now.Add(int64(PortRest))
	r.g.Tick()
	m := &r.g.make
	if len(m.ports) != 1 || cap(m.ports) > 8 || m.lanes[2] != nil || len(m.held) != 1 || len(m.buckets) != 0 || cap(m.oldest) != 0 {
		t.Errorf("%d ports (room for %d), %d nodes, %d prefixes, %d buckets, room for %d that wait",
			len(m.ports), cap(m.ports), len(m.lanes), len(m.held), len(m.buckets), cap(m.oldest))
	}
}
