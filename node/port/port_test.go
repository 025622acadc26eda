package port

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

var stranger = netip.MustParseAddrPort("203.0.113.7:40000")

// fakeListener accepts what a test dials; it lives inside a synctest bubble.
type fakeListener struct {
	conns chan net.Conn
	done  chan struct{}
}

func (l *fakeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *fakeListener) Close() error   { close(l.done); return nil }
func (l *fakeListener) Addr() net.Addr { return net.TCPAddrFromAddrPort(stranger) }

func newTestPort(t *testing.T) *Port {
	t.Helper()
	p := On(&fakeListener{conns: make(chan net.Conn), done: make(chan struct{})}, nil, slog.New(slog.DiscardHandler))
	t.Cleanup(func() { p.Close() })
	return p
}

func listenTCP(t *testing.T) *Port {
	t.Helper()
	p, err := Listen(netip.MustParseAddrPort("127.0.0.1:0"), nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// dial gives the client's end of a connection to the port from remote.
func dial(p *Port, remote netip.AddrPort) net.Conn {
	ours, theirs := net.Pipe()
	p.running.Go(func() { p.handle(theirs, remote, introduction{}) })
	return ours
}

// authority signs what the tests of this package trust.
type authority struct {
	t    *testing.T
	key  ed25519.PrivateKey
	root *x509.Certificate
	pool *x509.CertPool
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	root := &x509.Certificate{SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, root, root, public, key)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{t: t, key: key, pool: x509.NewCertPool()}
	if a.root, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.pool.AddCert(a.root)
	return a
}

func (a *authority) config(alpn string) *tls.Config {
	a.t.Helper()
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), DNSNames: []string{"node"},
		NotBefore: a.root.NotBefore, NotAfter: a.root.NotAfter}
	der, err := x509.CreateCertificate(rand.Reader, leaf, a.root, public, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{alpn},
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
		RootCAs:      a.pool, ClientCAs: a.pool, ServerName: "node",
	}
}

func echo(conn *tls.Conn, _ netip.AddrPort) {
	defer conn.Close()
	io.Copy(conn, conn)
}

// wantDropped waits for the port to settle and checks that exactly one
// connection was dropped, for why, and without an answer.
func wantDropped(t *testing.T, p *Port, conn net.Conn, why Reason) {
	t.Helper()
	synctest.Wait()
	s := p.Stats()
	if len(s.Dropped) != 1 || s.Dropped[why] != 1 {
		t.Errorf("dropped %v, want one %q", s.Dropped, why)
	}
	wantBalance(t, s)
	if n, err := conn.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("the peer read %d bytes, %v; want a silent close", n, err)
	}
}

// wantBalance checks I8 for connections.
func wantBalance(t *testing.T, s Stats) {
	t.Helper()
	sum := s.Handled + s.Relayed
	for _, n := range s.Dropped {
		sum += n
	}
	if sum != s.Accepted {
		t.Errorf("I8: accepted %d, handled + relayed + dropped %d", s.Accepted, sum)
	}
}

func TestHandleServesItsALPN(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, ca := newTestPort(t), newAuthority(t)
		got := make(chan netip.AddrPort, 1)
		p.Handle(ALPNStream, ca.config(ALPNStream), func(conn *tls.Conn, remote netip.AddrPort) {
			got <- remote
			echo(conn, remote)
		})
		conn := tls.Client(dial(p, stranger), ca.config(ALPNStream))
		wantEcho(t, conn, "over the one port")
		if remote := <-got; remote != stranger {
			t.Errorf("handler saw %v, want %v", remote, stranger)
		}
		if group := conn.ConnectionState().CurveID; group != tls.X25519MLKEM768 {
			t.Errorf("key exchange %v", group)
		}
		conn.Close()
		synctest.Wait()
		if s := p.Stats(); s.Handled != 1 || len(s.Dropped) != 0 {
			t.Errorf("stats %+v", s)
		}
	})
}

func wantEcho(t *testing.T, conn io.ReadWriter, text string) {
	t.Helper()
	go io.WriteString(conn, text)
	buf := make([]byte, len(text))
	if _, err := io.ReadFull(conn, buf); err != nil || string(buf) != text {
		t.Fatalf("echo %q, %v; want %q", buf, err, text)
	}
}

func TestReasonsHaveNames(t *testing.T) {
	seen := map[string]bool{"": true, "none": true}
	for r := Reason(1); r < reasonEnd; r++ {
		if seen[r.String()] {
			t.Errorf("reason %d is named %q", r, r)
		}
		seen[r.String()] = true
	}
	for _, r := range []Reason{0, reasonEnd, reasonEnd + 1} {
		if r.String() != "none" {
			t.Errorf("no reason, %d, is named %q", r, r)
		}
	}
}

