package masquerade

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
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/meshcrypt/meshcrypt/node/admit"
	"github.com/meshcrypt/meshcrypt/node/netstack"
	"github.com/meshcrypt/meshcrypt/node/pages"
	"github.com/meshcrypt/meshcrypt/node/tun"
)

const mtu = 1420

var (
	leases  = []netip.Addr{netip.MustParseAddr("10.77.0.9"), netip.MustParseAddr("fd77::9")}
	tester  = netip.MustParseAddr("10.77.0.2")
	offered = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
)

// reach gives both leases the same networks.
func reach(offered ...netip.Prefix) pages.Addresses[*admit.Rule] {
	rule := admit.Compile(offered, nil)
	return pages.At(map[netip.Addr]*admit.Rule{leases[0]: rule, leases[1]: rule})
}

// tunnel is a client's stack and an egress, with a cable between them.
type tunnel struct {
	*testing.T
	client, stack *netstack.Stack
	egress        *Egress
	pumps         sync.WaitGroup
	once          sync.Once
}

func newTunnel(t *testing.T) *tunnel {
	t.Helper()
	n := &tunnel{T: t}
	var errs [4]error
	n.client, errs[0] = netstack.New(1, mtu)
	n.stack, errs[1] = netstack.New(1, mtu)
	errs[2] = n.client.Configure(leases, []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")})
	n.egress, errs[3] = Start(n.stack, Config{From: netip.MustParseAddr("127.0.0.77"), Tests: []netip.Addr{tester}, InsidePort: 6486})
	if err := errors.Join(errs[:]...); err != nil {
		t.Fatal(err)
	}
	n.egress.Reach(reach(offered...))
	n.pumps.Go(func() { n.pump(n.client, n.stack) })
	n.pumps.Go(func() { n.pump(n.stack, n.client) })
	t.Cleanup(n.end)
	return n
}

func (n *tunnel) pump(from, to *netstack.Stack) {
	b := make([]byte, tun.HeaderLen+tun.MaxPacket)
	for {
		size, err := from.Queues()[0].Read(b)
		if err != nil {
			return
		}
		if err := to.Queues()[0].Write([][]byte{b[:size]}); err != nil {
			n.Error(err)
		}
	}
}

func (n *tunnel) end() {
	n.once.Do(func() {
		n.client.Close()
		n.stack.Close()
		n.egress.Close()
		n.pumps.Wait()
	})
}

// served is a TCP server that does one thing with each connection.
func (n *tunnel) served(at string, do func(*net.TCPConn)) netip.AddrPort {
	n.Helper()
	l, err := net.Listen("tcp", at)
	if err != nil {
		n.Skipf("no %s on this host: %v", at, err)
	}
	n.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go do(c.(*net.TCPConn))
		}
	}()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// silent is a port that answers nobody but the first few.
func (n *tunnel) silent() netip.AddrPort {
	n.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		n.Fatal(err)
	}
	n.Cleanup(func() { unix.Close(fd) })
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), unix.Listen(fd, 0)); err != nil {
		n.Fatal(err)
	}
	at, err := unix.Getsockname(fd)
	if err != nil {
		n.Fatal(err)
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(at.(*unix.SockaddrInet4).Port))
}

// TestTCP: bytes of both families arrive as they left, each direction ends by
// itself, and the destination sees this host's own address.
func TestTCP(t *testing.T) {
	for _, at := range []string{"127.0.0.1:0", "[::1]:0"} {
		n := newTunnel(t)
		seen := make(chan string, 1)
		to := n.served(at, func(c *net.TCPConn) {
			seen <- c.RemoteAddr().(*net.TCPAddr).IP.String()
			if b, err := io.ReadAll(c); err == nil { // all of it first, see README, Limits
				c.Write(b)
			}
			c.CloseWrite()
		})
		c, err := n.client.DialTCP(t.Context(), to)
		if err != nil {
			t.Fatal(err)
		}
		sent := make([]byte, 8<<20)
		rand.Read(sent)
		go func() {
			c.Write(sent)
			c.CloseWrite()
		}()
		got, err := io.ReadAll(c)
		if err != nil || !bytes.Equal(got, sent) {
			t.Fatalf("%v: %d bytes of %d back, %v", to, len(got), len(sent), err)
		}
		c.Close()
		if from := <-seen; to.Addr().Is4() && from != "127.0.0.77" {
			t.Errorf("the destination sees %s", from)
		}
		n.until("the flow has left", func() bool { return n.egress.Flows() == 0 })
	}
}

func (n *tunnel) until(what string, holds func() bool) {
	n.Helper()
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for deadline := time.Now().Add(10 * time.Second); !holds(); <-look.C {
		if time.Now().After(deadline) {
			n.Fatalf("never happened: %s", what)
		}
	}
}

