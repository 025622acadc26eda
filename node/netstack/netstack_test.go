package netstack

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"

	"github.com/meshcrypt/meshcrypt/node/tun"
)

const testMTU = 1420

var (
	leaseA = [2]netip.Addr{netip.MustParseAddr("10.77.0.1"), netip.MustParseAddr("fd77::1")}
	leaseB = [2]netip.Addr{netip.MustParseAddr("10.20.0.1"), netip.MustParseAddr("fd20::1")}
)

// pair is two stacks with a cable between them: what one sends, the other is
// written, super-packets whole.
type pair struct {
	*testing.T
	a, b  *Stack
	super atomic.Int64 // packets that were larger than the MTU
	pumps sync.WaitGroup
}

func newPair(t *testing.T) *pair {
	t.Helper()
	p := &pair{T: t}
	p.a, p.b = p.stack(leaseA[:], "10.20.0.0/24", "fd20::/64"), p.stack(leaseB[:], "10.77.0.0/16", "fd77::/64")
	p.pumps.Go(func() { p.pump(p.a, p.b) })
	p.pumps.Go(func() { p.pump(p.b, p.a) })
	t.Cleanup(p.end)
	return p
}

func (p *pair) stack(leases []netip.Addr, prefixes ...string) *Stack {
	p.Helper()
	s, err := New(1, testMTU)
	if err != nil {
		p.Fatal(err)
	}
	var all []netip.Prefix
	for _, text := range prefixes {
		all = append(all, netip.MustParsePrefix(text))
	}
	if err := s.Configure(leases, all); err != nil {
		p.Fatal(err)
	}
	return s
}

func (p *pair) pump(from, to *Stack) {
	b := make([]byte, tun.HeaderLen+tun.MaxPacket)
	for {
		n, err := from.Queues()[0].Read(b)
		if err != nil {
			return
		}
		if n > tun.HeaderLen+testMTU {
			p.super.Add(1)
		}
		if err := to.Queues()[0].Write([][]byte{b[:tun.HeaderLen], b[tun.HeaderLen:n]}); err != nil {
			p.Error(err)
		}
	}
}

func (p *pair) end() {
	p.a.Close()
	p.b.Close()
	p.pumps.Wait()
}

func (p *pair) listen(at netip.AddrPort) *gonet.TCPListener {
	p.Helper()
	l, err := gonet.ListenTCP(p.b.stack, address(at), protocolOf(at.Addr()))
	if err != nil {
		p.Fatal(err)
	}
	return l
}

// TestTCPBothFamilies: bytes arrive as they left, in super-packets, and each
// half closes by itself.
func TestTCPBothFamilies(t *testing.T) {
	for _, to := range leaseB {
		p := newPair(t)
		l := p.listen(netip.AddrPortFrom(to, 80))
		echoed := make(chan error, 1)
		go func() { echoed <- echo(l) }()
		c, err := p.a.DialTCP(t.Context(), netip.AddrPortFrom(to, 80))
		if err != nil {
			t.Fatal(err)
		}
		sent := make([]byte, 16<<20)
		rand.Read(sent)
		go func() {
			c.Write(sent)
			c.CloseWrite()
		}()
		got, err := io.ReadAll(c)
		if err != nil || !bytes.Equal(got, sent) {
			t.Fatalf("%v: %d bytes of %d back, %v", to, len(got), len(sent), err)
		}
		if err := errors.Join(<-echoed, c.Close()); err != nil {
			t.Error(err)
		}
		if p.super.Load() == 0 {
			t.Error("not one super-packet")
		}
		full, bad := p.b.Dropped()
		t.Logf("%v: %d super-packets; the other end dropped %d, %d", to, p.super.Load(), full, bad)
	}
}

// echo answers when all has come: one that answers meanwhile may stall for ever,
// see README, Limits.
func echo(l net.Listener) error {
	defer l.Close()
	c, err := l.Accept()
	if err != nil {
		return err
	}
	b, err := io.ReadAll(c)
	if err == nil {
		_, err = c.Write(b)
	}
	return errors.Join(err, c.Close())
}

