package loop

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// words is a Wire of text: a length of one byte, and so many.
type words struct{ io.ReadWriter }

func framed(rw io.ReadWriter) words { return words{rw} }

func (w words) Next() (*string, error) {
	var size [1]byte
	if _, err := io.ReadFull(w, size[:]); err != nil {
		return nil, err
	}
	text := make([]byte, size[0])
	if _, err := io.ReadFull(w, text); err != nil || len(text) == 0 {
		return nil, err
	}
	word := string(text)
	return &word, nil
}

func (w words) Write(all ...*string) error {
	var b []byte
	for _, word := range all {
		b = append(append(b, byte(len(*word))), *word...)
	}
	_, err := w.ReadWriter.Write(b)
	return err
}

func (w words) Beat() error {
	_, err := w.ReadWriter.Write([]byte{0})
	return err
}

const room = 4

func pair(t *testing.T) (near, far *Stream[string]) {
	a, b := net.Pipe()
	near, far = New(a, framed, Nodes(), room), New(b, framed, Nodes(), room)
	t.Cleanup(func() { near.Close(); far.Close() })
	return near, far
}

// run is a stream that notes what it hears, and when and why it ended.
type run struct {
	heard []string
	err   error
	after time.Duration
	ended chan struct{}
}

func (r *run) over() bool {
	select {
	case <-r.ended:
		return true
	default:
		return false
	}
}

func running(ctx context.Context, s *Stream[string]) *run {
	r := &run{ended: make(chan struct{})}
	began := time.Now()
	go func() {
		defer close(r.ended)
		r.err = s.Run(ctx, func(word *string) bool { r.heard = append(r.heard, *word); return *word != "enough" })
		r.after = time.Since(began)
	}()
	return r
}

// TestStreamLivesByBeats: two ends of which one says that it knows beats stay together
// though nobody says a word, and hear none of the beats.
func TestStreamLivesByBeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := pair(t)
		a, b := running(t.Context(), near), running(t.Context(), far)
		far.Beats() // near's first message said so
		<-time.After(time.Hour)
		if a.over() || b.over() {
			t.Fatalf("ended: %v, %v", a.err, b.err)
		}
		word := "hello"
		near.Say(&word)
		synctest.Wait()
		near.Close()
		<-a.ended
		<-b.ended
		if len(a.heard) != 0 || !slices.Equal(b.heard, []string{"hello"}) {
			t.Errorf("heard %v and %v", a.heard, b.heard)
		}
	})
}

// counted is a connection whose writes are counted.
type counted struct {
	net.Conn
	writes *atomic.Int32
}

func (c counted) Write(b []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(b)
}

// TestSaidTogether is written at once.
func TestSaidTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		var writes atomic.Int32
		near, far := New(counted{a, &writes}, framed, Nodes(), room), New(b, framed, Nodes(), room)
		running(t.Context(), near)
		heard := running(t.Context(), far)
		one, two := "one", "two"
		near.Say(&one, &two)
		synctest.Wait()
		near.Close()
		<-heard.ended
		if !slices.Equal(heard.heard, []string{one, two}) || writes.Load() != 1 {
			t.Errorf("heard %v by %d writes", heard.heard, writes.Load())
		}
	})
}

// TestSilenceIsTheEnd at both ends, after Silence of one that beat and Patience of one
// that knows no beat, and nothing is sent to that one.
func TestSilenceIsTheEnd(t *testing.T) {
	for name, said := range map[string]struct{ before, while bool }{
		"of one that beats": {before: true}, "of one that says so while it is read": {while: true}, "of an older build": {},
	} {
		synctest.Test(t, func(t *testing.T) {
			a, b := net.Pipe()
			defer b.Close()
			near := New(a, framed, Nodes(), room)
			sent := 0
			go func() {
				for one := make([]byte, 1); ; sent++ { // takes what comes, says nothing
					if _, err := b.Read(one); err != nil {
						return
					}
				}
			}()
			want := NodePatience
			if said.before {
				near.Beats()
			}
			r := running(t.Context(), near)
			synctest.Wait()
			if said.while {
				near.Beats()
			}
			beats := said.before || said.while
			if beats {
				want = NodeSilence
			}
			<-r.ended
			if !errors.Is(r.err, os.ErrDeadlineExceeded) || r.after != want {
				t.Errorf("%s: after %v, %v", name, r.after, r.err)
			}
			synctest.Wait()
			if beats != (sent > 0) {
				t.Errorf("%s: %d bytes were sent", name, sent)
			}
		})
	}
}