// TestResetsArePassedOn, both ways: what broke off does not end like what is
// complete.
func TestResetsArePassedOn(t *testing.T) {
	n := newTunnel(t)
	ended := make(chan error, 1)
	to := n.served("127.0.0.1:0", func(c *net.TCPConn) {
		b := make([]byte, 1)
		_, err := c.Read(b)
		if err == nil && b[0] == 'r' {
			c.SetLinger(0)
			c.Close()
			return
		}
		if err == nil { // the reset may come with the byte, and take it along
			_, err = c.Read(b)
		}
		ended <- err
	})
	for _, first := range []string{"r", "w"} {
		c, err := n.client.DialTCP(t.Context(), to)
		if err != nil {
			t.Fatal(err)
		}
		c.Write([]byte(first))
		if first == "r" {
			if _, err := c.Read(make([]byte, 1)); err == nil || err == io.EOF {
				t.Errorf("a reset destination ended with %v", err)
			}
			continue
		}
		c.SetLinger(0)
		c.Close()
		if err := <-ended; !errors.Is(err, unix.ECONNRESET) {
			t.Errorf("a reset client ended with %v", err)
		}
	}
}

// TestRefusals: what is not offered, and what nobody listens at, is a reset.
func TestRefusals(t *testing.T) {
	n := newTunnel(t)
	closed := n.served("127.0.0.1:0", func(c *net.TCPConn) { c.Close() })
	for _, to := range []string{"192.0.2.1:80", "127.0.0.1:6486", "169.254.169.254:80", "127.0.0.1:1"} {
		if _, err := n.client.DialTCP(t.Context(), netip.MustParseAddrPort(to)); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("%s: %v", to, err)
		}
	}
	if got := n.egress.Refused(); got["not-offered"] != 3 || got["unreached"] != 1 {
		t.Errorf("%v", got)
	}
	n.egress.Reach(pages.Addresses[*admit.Rule]{})
	if _, err := n.client.DialTCP(t.Context(), closed); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("no more offered: %v", err)
	}
}

// TestUDP: datagrams pass both ways; a closed port is told, and remembered for
// a moment.
func TestUDP(t *testing.T) {
	n := newTunnel(t)
	server, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		b := make([]byte, 2000)
		for {
			size, from, err := server.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			server.WriteToUDPAddrPort(append(b[:size:size], " back"...), from)
		}
	}()
	at := server.LocalAddr().(*net.UDPAddr).AddrPort()
	c, err := n.client.DialUDP(at)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 2000)
	for _, message := range []string{"one", "two"} {
		c.Write([]byte(message))
		if size, err := c.Read(b); err != nil || string(b[:size]) != message+" back" {
			t.Fatalf("%q, %v", b[:size], err)
		}
	}
	if n.egress.Flows() != 1 {
		t.Errorf("%d flows", n.egress.Flows())
	}
	server.Close()
	c.Write([]byte("three"))
	n.until("the closed port is noticed", func() bool { return n.egress.Flows() == 0 })
	n.until("the client is told", func() bool {
		_, err := c.Write([]byte("four")) // the stack reports by the next call
		return err != nil
	})
}

// TestTesterReachesNodes: tests of the path reach the port where nodes listen,
// and are no flows of clients.
func TestTesterReachesNodes(t *testing.T) {
	n := newTunnel(t)
	to := netip.MustParseAddrPort("10.20.0.2:6486")
	if !n.egress.may(netstack.Flow{From: netip.AddrPortFrom(tester, 6486), To: to}) ||
		n.egress.may(netstack.Flow{From: netip.AddrPortFrom(leases[0], 6486), To: to}) {
		t.Error("only the tester may")
	}
	f := flow{Flow: netstack.Flow{From: netip.AddrPortFrom(tester, 6486), To: to}}
	if why := n.egress.enter(f); why != fine || n.egress.Flows() != 0 {
		t.Errorf("%v, %d flows", why, n.egress.Flows())
	}
	n.egress.table.leave(f)
}

