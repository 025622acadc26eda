package trunk

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshcrypt/meshcrypt/node/loop"
)

// both are the ends of a trunk; what the near one opens arrives in a channel.
type both struct {
	near, far *Trunk
	opened    chan *Stream
	words     chan string
	ended     chan error // of far's Run
}

// trunks runs both ends until the test is over.
func trunks(t *testing.T) both {
	a, b := net.Pipe()
	return trunksOver(t, a, b)
}

func trunksOver(t *testing.T, a, b net.Conn) both {
	p := both{New(a), New(b), make(chan *Stream, MaxStreams), make(chan string, MaxStreams), make(chan error, 1)}
	go p.near.Run(nil)
	go func() {
		p.ended <- p.far.Run(func(s *Stream, word []byte) { p.words <- string(word); p.opened <- s })
	}()
	t.Cleanup(p.near.Close)
	return p
}

// stream opens one, and gives both ends of it.
func (p both) stream(t *testing.T, word string) (near, far *Stream) {
	t.Helper()
	near, err := p.near.Open([]byte(word))
	if err != nil {
		t.Fatal(err)
	}
	return near, <-p.opened
}

// TestStreams carry bytes both ways, more than a window, each by itself, and end one
// direction after the other, however long nobody says a word.
func TestStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := trunks(t)
		sent := bytes.Repeat([]byte("meshcrypt"), 3*Window/9)
		for _, word := range []string{"one", "two"} {
			near, far := p.stream(t, word)
			if got := <-p.words; got != word {
				t.Errorf("opened with %q, want %q", got, word)
			}
			go func() { near.Write(sent); near.CloseWrite() }()
			go func() {
				question, err := io.ReadAll(far)
				<-time.After(time.Hour)
				far.Write(append(question, "?"...))
				far.Close()
				if err != nil {
					t.Error(err)
				}
			}()
			answer, err := io.ReadAll(near)
			if err != nil || !bytes.Equal(answer, append(slices.Clone(sent), '?')) {
				t.Errorf("%d bytes came back, %v", len(answer), err)
			}
			near.Close()
		}
		synctest.Wait()
		for _, end := range []*Trunk{p.near, p.far} {
			if len(end.streams) != 0 || end.held != 0 || len(end.out.queue) != 0 {
				t.Errorf("%d streams and %d bytes are left", len(end.streams), end.held)
			}
		}
	})
}

// TestUnreadStreamHoldsUpNobody, and no more of it than its window waits (I10).
func TestUnreadStreamHoldsUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := trunks(t)
		flood, unread := p.stream(t, "flood")
		written := make(chan error)
		go func() { _, err := flood.Write(make([]byte, 10*Window)); written <- err }()
		<-time.After(Gather)
		synctest.Wait()
		if len(unread.in) != Window {
			t.Errorf("%d bytes wait, want a window", len(unread.in))
		}
		near, far := p.stream(t, "other")
		go near.Write([]byte("word"))
		if got := make([]byte, 4); read(far, got) != nil || string(got) != "word" {
			t.Errorf("read %q", got)
		}
		unread.Close()
		if err := <-written; err != io.ErrClosedPipe {
			t.Errorf("who writes to one that was closed gets %v", err)
		}
	})
}

func read(s *Stream, b []byte) error {
	_, err := io.ReadFull(s, b)
	return err
}

// TestAllThatWaitsIsBounded: the streams that most waits in go, and the others stay. So many
// go at once that all are looked at again only when as much has come once more.
func TestAllThatWaitsIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := trunks(t)
		honest, heard := p.stream(t, "honest")
		honest.Write([]byte("word"))
		slow, _ := p.stream(t, "slow")
		slow.Write(make([]byte, Window/2))
		for range MaxHeld/Window + 10 {
			near, _ := p.stream(t, "flood")
			go func() { near.Write(make([]byte, Window)); near.Await(); near.Close() }()
		}
		<-time.After(2 * Gather) // the last records, and the word that streams were cut off
		synctest.Wait()
		if most := MaxHeld/2 + 12*Window; p.far.held > most || p.far.held < MaxHeld/2-Window {
			t.Errorf("%d bytes wait, at most %d", p.far.held, most)
		}
		if p.near.streams[slow.number] == nil {
			t.Error("a stream was cut off, and fuller ones were not")
		}
		if got := make([]byte, 4); read(heard, got) != nil {
			t.Error("the stream that said little was cut off")
		}
		if left := len(p.near.streams); left > MaxHeld/Window/2+12 {
			t.Errorf("the other end was not told: %d streams", left)
		}
	})
}

