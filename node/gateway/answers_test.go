package gateway

import (
	"net/netip"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/mesh/link"
)

// real is a gateway on the loopback device, its one node, and its clients, who all
// are one socket at as many addresses.
type real struct {
	testing.TB
	g                   *Gateway
	outer, node, client link.Socket
	local               netip.Addr
}

func newReal(t testing.TB, c Config) *real {
	r := &real{TB: t, local: netip.MustParseAddr("127.0.0.1")}
	group, err := link.NewGroup(runtime.NumCPU())
	if err != nil {
		t.Fatal(err)
	}
	c.OpenPort = func(receive func([]byte, link.Train)) (link.Sender, error) {
		return group.Open(netip.AddrPortFrom(r.local, 0), receive)
	}
	if r.g, err = New(c); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.g.Close(); err != nil {
			t.Error(err)
		}
		if err := group.Close(); err != nil {
			t.Error(err)
		}
	})
	r.outer, r.node, r.client = r.listen("127.0.0.1:0"), r.listen("127.0.0.2:0"), r.listen("0.0.0.0:0")
	r.g.Publish(NewNodes([]Node{{Index: 2, Outer: r.node.LocalAddr(), Alive: true}}))
	return r
}

// host is the n-th client; some 250 share a prefix.
func (r *real) host(n int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 1, byte(n / 250), byte(1 + n%250)}), r.client.LocalAddr().Port())
}

func (r *real) listen(at string) link.Socket {
	r.Helper()
	all, err := link.Listen(link.Config{Addr: netip.MustParseAddrPort(at)})
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { _ = all[0].Close() })
	return all[0]
}

// enter has a client make a row, and gives the inside port that its node is to answer.
func (r *real) enter(from netip.AddrPort, spi uint32, b []byte) netip.AddrPort {
	r.Helper()
	packet, sent := packetOf(spi), r.g.counters.forwarded.Load()
	r.g.Forward(packet, link.Train{Path: link.Path{Local: r.local, Remote: from}, Len: len(packet), Segment: len(packet)}, r.outer)
	if r.g.counters.forwarded.Load() == sent {
		r.Fatalf("the packet of %v was not forwarded: %+v", from, r.g.Stats())
	}
	t, err := r.node.Receive(b)
	if err != nil || t.Len != len(packet) {
		r.Fatalf("the node received %+v, %v", t, err)
	}
	return t.Path.Remote
}

// BenchmarkAnswers is the way of a node's answers to clients over real sockets: with
// one under way at a time, and with as many as fit in the queues.
func BenchmarkAnswers(b *testing.B) {
	for _, c := range []struct {
		name                        string
		clients, size, segment, fly int
	}{
		{"lone", 1, 100, 100, 1}, {"lone-train", 1, 45 * 1400, 1400, 1}, {"train", 1, 45 * 1400, 1400, 8},
		{"small", 1, 100, 100, 256}, {"small-64-clients", 64, 100, 100, 256}, {"train-64-clients", 64, 45 * 1400, 1400, 8},
	} {
		b.Run(c.name, func(b *testing.B) { benchAnswers(b, c.clients, c.size, c.segment, c.fly) })
	}
}

func benchAnswers(b *testing.B, clients, size, segment, fly int) {
	r := newReal(b, Config{Clock: func() int64 { return 1 }})
	buffer := make([]byte, link.MaxTrain+1024)
	var ports []netip.AddrPort
	for n := range clients {
		ports = append(ports, r.enter(r.host(n), uint32(1000+n), buffer))
	}
	window := make(chan struct{}, fly)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for got := 0; got < b.N; {
			t, err := r.client.Receive(buffer)
			if err != nil {
				b.Error(err)
				return
			}
			for range t.Len / size {
				<-window
				got++
			}
		}
	}()
	answer := make([]byte, size)
	for n := 0; n < size; n += segment {
		copy(answer[n:], packetOf(7)[:8])
	}
	b.SetBytes(int64(size))
	before := used()
	b.ResetTimer()
	for n := range b.N {
		window <- struct{}{}
		if err := r.node.Send(answer, segment, link.Path{Remote: ports[n%clients]}); err != nil {
			b.Fatal(err)
		}
	}
	<-done
	b.ReportMetric(float64(used()-before)/float64(b.N), "cpu-ns/op")
}

// used is the CPU time of this process: less noisy than time where others work too.
func used() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
