package splice

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
	dialed, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []net.Conn{dialed, accepted} {
		c.SetDeadline(time.Now().Add(10 * time.Second))
		t.Cleanup(func() { c.Close() })
	}
	return dialed.(*net.TCPConn), accepted.(*net.TCPConn)
}

// relayed joins two lines until the pair is done.
func relayed(t *testing.T, idle, halfIdle, look time.Duration) (a, b *net.TCPConn, ended chan struct{}) {
	t.Helper()
	a, inner := line(t)
	b, outer := line(t)
	ended = make(chan struct{})
	go func() {
		defer close(ended)
		within(inner, outer, idle, halfIdle, look)
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
