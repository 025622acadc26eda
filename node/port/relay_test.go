package port

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshcrypt/meshcrypt/node/loop"
	"github.com/meshcrypt/meshcrypt/node/splice"
)

// TestRelayEndToEnd, with beats and, to an arbiter that knows none, without.
func TestRelayEndToEnd(t *testing.T) {
	for name, beats := range map[string]bool{"beats": true, "an older arbiter": false} {
		t.Run(name, func(t *testing.T) { testRelayEndToEnd(t, beats) })
	}
}

func testRelayEndToEnd(t *testing.T, beats bool) {
	ca := newAuthority(t)
	nodes := ca.config(ALPNRelay)
	nodes.ClientAuth = tls.RequireAndVerifyClientCert
	gateway, arbiter := listenTCP(t), listenTCP(t)
	seen := make(chan netip.AddrPort, 1)
	arbiter.Handle(ALPNRelay, nodes, func(conn *tls.Conn, _ netip.AddrPort) {
		defer conn.Close()
		h, carried, err := AcceptRelay(conn)
		if err != nil {
			t.Error(err)
			return
		}
		arbiter.Serve(carried, h, "a node")
	})
	arbiter.Handle(ALPNClient, ca.config(ALPNClient), func(conn *tls.Conn, remote netip.AddrPort) {
		seen <- remote
		echo(conn, remote)
	})
	gateway.Relay([]string{ALPNClient}, func(conn net.Conn, remote netip.AddrPort, alpn string) {
		defer conn.Close()
		up, err := DialRelay(t.Context(), arbiter.Addr(), nodes, RelayHeader{Client: remote, ALPN: alpn, Beats: beats})
		if err != nil {
			t.Error(err)
			return
		}
		splice.Relay(t.Context(), conn, up)
	})

	conn, err := tls.Dial("tcp", gateway.Addr().String(), ca.config(ALPNClient))
	if err != nil {
		t.Fatal(err)
	}
	wantEcho(t, conn, "unopened by the gateway")
	if got, want := <-seen, addrPort(conn.LocalAddr()); got != want {
		t.Errorf("arbiter saw %v, want the client's %v", got, want)
	}
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(conn); err != nil || len(rest) != 0 {
		t.Errorf("after our end: %q, %v; want the other end passed back", rest, err)
	}
	conn.Close()
	gateway.Close()
	arbiter.Close()
	wantBalance(t, gateway.Stats())
	if s := arbiter.Stats(); s.Accepted != 2 || s.Handled != 2 {
		t.Errorf("arbiter: %+v", s)
	}
}

func TestDialRelayToFollowerFails(t *testing.T) {
	ca := newAuthority(t)
	follower := listenTCP(t)
	h := RelayHeader{Client: stranger, ALPN: ALPNClient}
	if conn, err := DialRelay(t.Context(), follower.Addr(), ca.config(ALPNRelay), h); err == nil {
		conn.Close()
		t.Error("a node without a route for the relay took a stream")
	}
}

func TestServeRefusesSecondRelay(t *testing.T) {
	for _, alpn := range []string{ALPNClient, ALPNRaft} {
		t.Run(alpn, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p, ca := newTestPort(t), newAuthority(t)
				p.Relay([]string{ALPNClient}, func(net.Conn, netip.AddrPort, string) { t.Error("relayed twice") })
				p.Handle(ALPNRaft, ca.config(ALPNRaft), func(*tls.Conn, netip.AddrPort) { t.Error("raft over a relay") })
				ours, theirs := net.Pipe()
				go tls.Client(ours, ca.config(alpn)).Handshake()
				p.Serve(theirs, RelayHeader{Client: stranger}, "a node")
				wantDropped(t, p, ours, ReasonLoop)
			})
		})
	}
}

func TestRelayHeader(t *testing.T) {
	for text, beats := range map[string]bool{"192.0.2.1:1": false, "[2001:db8::1]:65535": false, "192.0.2.1:2": true} {
		h := RelayHeader{Client: netip.MustParseAddrPort(text), ALPN: ALPNRenew, Beats: beats}
		frame, err := h.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := ParseRelayHeader(frame); err != nil || got != h {
			t.Errorf("%v: %v, %v", h, got, err)
		}
		for _, version := range []byte{0, relayBeats + 1, 255} { // whatever is whole but for that
			frame[0] = version
			if got, err := ParseRelayHeader(frame); !errors.Is(err, ErrRelayFrame) {
				t.Errorf("version %d is read as %+v, %v", version, got, err)
			}
		}
	}
	for name, h := range map[string]RelayHeader{
		"no address": {ALPN: ALPNClient},
		"mapped":     {Client: netip.MustParseAddrPort("[::ffff:192.0.2.1]:1"), ALPN: ALPNClient},
		"zone":       {Client: netip.MustParseAddrPort("[fe80::1%eth0]:1"), ALPN: ALPNClient},
		"raft":       {Client: stranger, ALPN: ALPNRaft},
	} {
		if _, err := h.Marshal(); !errors.Is(err, ErrRelayFrame) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAcceptRelayLimits(t *testing.T) { // I10
	long := append([]byte{relayVersion, MaxRelayFrame - 1}, make([]byte, MaxRelayFrame-1)...)
	for name, send := range map[string][]byte{"too long": long, "version": {9, 1, 0}, "short": {relayVersion, 1, 4}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ours, theirs := net.Pipe()
				defer ours.Close()
				defer theirs.Close()
				go ours.Write(send)
				if _, _, err := AcceptRelay(theirs); !errors.Is(err, ErrRelayFrame) {
					t.Errorf("%v", err)
				}
				theirs.Close()
			})
		})
	}
	t.Run("hung up in the middle", func(t *testing.T) { // by its own name, whatever the zeros behind would say
		frame, err := RelayHeader{Client: netip.MustParseAddrPort("192.0.2.1:6484"), ALPN: ALPNClient}.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		ours, theirs := net.Pipe()
		defer theirs.Close()
		go func() { ours.Write(frame[:len(frame)-1]); ours.Close() }()
		if _, _, err := AcceptRelay(theirs); !errors.Is(err, ErrRelayFrame) || !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%v", err)
		}
	})
	t.Run("silent", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ours, theirs := net.Pipe()
			defer ours.Close()
			start := time.Now()
			if _, _, err := AcceptRelay(theirs); !errors.Is(err, ErrRelayFrame) {
				t.Errorf("%v", err)
			}
			if waited := time.Since(start); waited != RelayFrameTimeout {
				t.Errorf("waited %v", waited)
			}
		})
	})
}