func TestDialFailures(t *testing.T) {
	p := newPair(t)
	if _, err := p.a.DialTCP(t.Context(), netip.MustParseAddrPort("8.8.8.8:53")); !errors.Is(err, ErrOutside) {
		t.Errorf("outside: %v", err)
	}
	if _, err := p.a.DialUDP(netip.MustParseAddrPort("8.8.8.8:53")); !errors.Is(err, ErrOutside) {
		t.Errorf("outside by UDP: %v", err)
	}
	if _, err := p.a.DialTCP(t.Context(), netip.AddrPortFrom(leaseB[0], 81)); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("refused: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := p.a.DialTCP(ctx, netip.MustParseAddrPort("10.20.0.99:80")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("silence: %v", err)
	}
	if err := p.a.Configure(leaseA[1:], []netip.Prefix{netip.MustParsePrefix("10.20.0.0/24")}); err != nil {
		t.Fatal(err)
	}
	if _, err := p.a.DialTCP(t.Context(), netip.AddrPortFrom(leaseB[0], 80)); !errors.Is(err, unix.ENETUNREACH) && !errors.Is(err, unix.EHOSTUNREACH) {
		t.Errorf("no lease of the family: %v", err)
	}
}

func TestUDP(t *testing.T) {
	for i, v6 := range []bool{false, true} {
		p := newPair(t)
		server, err := p.b.OpenUDP(v6)
		if err != nil {
			t.Fatal(err)
		}
		at := netip.AddrPortFrom(leaseB[i], uint16(server.LocalAddr().(*net.UDPAddr).Port))
		client, err := p.a.DialUDP(at)
		if err != nil {
			t.Fatal(err)
		}
		for _, message := range []string{"one", "two"} {
			client.Write([]byte(message))
			b := make([]byte, 100)
			n, from, err := server.ReadFrom(b)
			if err != nil || string(b[:n]) != message {
				t.Fatalf("%q, %v", b[:n], err)
			}
			server.WriteTo([]byte(message+" back"), from)
			if n, err = client.Read(b); err != nil || string(b[:n]) != message+" back" {
				t.Fatalf("%q, %v", b[:n], err)
			}
		}
	}
}

