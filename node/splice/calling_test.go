package splice

import (
	"context"
	"io"
	"net"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshcrypt/meshcrypt/node/trunk"
)

// branch is a stream of a trunk that was joined to a line: what the line's other end
// says, and what the stream's other end does.
type branch struct {
	client net.Conn
	far    *trunk.Stream
	ended  chan struct{}
}

// branches joins so many lines with streams of one trunk.
func branches(t *testing.T, ctx context.Context, count int) []branch {
	t.Helper()
	a, b := net.Pipe()
	near, far := trunk.New(a), trunk.New(b)
	t.Cleanup(near.Close)
	opened := make(chan *trunk.Stream)
	go near.Run(nil)
	go far.Run(func(s *trunk.Stream, _ []byte) { opened <- s })
	var all []branch
	for range count {
		client, left := net.Pipe()
		s, err := near.Open(nil)
		if err != nil {
			t.Fatal(err)
		}
		b := branch{client, <-opened, make(chan struct{})}
		go func() { Relay(ctx, &halfPipe{left}, s); close(b.ended) }()
		all = append(all, b)
	}
	return all
}

// TestRelayFromCallingConnection: bytes pass both ways, and the ends of both directions.
func TestRelayFromCallingConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := branches(t, t.Context(), 1)[0]
		go io.WriteString(b.client, "question")
		if got := make([]byte, 8); !reads(b.far, got) || string(got) != "question" {
			t.Fatalf("the far end read %q", got)
		}
		said := make([]byte, 5*trunk.Window)
		go func() { b.far.Write(said); b.far.Close() }()
		if !reads(b.client, said) {
			t.Error("the answer is cut short")
		}
		<-time.After(trunk.Gather) // and the word of its end is there
		began := time.Now()
		if _, err := io.ReadAll(b.client); err != nil || time.Since(began) > HalfCloseLinger || time.Since(began) < HalfCloseLinger-trunk.Gather {
			t.Errorf("the end: %v after %v", err, time.Since(began)) // a pipe cannot end one direction alone
		}
		<-b.ended
	})
}

func reads(from io.Reader, b []byte) bool {
	_, err := io.ReadFull(from, b)
	return err == nil
}

// TestRelayWithCallingConnectionEnds with its context, though both are there and silent.
func TestRelayWithCallingConnectionEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		b := branches(t, ctx, 1)[0]
		cancel()
		<-b.ended
		if _, err := b.far.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("the far end reads %v", err)
		}
	})
}

// TestRelayOfCallingConnectionRests: for a client that rests a goroutine waits, and no
// second one; a client that reads nothing holds up no other.
func TestRelayOfCallingConnectionRests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := branches(t, t.Context(), 20)
		synctest.Wait()
		before := runtime.NumGoroutine()
		more := branches(t, t.Context(), 40)
		synctest.Wait()
		if each := (runtime.NumGoroutine() - before - 4) / 40; each > 1 {
			t.Errorf("%d goroutines for each client at rest", each)
		}
		go all[0].far.Write(make([]byte, 2*trunk.Window)) // nobody reads it
		synctest.Wait()
		for _, b := range append(all[1:], more...) {
			go b.far.Write([]byte("word"))
			if got := make([]byte, 4); !reads(b.client, got) || string(got) != "word" {
				t.Errorf("read %q", got)
			}
		}
		for _, b := range append(all, more...) {
			b.client.Close()
			<-b.ended
		}
	})
}