func FuzzRelayHeader(f *testing.F) {
	for _, client := range []string{"192.0.2.1:6484", "[2001:db8::1]:443"} {
		frame, err := RelayHeader{Client: netip.MustParseAddrPort(client), ALPN: ALPNClient}.Marshal()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(frame)
		f.Add(append([]byte{relayBeats}, frame[1:]...))
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		h, err := ParseRelayHeader(frame)
		ours, theirs := net.Pipe()
		defer ours.Close()
		go func() {
			ours.Write(frame)
			if err != nil {
				ours.Close() // or what lacks its end is waited for
			}
		}()
		read, carried, readErr := AcceptRelay(theirs)
		theirs.Close()
		if readErr == nil {
			carried.Close()
		}
		if err != nil {
			return
		}
		if readErr != nil || read != h {
			t.Errorf("%x parsed as %+v, read as %+v, %v", frame, h, read, readErr)
		}
		if again, err := h.Marshal(); err != nil || !bytes.Equal(again, frame) {
			t.Errorf("%x parsed as %+v, marshals to %x, %v", frame, h, again, err)
		}
	})
}

func FuzzReadHello(f *testing.F) {
	f.Add([]byte{22, 3, 1, 0, 5, 1, 0, 0, 1, 0})
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Fuzz(func(t *testing.T, sent []byte) {
		ours, theirs := net.Pipe()
		go func() { ours.Write(sent); ours.Close() }()
		h, why := readHello(theirs)
		if why == 0 && !bytes.HasPrefix(sent, h.raw) {
			t.Errorf("captured %x of %x", h.raw, sent)
		}
		theirs.Close()
	})
}

// TestRelayOutlivesItsFrame: the time that the first frame has is not the connection's. An
// older gateway's does not beat, so nothing else sets its deadline.
func TestRelayOutlivesItsFrame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		defer ours.Close()
		frame, err := RelayHeader{Client: netip.MustParseAddrPort("192.0.2.1:6484"), ALPN: ALPNClient}.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			ours.Write(frame)
			<-time.After(2 * RelayFrameTimeout)
			ours.Write([]byte{7})
		}()
		_, carried, err := AcceptRelay(theirs)
		if err != nil {
			t.Fatal(err)
		}
		defer carried.Close()
		b := make([]byte, 1)
		if _, err := carried.Read(b); err != nil || b[0] != 7 {
			t.Errorf("a late byte: %d, %v", b[0], err)
		}
	})
}

// TestRelayEndsInSilence: a client's connection does not wait for a gateway, or an
// arbiter, that is gone without a word; and one that beats may rest for ever.
func TestRelayEndsInSilence(t *testing.T) {
	for name, gone := range map[string]bool{"gone": true, "resting": false} {
		synctest.Test(t, func(t *testing.T) {
			ours, theirs := net.Pipe()
			defer ours.Close()
			h := RelayHeader{Client: netip.MustParseAddrPort("192.0.2.1:6484"), ALPN: ALPNClient, Beats: true}
			frame, err := h.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			go func() {
				ours.Write(frame)
				if gone {
					io.Copy(io.Discard, ours)
					return
				}
				io.Copy(io.Discard, h.carrier(ours))
			}()
			_, carried, err := AcceptRelay(theirs)
			if err != nil {
				t.Fatal(err)
			}
			defer carried.Close()
			carried.SetReadDeadline(time.Now().Add(time.Hour))
			began, want := time.Now(), time.Hour
			if gone {
				want = loop.ClientSilence
			}
			if _, err := carried.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != want {
				t.Errorf("%s: after %v, %v", name, time.Since(began), err)
			}
		})
	}
}

// TestReplayedHelloIsLetGo as soon as it was read, for the connection may stay for days.
func TestReplayedHelloIsLetGo(t *testing.T) {
	c := &replayConn{unread: []byte("hello")}
	if got, err := io.ReadAll(io.LimitReader(c, 5)); err != nil || string(got) != "hello" {
		t.Fatalf("%q, %v", got, err)
	}
	if c.unread != nil {
		t.Errorf("%d bytes of %d stay", len(c.unread), cap(c.unread))
	}
}