func TestDropsSilently(t *testing.T) {
	cases := []struct {
		name string
		conf func(*tls.Config)
		why  Reason
	}{
		{"unknown ALPN", func(c *tls.Config) { c.NextProtos = []string{"h2"} }, ReasonALPN},
		{"no ALPN", func(c *tls.Config) { c.NextProtos = nil }, ReasonALPN},
		{"two ALPNs", func(c *tls.Config) { c.NextProtos = []string{ALPNStream, ALPNRaft} }, ReasonALPN},
		{"TLS 1.2", func(c *tls.Config) { c.MinVersion, c.MaxVersion = 0, tls.VersionTLS12 }, ReasonVersion},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p, ca := newTestPort(t), newAuthority(t)
				p.Handle(ALPNStream, ca.config(ALPNStream), echo)
				p.Handle(ALPNRaft, ca.config(ALPNRaft), echo)
				conf := ca.config(ALPNStream)
				tc.conf(conf)
				raw := dial(p, stranger)
				if err := tls.Client(raw, conf).Handshake(); !errors.Is(err, io.EOF) {
					t.Errorf("client saw %v, want a silent close", err)
				}
				wantDropped(t, p, raw, tc.why)
			})
		})
	}
}

func TestGarbageAndHugeHello(t *testing.T) {
	// A handshake record that announces a ClientHello of 60,000 bytes.
	huge := append([]byte{22, 3, 1, 0x40, 0, 1, 0, 0xea, 0x60}, make([]byte, 0x4000-4)...)
	huge = append(huge, 22, 3, 1, 0x40, 0)
	huge = append(huge, make([]byte, 0x4000)...)
	for name, tc := range map[string]struct {
		send []byte
		why  Reason
	}{
		"garbage": {[]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), ReasonMalformed},
		"zeros":   {make([]byte, 64), ReasonMalformed},
		"huge":    {huge, ReasonOversize},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newTestPort(t)
				conn := dial(p, stranger)
				conn.Write(tc.send)
				wantDropped(t, p, conn, tc.why)
			})
		})
	}
}

func TestSlowHello(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newTestPort(t)
		conn := dial(p, stranger)
		start := time.Now()
		if _, err := conn.Write([]byte{22, 3, 1}); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Fatalf("read: %v", err)
		}
		if waited := time.Since(start); waited != HelloTimeout {
			t.Errorf("closed after %v, want %v", waited, HelloTimeout)
		}
		wantDropped(t, p, conn, ReasonSlow)
	})
}

func TestHangUpInsideHello(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newTestPort(t)
		conn := dial(p, stranger)
		conn.Write([]byte{22, 3, 1, 0})
		conn.Close()
		synctest.Wait()
		if s := p.Stats(); s.Dropped[ReasonMalformed] != 1 {
			t.Errorf("dropped %v", s.Dropped)
		}
	})
}

func TestStalledHandshakeEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, ca := newTestPort(t), newAuthority(t)
		p.Handle(ALPNStream, ca.config(ALPNStream), echo)
		conn := dial(p, stranger)
		conn.Write(captureHello(t, ca.config(ALPNStream)))
		start := time.Now()
		io.Copy(io.Discard, conn) // reads the server's flight, answers nothing
		if waited := time.Since(start); waited != HandshakeTimeout {
			t.Errorf("closed after %v, want %v", waited, HandshakeTimeout)
		}
		synctest.Wait()
		if s := p.Stats(); s.Dropped[ReasonHandshake] != 1 {
			t.Errorf("dropped %v", s.Dropped)
		}
	})
}

// captureHello returns the ClientHello a client of conf sends.
func captureHello(t *testing.T, conf *tls.Config) []byte {
	t.Helper()
	ours, theirs := net.Pipe()
	go func() { tls.Client(theirs, conf).Handshake() }()
	defer ours.Close()
	buf := make([]byte, MaxHello)
	n, err := ours.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return buf[:n]
}

func TestHelloInSingleBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, ca := newTestPort(t), newAuthority(t)
		relayed := make(chan []byte, 1)
		want := captureHello(t, ca.config(ALPNClient))
		p.Relay([]string{ALPNClient}, func(conn net.Conn, _ netip.AddrPort, _ string) {
			defer conn.Close()
			got := make([]byte, len(want))
			io.ReadFull(conn, got)
			relayed <- got
		})
		conn := dial(p, stranger)
		for i := range want {
			if _, err := conn.Write(want[i : i+1]); err != nil {
				t.Fatal(err)
			}
		}
		if got := <-relayed; string(got) != string(want) {
			t.Error("the relayed hello differs from the one sent")
		}
	})
}