// TestSlowIsNotSilent: a frame that comes a byte at a time is heard.
func TestSlowIsNotSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		defer b.Close()
		near := New(a, framed, Nodes(), room)
		near.Beats()
		r := running(t.Context(), near)
		go io.Copy(io.Discard, b)
		for _, one := range []byte("\x04slow") {
			<-time.After(NodeSilence - time.Millisecond)
			b.Write([]byte{one})
		}
		synctest.Wait()
		if r.over() || !slices.Equal(r.heard, []string{"slow"}) {
			t.Errorf("heard %v, %v", r.heard, r.err)
		}
		near.Close()
		<-r.ended
	})
}

// TestBeatsAreForTheIdle: who speaks anyway sends no beats between.
func TestBeatsAreForTheIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		defer b.Close()
		near := New(a, framed, Nodes(), room)
		near.Beats()
		r := running(t.Context(), near)
		var beats atomic.Int32
		far := words{b}
		go func() {
			for {
				switch word, err := far.Next(); {
				case err != nil:
					return
				case word == nil:
					beats.Add(1)
				}
			}
		}()
		go func() {
			for far.Beat() == nil { // so that near goes on
				<-time.After(NodeEvery)
			}
		}()
		word := "load"
		for range 100 {
			near.Say(&word)
			<-time.After(NodeEvery - time.Millisecond)
		}
		synctest.Wait()
		if n := beats.Load(); n != 1 {
			t.Errorf("%d beats of one who speaks, want the first alone", n)
		}
		<-time.After(10 * NodeEvery)
		synctest.Wait()
		if n := beats.Load(); n < 10 {
			t.Errorf("%d beats of one who does not", n)
		}
		near.Close()
		<-r.ended
		<-time.After(NodeEvery) // far notices
	})
}

// TestStreamEnds with its context, by its listener's wish, within the time it was
// given, and when the outbox is full; whoever waits in it is woken.
func TestStreamEnds(t *testing.T) {
	for name, c := range map[string]struct {
		end  func(near, far *Stream[string], cancel func())
		want error
	}{
		"its context": {func(_, _ *Stream[string], cancel func()) { cancel() }, io.ErrClosedPipe},
		"enough":      {func(_, far *Stream[string], _ func()) { word := "enough"; far.Say(&word) }, ErrOver},
		"in time":     {func(near, _ *Stream[string], _ func()) { near.Within(time.Minute) }, nil}, // by a read or a beat
	} {
		synctest.Test(t, func(t *testing.T) {
			near, far := pair(t)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			a, b := running(ctx, near), running(t.Context(), far)
			near.Beats()
			far.Beats()
			synctest.Wait()
			c.end(near, far, cancel)
			<-a.ended
			<-b.ended
			if c.want != nil && !errors.Is(a.err, c.want) || c.want == nil && a.after != time.Minute {
				t.Errorf("%s: after %v, %v", name, a.after, a.err)
			}
		})
	}
}

// TestRestingStreamHasOneGoroutine, who reads: who writes is there while something waits.
// An arbiter has a stream for each client.
func TestRestingStreamHasOneGoroutine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const streams = 20
		before, runs := runtime.NumGoroutine(), make([]*run, 0, 2*streams)
		for range streams {
			near, far := pair(t)
			first, second := "first", "second"
			near.Say(&first) // waits for Run
			runs = append(runs, running(t.Context(), near), running(t.Context(), far))
			synctest.Wait()
			<-time.After(NodeGather)
			near.Say(&second)
			synctest.Wait()
			if heard := runs[len(runs)-1].heard; !slices.Equal(heard, []string{first, second}) {
				t.Fatalf("heard %v", heard)
			}
			defer near.Close()
		}
		const others = streams / 4 // the runtime has some of its own at times
		if more := runtime.NumGoroutine() - before; more > 2*streams+others {
			t.Errorf("%d goroutines for %d ends at rest", more, 2*streams)
		}
	})
}