// TestEndOfTrunk is the end of its streams, and none that a stream itself could have:
// of those who wait, those who are called, and those who come after.
func TestEndOfTrunk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := trunks(t)
		near, far := p.stream(t, "read")
		stuck, _ := p.stream(t, "written")
		called, _ := p.stream(t, "called")
		calls := 0
		called.Readable(func() { calls++ })
		ends := make(chan error, 3)
		go func() { _, err := stuck.Write(make([]byte, 2*Window)); ends <- err }()
		go func() { ends <- near.Await() }()
		go func() { ends <- read(far, make([]byte, 1)) }()
		synctest.Wait()
		p.near.pipe.Conn.Close()
		for range 3 {
			if err := <-ends; !errors.Is(err, ErrLost) || err == io.EOF {
				t.Errorf("ended by %v", err)
			}
		}
		synctest.Wait()
		if _, err := p.near.Open(nil); calls != 1 || !p.near.Over() || !errors.Is(err, ErrLost) || near.CloseWrite() == nil {
			t.Errorf("%d calls, over %t, opened: %v", calls, p.near.Over(), err)
		}
		near.Close()
	})
}

// TestSilentTrunkEnds soon after the other end is gone without a word.
func TestSilentTrunkEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		defer b.Close()
		near := New(a)
		go io.Copy(io.Discard, b)
		began := time.Now()
		if err := near.Run(nil); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != loop.NodeSilence {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
	})
}

// TestCloseNeverWaits, though the other end takes nothing; that is its end soon after,
// though it beats.
func TestCloseNeverWaits(t *testing.T) {
	a, b := net.Pipe()
	defer b.Close()
	near := New(a)
	near.within = 100 * time.Millisecond
	go func() {
		for beat := []byte{0, 0}; ; <-time.After(10 * time.Millisecond) {
			if _, err := b.Write(beat); err != nil {
				return
			}
		}
	}()
	ended := make(chan error, 1)
	go func() { ended <- near.Run(nil) }()
	s, err := near.Open(nil)
	if err != nil {
		t.Fatal(err)
	}
	written := make(chan error, 1)
	go func() { _, err := s.Write([]byte("word")); written <- err }()
	if s.Close(); len(ended) != 0 {
		t.Error("it waited for the end of the trunk")
	}
	if err := <-ended; errors.Is(err, os.ErrDeadlineExceeded) || !near.Over() {
		t.Errorf("the trunk ended by %v", err)
	}
	<-written
}

// TestCloseWakes who reads and who waits for credit, and calls who is called.
func TestCloseWakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := trunks(t)
		near, _ := p.stream(t, "")
		ends, called := make(chan error, 2), make(chan struct{})
		go func() { ends <- near.Await() }()
		go func() { _, err := near.Write(make([]byte, 2*Window)); ends <- err }()
		near.Readable(func() { close(called) })
		synctest.Wait()
		near.Close()
		for range 2 {
			if err := <-ends; err != net.ErrClosed {
				t.Errorf("ended by %v", err)
			}
		}
		<-called
	})
}

// TestDeadlines of reads and of the wait for credit, set before and meanwhile. What has
// come is read after them.
func TestDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := trunks(t)
		near, far := p.stream(t, "")
		began := time.Now()
		near.SetReadDeadline(began.Add(time.Second))
		if err := read(near, make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != time.Second {
			t.Errorf("read: %v after %v", err, time.Since(began))
		}
		far.Write([]byte("x"))
		synctest.Wait()
		if err := read(near, make([]byte, 1)); err != nil {
			t.Errorf("what has come: %v", err)
		}
		go func() {
			<-time.After(time.Second)
			near.SetDeadline(time.Now().Add(time.Second))
		}()
		if n, err := near.Write(make([]byte, 2*Window)); n != Window || !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != 3*time.Second {
			t.Errorf("%d bytes written: %v after %v", n, err, time.Since(began))
		}
		near.SetDeadline(time.Time{})
		calls := 0
		far.Read(make([]byte, Window))
		far.Readable(func() { calls++ })
		far.SetReadDeadline(time.Now().Add(time.Minute))
		<-time.After(time.Minute + time.Second)
		synctest.Wait()
		if calls != 1 || !far.Ready() {
			t.Errorf("%d calls at a deadline", calls)
		}
	})
}

// TestRestingStreamsHaveNoGoroutine: a trunk has one, who reads.
func TestRestingStreamsHaveNoGoroutine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := trunks(t)
		synctest.Wait()
		before := runtime.NumGoroutine()
		for range 100 {
			near, far := p.stream(t, "")
			heard := make(chan struct{}, 3)
			far.Readable(func() { heard <- struct{}{} })
			near.Write([]byte("word"))
			<-heard
			read(far, make([]byte, 4))
		}
		synctest.Wait()
		const others = 5 // the runtime has some of its own at times
		if more := runtime.NumGoroutine() - before; more > others {
			t.Errorf("%d goroutines for 100 streams at rest", more)
		}
	})
}

// raw is a peer that writes frames as it likes, and what came of that.
func raw(t *testing.T, accepts bool, frames []byte) error {
	t.Helper()
	a, b := net.Pipe()
	p := loop.NewPipe(a, loop.Nodes())
	defer p.Close()
	go io.Copy(io.Discard, p)
	end := New(b)
	accept := func(s *Stream, word []byte) {
		if len(word) > 0 {
			s.Close()
		}
	}
	if !accepts {
		accept = nil
		if _, err := end.Open(nil); err != nil {
			t.Fatal(err)
		}
	}
	go func() {
		p.Write(frames)
		p.Close()
	}()
	return end.Run(accept)
}

