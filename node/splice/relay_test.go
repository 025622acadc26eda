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

func TestRelayEndsWithContext(t *testing.T) {
	client, left := line(t)
	_, right := line(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { Relay(ctx, left, right); close(ended) }()
	cancel()
	<-ended
	if _, err := client.Read(make([]byte, 1)); err == nil {
		t.Error("the client's connection outlived the relay")
	}
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

// halfPipe pretends that a pipe can be closed for writing alone.
type halfPipe struct{ net.Conn }

func (*halfPipe) CloseWrite() error { return nil }