// TestFullOutbox: a peer that reads nothing loses its stream and holds up nobody (I10).
func TestFullOutbox(t *testing.T) {
	near, _ := pair(t)
	word := "more"
	for range room {
		near.Say(&word)
	}
	select {
	case <-near.Done():
		t.Fatal("ended below its limit")
	default:
	}
	near.Say(&word)
	<-near.Done()
	for range room {
		if near.Take() == nil {
			t.Fatal("what waited is gone")
		}
	}
	if near.Take() != nil || near.Waiting() != 0 {
		t.Error("more waits than there is room for")
	}
}

// TestWithinIsLifted: a stream that was given a time to introduce itself has all of it
// again afterwards.
func TestWithinIsLifted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := pair(t)
		near.Within(time.Second)
		near.Within(0)
		near.Beats()
		a, b := running(t.Context(), near), running(t.Context(), far)
		<-time.After(time.Minute)
		if a.over() || b.over() {
			t.Errorf("ended: %v, %v", a.err, b.err)
		}
		near.Close()
		<-a.ended
		<-b.ended
	})
}

// FuzzFrames: whatever comes, a stream ends or waits.
func FuzzFrames(f *testing.F) {
	f.Add([]byte{0, 0, 1, 'x', 0})
	f.Add(binary.BigEndian.AppendUint32(nil, 1<<31))
	f.Fuzz(func(t *testing.T, b []byte) {
		near, far := net.Pipe()
		s := New(near, framed, Nodes(), room)
		go io.Copy(io.Discard, far)
		go func() { far.Write(b); far.Close() }()
		if err := s.Run(t.Context(), func(*string) bool { return true }); err == nil {
			t.Error("no reason for the end")
		}
	})
}

// TestFloodOfBeats: who beats without end is heard no faster than that is of use, before
// it has introduced itself too, and what it says after them is heard.
func TestFloodOfBeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		s := New(a, framed, Nodes(), room)
		heard := 0
		s.OnBeat = func() { heard++ }
		go func() {
			for range 100 * BeatsFree {
				if _, err := b.Write([]byte{0}); err != nil {
					return
				}
			}
		}()
		go io.Copy(io.Discard, b)
		go s.Read()
		<-time.After(time.Second)
		synctest.Wait()
		if most := BeatsFree + int(BeatsTimes*time.Second/NodeEvery) + 1; heard > most || heard < BeatsFree {
			t.Errorf("%d beats heard in a second, want %d at most", heard, most)
		}
		s.Close()
		b.Close()
	})
}

// TestLateBeats: those that waited while this process stood still cost no time.
func TestLateBeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		s := New(a, framed, Nodes(), room)
		go io.Copy(io.Discard, b)
		go b.Write(append(make([]byte, BeatsFree), 2, 'u', 'p'))
		began := time.Now()
		if word, err := s.Read(); err != nil || *word != "up" || time.Since(began) != 0 {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		s.Close()
		b.Close()
	})
}

// writes is a connection that notes what it is to write.
type writes struct {
	net.Conn
	all *[]string
}

func (w writes) Write(b []byte) (int, error) {
	*w.all = append(*w.all, string(b))
	return w.Conn.Write(b)
}

