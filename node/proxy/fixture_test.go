package proxy

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"
)

// loopback is a Network of this host: what is 127.0.0.0/8 or ::1 is behind it,
// and it knows one name, and those below it.
type loopback struct{}

const knownName = "web.example"

func (loopback) DialTCP(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "tcp", to.String())
}

func (loopback) OpenUDP(v6 bool) (net.PacketConn, error) {
	if v6 {
		return net.ListenPacket("udp6", "[::1]:0")
	}
	return net.ListenPacket("udp4", "127.0.0.1:0")
}

func (loopback) Reaches(addr netip.Addr) bool { return addr.IsLoopback() }

func (loopback) Lookup(_ context.Context, name string) ([]netip.Addr, error) {
	switch _, parent, _ := strings.Cut(name, "."); {
	case parent == knownName:
		return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
	case name == knownName: // the first does not listen, and another is elsewhere
		return []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.IPv6Loopback(), netip.MustParseAddr("127.0.0.1")}, nil
	case name == "nobody.example":
		return nil, ErrNoNames
	}
	return nil, fmt.Errorf("%s: %w", name, ErrUnknownName)
}

// start serves a proxy for the life of a test, after which nothing of it runs.
func start(t *testing.T, credentials *Credentials) (server *Server, address string) {
	t.Helper()
	before := runtime.NumGoroutine()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server = Start(Config{Listener: listener, Network: loopback{}, Credentials: credentials, Log: slog.New(slog.DiscardHandler)})
	t.Cleanup(func() {
		server.Close()
		look := time.NewTicker(time.Millisecond)
		defer look.Stop()
		for deadline := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before; <-look.C {
			if time.Now().After(deadline) {
				stacks := make([]byte, 1<<16)
				t.Fatalf("%d goroutines, %d before\n%s", runtime.NumGoroutine(), before, stacks[:runtime.Stack(stacks, true)])
			}
		}
	})
	return server, listener.Addr().String()
}

// echoTCP answers each connection with what it sent, and closes as it did.
func echoTCP(t *testing.T, address string) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				io.Copy(c, c)
				c.Close()
			}()
		}
	}()
	t.Cleanup(func() { l.Close(); <-ended })
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// dialProxy gives a connection on which a stuck test fails.
func dialProxy(t *testing.T, address string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(10 * time.Second))
	t.Cleanup(func() { c.Close() })
	return c.(*net.TCPConn)
}

// say writes bytes given in hex and reads what must come back.
func say(t *testing.T, c net.Conn, request, answer string) {
	t.Helper()
	if _, err := c.Write(unhex(t, request)); err != nil {
		t.Fatal(err)
	}
	want := unhex(t, answer)
	got := make([]byte, len(want))
	if n, err := io.ReadFull(c, got); err != nil || string(got) != string(want) {
		t.Fatalf("%s: answered %x, %v, want %x", request, got[:n], err, want)
	}
}

func unhex(t *testing.T, text string) (b []byte) {
	t.Helper()
	if _, err := fmt.Sscanf(strings.ReplaceAll(text, " ", ""), "%x", &b); err != nil {
		t.Fatal(err)
	}
	return b
}
