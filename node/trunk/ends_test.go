package trunk

import (
	"bytes"
	"errors"
	"io"
	"math"
	"net"
	"strings"
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
		kept := len(near.out.queue)
		near.mu.Unlock()
		if kept > MaxQueue || err != nil && !errors.Is(err, ErrLost) {
			t.Fatalf("%d bytes wait, %v", kept, err)
		}
	}
}

// TestOpenedAfterTheEnd: what was read before a trunk was closed may open a stream when it is.
func TestOpenedAfterTheEnd(t *testing.T) {
	a, b := net.Pipe()
	defer b.Close()
	tr := New(a)
	tr.Close()
	if err := tr.hear(header{kindOpen, 1, 0}, nil, func(*Stream, []byte) { t.Error("it is served") }); err != nil {
		t.Error(err)
	}
	tr.serving.Wait()
}

// TestMoreThanMayCome: what was read and not given as credit counts as if it waited, and who
// speaks behind his end is cut off, for his reader knows of that end.
func TestMoreThanMayCome(t *testing.T) {
	a, b := net.Pipe()
	defer b.Close()
	tr := New(a)
	defer tr.Close()
	taken := make(chan *Stream, 1)
	said := func(number uint32, k kind, body string) (*Stream, error) {
		err := tr.hear(header{k, number, len(body)}, []byte(body), func(s *Stream, _ []byte) { taken <- s })
		if k != kindOpen {
			return nil, err
		}
		return <-taken, err
	}
	full, _ := said(1, kindOpen, "")
	for range Window / MaxBody {
		if _, err := said(1, kindData, strings.Repeat("a", MaxBody)); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := full.Read(make([]byte, Window/2-1)); n != Window/2-1 || err != nil {
		t.Fatal(n, err)
	}
	if _, err := said(1, kindData, "a"); !errors.Is(err, ErrFrame) {
		t.Errorf("a byte beyond the window: %v", err)
	}
	late, _ := said(2, kindOpen, "")
	for _, next := range []struct {
		kind
		body string
	}{{kindData, "a"}, {kindEnd, ""}, {kindData, "b"}} {
		if _, err := said(2, next.kind, next.body); err != nil {
			t.Error(err)
		}
	}
	if _, err := late.Read(make([]byte, 2)); err != ErrLost {
		t.Errorf("data behind the end: %v", err)
	}
}

// TestCutIsTold to who rests: where there is no room left that may be another stream's fault.
func TestCutIsTold(t *testing.T) {
	a, b := net.Pipe()
	defer b.Close()
	tr := New(a)
	defer tr.Close()
	taken, told := make(chan *Stream, 1), make(chan struct{}, 4)
	if err := tr.hear(header{kindOpen, 1, 0}, nil, func(s *Stream, _ []byte) { taken <- s }); err != nil {
		t.Fatal(err)
	}
	rests := <-taken
	rests.Readable(func() { told <- struct{}{} })
	tr.mu.Lock()
	rests.cut()
	tr.mu.Unlock()
	select {
	case <-told:
	case <-time.After(10 * time.Second):
		t.Error("nobody is told")
	}
	if err := rests.Await(); err != ErrLost {
		t.Errorf("it ends by %v", err)
	}
}

// TestOutOfNumbers: a trunk that has had all streams it may is left for another one.
func TestOutOfNumbers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := trunks(t)
		p.near.mu.Lock()
		p.near.last = math.MaxUint32
		p.near.mu.Unlock()
		_, err := p.near.Open(nil)
		synctest.Wait()
		if !errors.Is(err, ErrLost) || !p.near.Over() {
			t.Errorf("%v; it is over: %v", err, p.near.Over())
		}
	})
}
