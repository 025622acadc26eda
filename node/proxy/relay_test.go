package proxy

import (
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"
)

// line is a TCP connection of this host, both ends of it.
func line(t *testing.T) (near, far *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	near = dialProxy(t, l.Addr().String())
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(10 * time.Second))
	t.Cleanup(func() { c.Close() })
	return near, c.(*net.TCPConn)
}

// relayed joins two lines until the relay between them ends.
func relayed(t *testing.T, idle, halfIdle, look time.Duration) (a, b *net.TCPConn, ended chan struct{}) {
	t.Helper()
	a, inner := line(t)
	b, outer := line(t)
	ended = make(chan struct{})
	go func() {
		defer close(ended)
		relayWithin(inner, outer, idle, halfIdle, look)
	}()
	return a, b, ended
}

// TestHalfClose: one direction may end long before the other.
func TestHalfClose(t *testing.T) {
	a, b, ended := relayed(t, IdleLimit, HalfIdleLimit, idleLook)
	a.Write([]byte("question"))
	a.CloseWrite()
	if got, err := io.ReadAll(b); err != nil || string(got) != "question" {
		t.Errorf("%q, %v", got, err)
	}
	b.Write([]byte("answer"))
	b.CloseWrite()
	if got, err := io.ReadAll(a); err != nil || string(got) != "answer" {
		t.Errorf("%q, %v", got, err)
	}
	<-ended
}

// TestResetIsPassedOn: a transfer that broke off does not end like one that is
// complete.
func TestResetIsPassedOn(t *testing.T) {
	a, b, ended := relayed(t, IdleLimit, HalfIdleLimit, idleLook)
	b.Write([]byte("the first half"))
	got := make([]byte, 14)
	if _, err := io.ReadFull(a, got); err != nil {
		t.Fatal(err)
	}
	b.SetLinger(0)
	b.Close()
	if _, err := a.Read(got); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the other end saw %v", err)
	}
	<-ended
}

// TestIdle: silence ends a connection, traffic keeps it, and half a connection
// is kept for less.
func TestIdle(t *testing.T) {
	a, _, ended := relayed(t, 50*time.Millisecond, time.Hour, 10*time.Millisecond)
	if _, err := a.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("silence: %v", err)
	}
	<-ended
	a, b, ended := relayed(t, time.Hour, 50*time.Millisecond, 10*time.Millisecond)
	a.CloseWrite()
	if _, err := io.ReadAll(b); err != nil {
		t.Error(err)
	}
	<-ended
}

// TestMaxConnections: one connection too many is closed, and room is made
// again by those that end.
func TestMaxConnections(t *testing.T) {
	server, address := start(t, nil)
	server.mu.Lock()
	for range MaxConnections {
		raw, _ := net.Pipe()
		server.conns[&conn{Conn: raw, server: server}] = struct{}{}
	}
	server.mu.Unlock()
	c := dialProxy(t, address)
	if n, err := c.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("one too many: %d, %v", n, err)
	}
	server.mu.Lock()
	for one := range server.conns {
		delete(server.conns, one)
		break
	}
	server.mu.Unlock()
	say(t, dialProxy(t, address), "05 01 00", "05 00")
}