// TestTryRead: it does not wait, and knows the end.
func TestTryRead(t *testing.T) {
	s, err := New(1, testMTU)
	if err != nil {
		t.Fatal(err)
	}
	q, b := s.Queues()[0], make([]byte, tun.HeaderLen+tun.MaxPacket)
	if n, err := q.TryRead(b); n != 0 || err != nil {
		t.Errorf("%d bytes of a stack that said nothing, %v", n, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := q.TryRead(b); !errors.Is(err, tun.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestMTU(t *testing.T) {
	p := newPair(t)
	if err := errors.Join(p.a.SetMTU(1280), p.a.SetMTU(tun.MaxPacket)); err != nil {
		t.Error(err)
	}
	for _, bad := range []int{0, tun.MinMTU - 1, tun.MaxPacket + 1} {
		if err := p.a.SetMTU(bad); !errors.Is(err, ErrConfig) {
			t.Errorf("MTU %d: %v", bad, err)
		}
	}
}

// TestLimits: a queue that nobody reads holds so many packets and no more, and
// a stack takes so many leases and prefixes.
func TestLimits(t *testing.T) {
	s, err := New(1, testMTU)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Configure(leaseA[:], []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}); err != nil {
		t.Fatal(err)
	}
	c, err := s.DialUDP(netip.MustParseAddrPort("10.1.1.1:9"))
	if err != nil {
		t.Fatal(err)
	}
	for range MaxQueued + 10 {
		c.Write([]byte{1}) // the last ones find no room
	}
	if full, _ := s.Dropped(); s.link.queues[0].waiting != MaxQueued || full != 10 {
		t.Errorf("%d wait, %d dropped", s.link.queues[0].waiting, full)
	}
	if err := s.Configure(make([]netip.Addr, MaxLeases+1), nil); !errors.Is(err, ErrConfig) {
		t.Errorf("leases: %v", err)
	}
	if err := s.Configure(nil, make([]netip.Prefix, MaxPrefixes+1)); !errors.Is(err, ErrConfig) {
		t.Errorf("prefixes: %v", err)
	}
	for _, queues := range []int{0, MaxQueues + 1} {
		if _, err := New(queues, testMTU); !errors.Is(err, ErrConfig) {
			t.Errorf("%d queues: %v", queues, err)
		}
	}
}

// TestMaxQueuedBytes: large packets fill a queue before their number does.
func TestMaxQueuedBytes(t *testing.T) {
	s, err := New(1, tun.MaxPacket)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Configure(leaseA[:1], []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}); err != nil {
		t.Fatal(err)
	}
	c, err := s.DialUDP(netip.MustParseAddrPort("10.1.1.1:9"))
	if err != nil {
		t.Fatal(err)
	}
	for range MaxQueued {
		c.Write(make([]byte, 60_000))
	}
	q := s.link.queues[0]
	if full, _ := s.Dropped(); q.bytes > MaxQueuedBytes || q.bytes < MaxQueuedBytes-61_000 || full == 0 {
		t.Errorf("%d bytes wait, %d packets dropped", q.bytes, full)
	}
}

// TestNoGoroutineStays: a stack that was closed leaves nothing running.
func TestNoGoroutineStays(t *testing.T) {
	before := runtime.NumGoroutine()
	for range 3 {
		p := newPair(t)
		l := p.listen(netip.AddrPortFrom(leaseB[0], 80))
		if _, err := p.a.DialTCP(t.Context(), netip.AddrPortFrom(leaseB[0], 80)); err != nil {
			t.Error(err)
		}
		l.Close()
		p.end()
	}
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for deadline := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before; <-look.C {
		if time.Now().After(deadline) {
			stacks := make([]byte, 1<<16)
			t.Fatalf("%d goroutines, %d before\n%s", runtime.NumGoroutine(), before, stacks[:runtime.Stack(stacks, true)])
		}
	}
}

// FuzzWrite: whatever comes out of the tunnel, the stack stands, and what it
// does not take is counted.
func FuzzWrite(f *testing.F) {
	s, err := New(1, testMTU)
	if err != nil {
		f.Fatal(err)
	}
	defer s.Close()
	all := []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
	if err := s.Configure(leaseA[:], all); err != nil {
		f.Fatal(err)
	}
	for _, at := range leaseA {
		l, err := gonet.ListenTCP(s.stack, address(netip.AddrPortFrom(at, 80)), protocolOf(at))
		if err != nil {
			f.Fatal(err)
		}
		defer l.Close()
	}
	f.Add([]byte{0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0, 10, 20, 0, 1, 10, 77, 0, 1, 0x30, 0x39, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0})
	f.Add([]byte{0x45, 0, 0, 28, 0, 0, 0x20, 0, 64, 17, 0, 0, 10, 20, 0, 1, 10, 77, 0, 1, 0x30, 0x39, 0, 53, 0, 8, 0, 0})
	f.Add(append([]byte{0x60, 0, 0, 0, 0, 8, 58, 64}, make([]byte, 40)...))
	f.Add([]byte{0x4f})
	seed(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := s.Queues()[0].Write([][]byte{b}); err != nil {
			t.Fatal(err)
		}
	})
}

// seed adds what another stack sends to that one: a SYN and a datagram of each
// family, whole, cut short, and with a checksum that is wrong.
func seed(f *testing.F) {
	other, err := New(1, testMTU)
	if err != nil {
		f.Fatal(err)
	}
	defer other.Close()
	all := []netip.Prefix{netip.MustParsePrefix("10.77.0.0/16"), netip.MustParsePrefix("fd77::/64")}
	if err := other.Configure(leaseB[:], all); err != nil {
		f.Fatal(err)
	}
	ctx, cancel := context.WithCancel(f.Context())
	var dials sync.WaitGroup
	for _, to := range leaseA {
		dials.Go(func() { other.DialTCP(ctx, netip.AddrPortFrom(to, 80)) })
		if c, err := other.DialUDP(netip.AddrPortFrom(to, 9)); err == nil {
			c.Write([]byte("hello"))
		}
	}
	for range 2 * len(leaseA) {
		b := make([]byte, tun.HeaderLen+tun.MaxPacket)
		n, err := other.Queues()[0].Read(b)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b[:n])
		f.Add(b[:n-1])
		f.Add(append(make([]byte, tun.HeaderLen), b[tun.HeaderLen:n]...)) // its checksum is still to be made
	}
	cancel()
	dials.Wait()
}
