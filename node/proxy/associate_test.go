package proxy

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"
)

// associate opens a UDP relay; the TCP connection keeps it.
func associate(t *testing.T, address string) (control *net.TCPConn, program *net.UDPConn) {
	t.Helper()
	control = dialProxy(t, address)
	say(t, control, "05 01 00", "05 00")
	code, at := ask(t, control, commandAssociate, appendAddress(nil, netip.AddrPort{}))
	if code != socksDone {
		t.Fatalf("reply %d", code)
	}
	relay := netip.AddrPortFrom(netip.MustParseAddr(at.host), at.port)
	program, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(relay))
	if err != nil {
		t.Fatal(err)
	}
	program.SetDeadline(time.Now().Add(10 * time.Second))
	t.Cleanup(func() { program.Close() })
	return control, program
}

// echoUDP answers each datagram in upper case.
func echoUDP(t *testing.T, address string) netip.AddrPort {
	t.Helper()
	c, err := net.ListenPacket("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		b := make([]byte, 2000)
		for {
			n, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			c.WriteTo([]byte(strings.ToUpper(string(b[:n]))), from)
		}
	}()
	t.Cleanup(func() { c.Close(); <-ended })
	return c.LocalAddr().(*net.UDPAddr).AddrPort()
}

func datagram(to []byte, payload string) []byte {
	return append(append([]byte{0, 0, 0}, to...), payload...)
}

func TestAssociate(t *testing.T) {
	v4, v6 := echoUDP(t, "127.0.0.1:0"), echoUDP(t, "[::1]:0")
	_, address := start(t, nil)
	control, program := associate(t, address)
	b := make([]byte, 2000)
	for _, to := range []netip.AddrPort{v4, v6, v4} {
		program.Write(datagram(appendAddress(nil, to), "who"))
		n, err := program.Read(b)
		if err != nil {
			t.Fatalf("%v: %v", to, err)
		}
		from, payload, err := readDatagram(b[:n])
		if err != nil || string(payload) != "WHO" || from.port != to.Port() {
			t.Errorf("%v: %q from %v, %v", to, payload, from, err)
		}
	}
	// By name: the first address within reach is IPv6.
	program.Write(datagram(named(knownName, v6.Port()), "name"))
	if n, err := program.Read(b); err != nil || !strings.HasSuffix(string(b[:n]), "NAME") {
		t.Errorf("by name: %q, %v", b[:n], err)
	}
	// The relay ends with the TCP connection.
	control.Close()
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for deadline := time.Now().Add(5 * time.Second); ; <-look.C {
		program.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
		program.Write(datagram(appendAddress(nil, v4), "late"))
		if _, err := program.Read(b); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return // the port is closed
		}
		if time.Now().After(deadline) {
			t.Fatal("the relay outlives its TCP connection")
		}
	}
}

// TestAssociateDrops: fragments, garbage, and strangers are dropped; the
// program's own datagrams pass after them.
func TestAssociateDrops(t *testing.T) {
	to := echoUDP(t, "127.0.0.1:0")
	_, address := start(t, nil)
	_, program := associate(t, address)
	program.Write(datagram(appendAddress(nil, to), "first"))
	b := make([]byte, 2000)
	if _, err := program.Read(b); err != nil {
		t.Fatal(err)
	}
	stranger, err := net.DialUDP("udp", nil, program.RemoteAddr().(*net.UDPAddr))
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	stranger.Write(datagram(appendAddress(nil, to), "stranger"))
	fragment := datagram(appendAddress(nil, to), "fragment")
	fragment[2] = 1
	for _, bad := range [][]byte{nil, {0, 0}, fragment, datagram(named("nowhere.example", 9), "lost"),
		datagram(appendAddress(nil, netip.MustParseAddrPort("192.0.2.1:9")), "outside")} {
		program.Write(bad)
	}
	program.Write(datagram(appendAddress(nil, to), "last"))
	if n, err := program.Read(b); err != nil || !strings.HasSuffix(string(b[:n]), "LAST") {
		t.Errorf("%q, %v", b[:n], err)
	}
}

// TestMaxNames: an association remembers so many names and no more, and no
// address in the place of one.
func TestMaxNames(t *testing.T) {
	server, _ := start(t, nil)
	a := &association{server: server, names: make(map[string]remembered)}
	for i := range MaxNames + 1 {
		name := fmt.Sprintf("%d.%s", i, knownName)
		if _, ok := a.resolve(destination{name, 9}); !ok || len(a.names) > MaxNames {
			t.Fatalf("%v: %v, %d names", name, ok, len(a.names))
		}
		before := len(a.names)
		if at, ok := a.resolve(destination{fmt.Sprintf("127.0.1.%d", i), 9}); !ok || len(a.names) != before {
			t.Fatalf("%v: %v, %d names, before %d", at, ok, len(a.names), before)
		}
	}
}