func TestOffer(t *testing.T) {
	for _, c := range []struct {
		offer, to string
		may       bool
	}{
		{"10.20.0.0/16", "10.20.3.4", true},
		{"10.20.0.0/16", "10.21.3.4", false},
		{"0.0.0.0/0", "8.8.8.8", true},
		{"0.0.0.0/0", "127.0.0.1", false},
		{"0.0.0.0/0", "169.254.169.254", false},
		{"0.0.0.0/0", "0.0.0.0", false},
		{"0.0.0.0/0", "0.1.2.3", false},
		{"0.0.0.0/0", "224.0.0.1", false},
		{"0.0.0.0/0", "255.255.255.255", false},
		{"127.0.0.0/8", "127.0.0.1", true},
		{"169.254.169.254/32", "169.254.169.254", true},
		{"::/0", "2001:db8::1", true},
		{"::/0", "::1", false},
		{"::/0", "::ffff:127.0.0.1", false},
		{"::/0", "fe80::1", false},
		{"::1/128", "::1", true},
		{"127.0.0.0/8", "::ffff:127.0.0.1", false}, // no stack means that address
	} {
		var e Egress
		e.Reach(reach(netip.MustParsePrefix(c.offer)))
		f := netstack.Flow{From: netip.AddrPortFrom(leases[0], 1000), To: netip.AddrPortFrom(netip.MustParseAddr(c.to), 80)}
		if e.may(f) != c.may {
			t.Errorf("%s offered: %s is %v", c.offer, c.to, !c.may)
		}
	}
}

// TestLimits: one flow too many is refused, of one client and of all.
func TestLimits(t *testing.T) {
	var tb table
	tb.open()
	nth := func(client byte, port int) flow {
		return flow{Flow: netstack.Flow{From: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 77, 1, client}), uint16(port))}}
	}
	for i := range MaxFlows {
		if why := tb.enter(nth(byte(i/MaxFlowsOfClient), i%MaxFlowsOfClient)); why != fine {
			t.Fatalf("flow %d: %v", i, why)
		}
		if i == MaxFlowsOfClient-1 {
			if why := tb.enter(nth(0, MaxFlowsOfClient)); why != tooManyOfClient {
				t.Errorf("one too many of a client: %v", why)
			}
		}
	}
	if why := tb.enter(nth(9, 1)); why != tooMany {
		t.Errorf("one too many: %v", why)
	}
	if why := tb.enter(nth(0, 0)); why != twice {
		t.Errorf("the same twice: %v", why)
	}
	tb.leave(nth(0, 0))
	if why := tb.enter(nth(9, 1)); why != fine {
		t.Errorf("after one left: %v", why)
	}
}

// TestUnansweredHarmNobody: a client that asks for many hosts that do not answer
// uses its own share up, and keeps no other connection from beginning.
func TestUnansweredHarmNobody(t *testing.T) {
	n := newTunnel(t)
	ctx, cancel := context.WithCancel(t.Context())
	var asking sync.WaitGroup
	defer asking.Wait()
	defer cancel()
	const many = 600 // of the client's 1,024
	to := n.silent()
	for range many {
		asking.Go(func() {
			if c, err := n.client.DialTCP(ctx, to); err == nil {
				c.Close()
			}
		})
	}
	n.until("they are asked for", func() bool { return n.egress.Flows() >= many-10 })
	soon, end := context.WithTimeout(ctx, 5*time.Second)
	defer end()
	c, err := n.client.DialTCP(soon, n.served("127.0.0.1:0", func(c *net.TCPConn) { c.Close() }))
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

// TestIdle: silence ends a flow of datagrams, and a datagram puts it off.
func TestIdle(t *testing.T) {
	ended := false
	x := &exchange{end: func() { ended = true }}
	x.last.Store(time.Now().Add(-IdleUDP / 2).UnixNano())
	if x.judge(); ended {
		t.Error("ended before its time")
	}
	x.last.Store(time.Now().Add(-IdleUDP).UnixNano())
	if x.judge(); !ended {
		t.Error("did not end")
	}
}

// TestClose: flows of all kinds end with the egress, also those whose
// destination never answers, and nothing stays behind.
func TestClose(t *testing.T) {
	before := runtime.NumGoroutine()
	for range 3 {
		n := newTunnel(t)
		to := n.served("127.0.0.1:0", func(c *net.TCPConn) { io.Copy(io.Discard, c) })
		c, err := n.client.DialTCP(t.Context(), to)
		if err != nil {
			t.Fatal(err)
		}
		u, err := n.client.DialUDP(to)
		if err != nil {
			t.Fatal(err)
		}
		u.Write([]byte("hello"))
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		n.egress.Reach(reach(netip.MustParsePrefix("192.0.2.0/24")))
		n.client.DialTCP(ctx, netip.MustParseAddrPort("192.0.2.1:80"))
		cancel()
		n.end()
		if size := n.egress.Flows(); size != 0 {
			t.Errorf("%d flows after the end", size)
		}
		c.Close()
	}
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for deadline := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before+3; <-look.C { // the servers'
		if time.Now().After(deadline) {
			stacks := make([]byte, 1<<16)
			t.Fatalf("%d goroutines, %d before\n%s", runtime.NumGoroutine(), before, stacks[:runtime.Stack(stacks, true)])
		}
	}
}
