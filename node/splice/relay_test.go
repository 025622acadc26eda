package splice

import (
	"context"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// TestRelayHalfClose: one side says all it has and ends; the other's answer
// still arrives, then both are closed.
func TestRelayHalfClose(t *testing.T) {
	client, left := line(t)
	server, right := line(t)
	ended := make(chan struct{})
	go func() { Relay(t.Context(), left, right); close(ended) }()
	io.WriteString(client, "question")
	client.CloseWrite()
	if got, err := io.ReadAll(server); err != nil || string(got) != "question" {
		t.Fatalf("server read %q, %v", got, err)
	}
	io.WriteString(server, "answer")
	server.Close()
	if got, err := io.ReadAll(client); err != nil || string(got) != "answer" {
		t.Fatalf("client read %q, %v", got, err)
	}
	<-ended
}

// TestRelayEndsWithContext at once, though both are there and silent.
func TestRelayEndsWithContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, left := net.Pipe()
		server, right := net.Pipe()
		defer server.Close()
		ctx, cancel := context.WithCancel(t.Context())
		start := time.Now()
		go cancel()
		Relay(ctx, &halfPipe{left}, &halfPipe{right})
		if _, err := client.Read(make([]byte, 1)); err != io.EOF || time.Since(start) != 0 {
			t.Errorf("the client reads %v after %v", err, time.Since(start))
		}
	})
}

// TestRelayLinger: after one end, a silent other direction is given up.
func TestRelayLinger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, left := net.Pipe()
		server, right := net.Pipe()
		defer server.Close()
		start := time.Now()
		go client.Close()
		Relay(t.Context(), &halfPipe{left}, &halfPipe{right})
		if waited := time.Since(start); waited != HalfCloseLinger {
			t.Errorf("ended after %v, want %v", waited, HalfCloseLinger)
		}
	})
}

// TestRelayLingerOfReader: who has ended and reads nothing either is given up, too.
func TestRelayLingerOfReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, left := net.Pipe()
		server, right := net.Pipe()
		go io.WriteString(server, "answer")
		start := time.Now()
		Relay(t.Context(), &endedPipe{left, io.EOF}, &halfPipe{right})
		if waited := time.Since(start); waited != HalfCloseLinger {
			t.Errorf("ended after %v, want %v", waited, HalfCloseLinger)
		}
	})
}

// TestRelayFailureEndsBoth at once: nobody waits for the one that is left, which may say
// nothing for days.
func TestRelayFailureEndsBoth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, left := net.Pipe()
		server, right := net.Pipe()
		start := time.Now()
		Relay(t.Context(), &endedPipe{left, io.ErrUnexpectedEOF}, &halfPipe{right})
		if _, err := server.Read(make([]byte, 1)); err != io.EOF || time.Since(start) != 0 {
			t.Errorf("the other one reads %v after %v", err, time.Since(start))
		}
	})
}

// TestAwait: who awaits bytes waits, and leaves them where they are.
func TestAwait(t *testing.T) {
	client, left := line(t)
	come := make(chan error)
	go func() { come <- Await(left) }()
	select {
	case err := <-come:
		t.Fatalf("nothing was said, and it waits no more: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	io.WriteString(client, "a")
	if err := <-come; err != nil {
		t.Fatal(err)
	}
	client.Close()
	if got, err := io.ReadAll(left); err != nil || string(got) != "a" {
		t.Errorf("read %q, %v", got, err)
	}
}

// endedPipe pretends that its other end says nothing more.
type endedPipe struct {
	net.Conn
	end error
}

func (p *endedPipe) Read([]byte) (int, error) { return 0, p.end }

// halfPipe pretends that a pipe can be closed for writing alone.
type halfPipe struct{ net.Conn }

func (*halfPipe) CloseWrite() error { return nil }