func TestLimitConnections(t *testing.T) { // I10
	synctest.Test(t, func(t *testing.T) {
		p := newTestPort(t)
		fill := func(n int) {
			p.mu.Lock()
			defer p.mu.Unlock()
			for len(p.live) < n {
				h := &holding{}
				h.conn, _ = net.Pipe()
				p.live[&h.ticket] = h
			}
		}
		fill(MaxConnections - ReservedConnections)
		wantDropped(t, p, dial(p, stranger), ReasonFull)
		p.Know([]netip.Addr{stranger.Addr()}, nil)
		dial(p, stranger)
		synctest.Wait()
		if s := p.Stats(); s.Dropped[ReasonFull] != 1 {
			t.Errorf("dropped %v: no connection is reserved for nodes", s.Dropped)
		}
		fill(MaxConnections)
		dial(p, stranger)
		synctest.Wait()
		if s := p.Stats(); s.Dropped[ReasonFull] != 2 {
			t.Errorf("dropped %v at the limit", s.Dropped)
		}
	})
}

// source is the i-th of many different addresses.
func source(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)}), 1)
}

func TestWithdraw(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, ca := newTestPort(t), newAuthority(t)
		first := p.Handle(ALPNStream, ca.config(ALPNStream), echo)
		second := p.Handle(ALPNStream, ca.config(ALPNStream), echo)
		first() // replaced already: must not take the second with it
		wantEcho(t, tls.Client(dial(p, stranger), ca.config(ALPNStream)), "still here")
		second()
		raw := dial(p, stranger)
		if err := tls.Client(raw, ca.config(ALPNStream)).Handshake(); !errors.Is(err, io.EOF) {
			t.Errorf("client saw %v, want a silent close", err)
		}
		wantDropped(t, p, raw, ReasonALPN)
	})
}

func TestHandlerGoesBeforeRelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, ca := newTestPort(t), newAuthority(t)
		relayed := make(chan string, 1)
		stop := p.Relay([]string{ALPNJoin, ALPNClient}, func(conn net.Conn, _ netip.AddrPort, alpn string) {
			conn.Close()
			relayed <- alpn
		})
		withdraw := p.Handle(ALPNClient, ca.config(ALPNClient), echo)
		wantEcho(t, tls.Client(dial(p, stranger), ca.config(ALPNClient)), "the arbiter itself")
		withdraw()
		go tls.Client(dial(p, stranger), ca.config(ALPNClient)).Handshake()
		if alpn := <-relayed; alpn != ALPNClient {
			t.Errorf("relayed %q", alpn)
		}
		stop()
		raw := dial(p, stranger)
		tls.Client(raw, ca.config(ALPNClient)).Handshake()
		wantDropped(t, p, raw, ReasonALPN)
	})
}

func TestRoutesRefuseProgrammerErrors(t *testing.T) {
	ca := newAuthority(t)
	loose := ca.config(ALPNStream)
	loose.NextProtos = []string{ALPNStream, ALPNRaft}
	old := ca.config(ALPNStream)
	old.MinVersion = tls.VersionTLS12
	for name, register := range map[string]func(*Port){
		"two protocols": func(p *Port) { p.Handle(ALPNStream, loose, echo) },
		"TLS 1.2":       func(p *Port) { p.Handle(ALPNStream, old, echo) },
		"relayed raft":  func(p *Port) { p.Relay([]string{ALPNRaft}, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("registered")
				}
			}()
			register(&Port{})
		})
	}
}

func TestCloseEndsConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, ca := newTestPort(t), newAuthority(t)
		p.Handle(ALPNStream, ca.config(ALPNStream), echo)
		conn := tls.Client(dial(p, stranger), ca.config(ALPNStream))
		wantEcho(t, conn, "alive")
		waiting := dial(p, stranger)
		synctest.Wait()
		p.Close() // returns only when no goroutine of the port is left
		if _, err := waiting.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("read after close: %v", err)
		}
		p.handle(waiting, stranger, introduction{})
		if s := p.Stats(); s.Dropped[ReasonClosing] != 1 {
			t.Errorf("dropped %v", s.Dropped)
		}
	})
}

func TestListenOnTCP(t *testing.T) {
	p := listenTCP(t)
	ca := newAuthority(t)
	p.Handle(ALPNStream, ca.config(ALPNStream), echo)
	conn, err := tls.Dial("tcp", p.Addr().String(), ca.config(ALPNStream))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	wantEcho(t, conn, "tcp")
	if _, err := Listen(p.Addr(), nil, slog.New(slog.DiscardHandler)); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("second listener on %v: %v", p.Addr(), err)
	}
}