func frames(all ...[]byte) []byte { return bytes.Join(all, nil) }

func frame(k kind, stream uint32, body ...byte) []byte { return appendFrame(nil, k, stream, body) }

// TestRules: what breaks them ends the trunk; what may have been on its way, or comes
// from a later build, does not.
func TestRules(t *testing.T) {
	open := frame(kindOpen, 1)
	for name, c := range map[string]struct {
		frames []byte
		broken bool
	}{
		"a stream of no number":    {frame(kindOpen, 0), true},
		"opened twice":             {frames(open, open), true},
		"opened backwards":         {frames(frame(kindOpen, 2), open), true},
		"never opened":             {frames(open, frame(kindData, 2, 1)), true},
		"closed, never opened":     {frame(kindClose, 9), true},
		"beyond the window":        {bytes.Join([][]byte{open, bytes.Repeat(frame(kindData, 1, make([]byte, MaxBody)...), Window/MaxBody+1)}, nil), true},
		"too much credit":          {frames(open, frame(kindCredit, 1, credit(1)...)), true},
		"credit of nothing":        {frames(open, frame(kindCredit, 1)), true},
		"a frame too long":         {append([]byte{byte(kindData), 0, 0, 0, 1, 0xff, 0xff}, make([]byte, 0xffff)...), true},
		"of a stream that is over": {frames(frame(kindOpen, 1, 'x'), frame(kindData, 1, 1), frame(kindEnd, 1), frame(kindClose, 1), frame(kindClose, 1)), false},
		"after its own close":      {frames(open, frame(kindClose, 1), frame(kindData, 1, 1), frame(kindEnd, 1)), false},
		"data after the end":       {frames(open, frame(kindEnd, 1), frame(kindData, 1, 1)), false},
		"an unknown kind":          {frames(open, frame(200, 7, 1, 2, 3)), false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if err := raw(t, true, c.frames); errors.Is(err, ErrFrame) != c.broken {
					t.Errorf("ended by %v", err)
				}
			})
		})
	}
	synctest.Test(t, func(t *testing.T) {
		if err := raw(t, false, frame(kindOpen, 2)); !errors.Is(err, ErrFrame) {
			t.Errorf("who dialled was opened a stream: %v", err)
		}
	})
}

// listening is an end whose other end only hears, and what it hears.
func listening(t *testing.T) (*Trunk, chan header) {
	a, b := net.Pipe()
	p, end, heard := loop.NewPipe(a, loop.Nodes()), New(b), make(chan header, 8)
	go end.Run(nil)
	go func() {
		for b := make([]byte, headerSize); ; {
			if _, err := io.ReadFull(p, b); err != nil {
				return
			}
			h, _ := parseHeader(b)
			heard <- h
		}
	}()
	t.Cleanup(end.Close)
	return end, heard
}

// TestTooManyStreams: one more is refused, and the others go on; no end opens it either.
func TestTooManyStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		end, heard := listening(t)
		defer end.Close()
		accepted := make(chan *Stream, MaxStreams+1)
		for number := range uint32(MaxStreams + 1) {
			if err := end.opened(number+1, nil, func(s *Stream, _ []byte) { accepted <- s }); err != nil {
				t.Fatal(err)
			}
		}
		if h := <-heard; h != (header{kindClose, MaxStreams + 1, 0}) || len(accepted) != MaxStreams {
			t.Errorf("%d streams, and then %+v", len(accepted), h)
		}
		if _, err := end.Open(nil); !errors.Is(err, ErrFull) {
			t.Errorf("opened one more: %v", err)
		}
		(<-accepted).Close()
		if _, err := end.Open(nil); err != nil {
			t.Errorf("in the place of one that is over: %v", err)
		}
	})
}

// TestFloodOfOpens: who opens without end waits himself.
func TestFloodOfOpens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		end, _ := listening(t)
		defer end.Close()
		began := time.Now()
		for number := range uint32(2 * OpensFree) {
			if err := end.opened(number+1, nil, func(*Stream, []byte) {}); err != nil {
				t.Fatal(err)
			}
			if number == OpensFree-1 && time.Since(began) != 0 {
				t.Errorf("the first %d took %v", OpensFree, time.Since(began))
			}
		}
		if took := time.Since(began); took != OpensFree*OpensEach {
			t.Errorf("as many more took %v, want %v", took, OpensFree*OpensEach)
		}
	})
}

// FuzzFrames: whatever comes, a trunk ends, and holds no more than it may.
func FuzzFrames(f *testing.F) {
	open := frame(kindOpen, 1)
	f.Add(frames(open, frame(kindData, 1, 'x'), frame(kindEnd, 1), frame(kindClose, 1)))
	f.Add(frames(open, frame(kindCredit, 1, credit(4)...), frame(kindOpen, 7, 1, 2, 3)))
	f.Add([]byte{byte(kindData), 0, 0, 0, 1, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, accepts := range []bool{true, false} {
			if err := raw(t, accepts, b); err == nil {
				t.Error("no reason for the end")
			}
		}
	})
}