// TestMessagesGoTogether: of what is said in one moment the first message goes at once, and
// the others in one write when Gather is over. What is said far apart waits for nothing.
func TestMessagesGoTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		var said []string
		near, far := New(writes{a, &said}, framed, Nodes(), 2*together), New(b, framed, Nodes(), room)
		defer near.Close()
		defer far.Close()
		r, peer := running(t.Context(), near), running(t.Context(), far)
		word := "w"
		for range 2 {
			said = nil
			began := time.Now()
			near.Say(&word)
			synctest.Wait()
			if !slices.Equal(said, []string{"\x01w"}) || time.Since(began) != 0 {
				t.Errorf("%q at once", said)
			}
			for range 3 {
				near.Say(&word)
				synctest.Wait()
			}
			<-time.After(NodeGather)
			synctest.Wait()
			if !slices.Equal(said, []string{"\x01w", "\x01w\x01w\x01w"}) {
				t.Errorf("%q later", said)
			}
			<-time.After(NodeGather)
		}
		near.Close()
		<-r.ended
		<-peer.ended
		if len(peer.heard) != 8 {
			t.Errorf("%d words were heard", len(peer.heard))
		}
	})
}

// TestCloseEndsThePause in which messages wait for others, before a write and between two: nobody
// waits for it, and what waited is not written.
func TestCloseEndsThePause(t *testing.T) {
	for name, meanwhile := range map[string]bool{
		"before a write":     false,
		"between two writes": true, // the second word came during the first
	} {
		synctest.Test(t, func(t *testing.T) {
			a, b := net.Pipe()
			near, far := New(a, framed, Nodes(), room), New(b, framed, Nodes(), room)
			defer far.Close()
			r := running(t.Context(), near)
			first, second := "first", "second"
			near.Say(&first) // nobody reads: it is being written
			synctest.Wait()
			if meanwhile {
				near.Say(&second)
			}
			peer := running(t.Context(), far)
			synctest.Wait()
			if !meanwhile {
				near.Say(&second)
			}
			<-time.After(NodeGather / 2)
			closed := time.Now()
			near.Close()
			<-r.ended
			if took := time.Since(closed); took != 0 {
				t.Errorf("%s: it ended %v after Close", name, took)
			}
			<-peer.ended
			<-time.After(NodeGather)
			if synctest.Wait(); !slices.Equal(peer.heard, []string{first}) {
				t.Errorf("%s: heard %v", name, peer.heard)
			}
		})
	}
}

// TestNobodyPausesAfterClose: what is said before its reader notices begins no pause.
func TestNobodyPausesAfterClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := pair(t)
		end, peer := near.begin(t.Context()), running(t.Context(), far)
		word := "w"
		near.Say(&word)
		synctest.Wait()
		near.Close()
		near.Say(&word)
		closed := time.Now()
		end()
		if took := time.Since(closed); took != 0 {
			t.Errorf("it ended after %v", took)
		}
		<-peer.ended
	})
}

// TestClientsWaitForNothing: their logins take some ten messages, and a trunk gathers those of all.
func TestClientsWaitForNothing(t *testing.T) {
	for name, pace := range map[string]Pace{"client": Clients(), "relay": Relays()} {
		synctest.Test(t, func(t *testing.T) {
			a, b := net.Pipe()
			var said []string
			near, far := New(writes{a, &said}, framed, pace, room), New(b, framed, pace, room)
			r, peer := running(t.Context(), near), running(t.Context(), far)
			word, began := "w", time.Now()
			for n := 1; n <= 3; n++ {
				near.Say(&word)
				if synctest.Wait(); len(said) != n || time.Since(began) != 0 {
					t.Errorf("%s: %q after %v", name, said, time.Since(began))
				}
			}
			near.Close()
			far.Close()
			<-r.ended
			<-peer.ended
		})
	}
}

// TestMuchGoesAtOnce: a backlog is written without a pause.
func TestMuchGoesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		near, far := New(a, framed, Nodes(), 4*together), New(b, framed, Nodes(), room)
		word := "w"
		for range 4 * together {
			near.Say(&word)
		}
		r, peer := running(t.Context(), near), running(t.Context(), far)
		synctest.Wait()
		near.Close()
		<-r.ended
		<-peer.ended
		if len(peer.heard) != 4*together {
			t.Errorf("%d words were heard at once, want %d", len(peer.heard), 4*together)
		}
	})
}
