package trunk

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// TestWordIsTheStreams: what was said of a stream is not the reader's buffer, which the next
// frames come into.
func TestWordIsTheStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		near, far := New(a), New(b)
		defer near.Close()
		words := make(chan string)
		go near.Run(nil)
		go far.Run(func(s *Stream, word []byte) {
			read(s, make([]byte, Window))
			words <- string(word)
		})
		said := bytes.Repeat([]byte("w"), MaxBody)
		s, err := near.Open(said)
		if err != nil {
			t.Fatal(err)
		}
		s.Write(bytes.Repeat([]byte("d"), Window))
		if got := <-words; got != string(said) {
			t.Errorf("the word became %q", got[:8])
		}
	})
}

// TestRunWaitsForWhatItServes: whoever ended a trunk finds nobody at work in it.
func TestRunWaitsForWhatItServes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		near, far := New(a), New(b)
		go near.Run(nil)
		served := false
		go func() {
			<-time.After(time.Minute)
			near.Close()
		}()
		if _, err := near.Open(nil); err != nil {
			t.Fatal(err)
		}
		far.Run(func(s *Stream, _ []byte) {
			s.Await()
			<-time.After(time.Hour)
			served = true
		})
		if !served {
			t.Error("it ended before what it served")
		}
	})
}

// TestCutIsNoEnd: who reads a stream that was cut off is told so, and nobody writes behind an
// end of its own.
func TestCutIsNoEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := trunks(t)
		near, far := p.stream(t, "")
		if err := near.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if _, err := near.Write([]byte("more")); err != io.ErrClosedPipe {
			t.Errorf("written behind the end: %v", err)
		}
		synctest.Wait()
		if _, err := far.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("an end: %v", err)
		}
		_, far = p.stream(t, "")
		p.far.mu.Lock()
		far.cut()
		p.far.mu.Unlock()
		if _, err := far.Read(make([]byte, 1)); !errors.Is(err, ErrLost) {
			t.Errorf("a cut: %v", err)
		}
	})
}

// TestQueueIsBounded: of one who takes nothing no more is kept than MaxQueue (I10).
func TestQueueIsBounded(t *testing.T) {
	a, b := net.Pipe()
	defer b.Close()
	near := New(a)
	defer near.Close()
	for range 2 * MaxQueue / MaxBody {
		_, err := near.Open(make([]byte, MaxBody))
		near.mu.Lock()
		kept := len(near.queue)
		near.mu.Unlock()
		if kept > MaxQueue || err != nil && !errors.Is(err, ErrLost) {
			t.Fatalf("%d bytes wait, %v", kept, err)
		}
	}
}
