package trunk

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshcrypt/meshcrypt/node/loop"
)

// words is a loop.Wire of text: a length of two bytes, and so many.
type words struct{ io.ReadWriter }

func framed(rw io.ReadWriter) words { return words{rw} }

func (w words) Next() (*string, error) {
	var size [2]byte
	if _, err := io.ReadFull(w, size[:]); err != nil {
		return nil, err
	}
	text := make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err := io.ReadFull(w, text); err != nil || len(text) == 0 {
		return nil, err
	}
	word := string(text)
	return &word, nil
}

func (w words) Write(all ...*string) error {
	var text []byte
	for _, word := range all {
		text = append(binary.BigEndian.AppendUint16(text, uint16(len(*word))), *word...)
	}
	_, err := w.ReadWriter.Write(text)
	return err
}

func (w words) Beat() error {
	_, err := w.ReadWriter.Write([]byte{0, 0})
	return err
}

// followed is an arbiter's end of a stream, whose other end is read and written by hand.
type followed struct {
	*loop.Stream[string]
	client words
	heard  chan string
	over   chan error
}

func (p both) followed(t *testing.T, ctx context.Context) followed {
	t.Helper()
	near, far := p.stream(t, "")
	f := followed{loop.New(far, framed, loop.Clients(), 4), words{near}, make(chan string, 4), make(chan error, 2)}
	f.Beats()
	f.Follow(ctx, func(word *string) bool { f.heard <- *word; return *word != "enough" }, func(err error) { f.over <- err })
	return f
}

// TestFollowedStreamRests without a goroutine between two messages, and between beats; a
// message in pieces is heard whole.
func TestFollowedStreamRests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := trunks(t)
		synctest.Wait()
		before := runtime.NumGoroutine()
		var all []followed
		for range 50 {
			all = append(all, p.followed(t, t.Context()))
		}
		for range 10 {
			for _, f := range all {
				f.client.Beat()
				f.client.ReadWriter.Write([]byte{0, 4, 'w'})
			}
			synctest.Wait()
			for _, f := range all {
				f.client.ReadWriter.Write([]byte("ord"))
				if got := <-f.heard; got != "word" {
					t.Errorf("heard %q", got)
				}
			}
			<-time.After(loop.ClientEvery)
		}
		synctest.Wait()
		const others = 5 // the runtime has some of its own at times
		if more := runtime.NumGoroutine() - before; more > others {
			t.Errorf("%d goroutines for 50 streams at rest", more)
		}
		for _, f := range all {
			f.Close()
			<-f.over
		}
	})
}

// TestFollowedStreamEnds, and says so once: by silence as long as that of one who waits,
// by its context, its own end, the other end's, the trunk's, and the listener's wish.
func TestFollowedStreamEnds(t *testing.T) {
	for name, c := range map[string]struct {
		end   func(f followed, p both, cancel func())
		after time.Duration
		want  error
	}{
		"silence":   {func(followed, both, func()) {}, loop.ClientSilence, os.ErrDeadlineExceeded},
		"context":   {func(_ followed, _ both, cancel func()) { cancel() }, 0, nil},
		"own":       {func(f followed, _ both, _ func()) { f.Close() }, 0, nil},
		"other":     {func(f followed, _ both, _ func()) { f.client.ReadWriter.(*Stream).Close() }, Gather, io.EOF},
		"trunk":     {func(_ followed, p both, _ func()) { p.near.Close() }, 0, ErrLost},
		"listener":  {func(f followed, _ both, _ func()) { f.client.Write(new("enough")) }, Gather, loop.ErrOver},
		"in a word": {func(f followed, _ both, _ func()) { f.client.ReadWriter.Write([]byte{0, 9, 'w'}) }, loop.ClientSilence + Gather, os.ErrDeadlineExceeded},
	} {
		synctest.Test(t, func(t *testing.T) {
			p := trunks(t)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			f := p.followed(t, ctx)
			<-time.After(time.Second)
			f.client.Beat()
			synctest.Wait()
			began := time.Now()
			c.end(f, p, cancel)
			if err := <-f.over; c.want != nil && !errors.Is(err, c.want) || time.Since(began) != c.after {
				t.Errorf("%s: %v after %v, want %v after %v", name, err, time.Since(began), c.want, c.after)
			}
			synctest.Wait()
			if len(f.over) != 0 {
				t.Errorf("%s: it has ended twice", name)
			}
		})
	}
}

// endless has no deadlines. A pipe's cost memory, those of TCP none.
type endless struct{ net.Conn }

func (endless) SetReadDeadline(time.Time) error  { return nil }
func (endless) SetWriteDeadline(time.Time) error { return nil }

// TestShortWordMakesLittle: what one as long as a client's beat in its records costs on its
// way through a trunk, in pieces of memory: what waits to be read, the start of the goroutine
// that writes it after Gather and of the one that hears it, and what words makes of any.
func TestShortWordMakesLittle(t *testing.T) {
	const most = 8
	a, b := net.Pipe()
	p := trunksOver(t, endless{a}, endless{b})
	near, far := p.stream(t, "")
	s, heard := loop.New(far, framed, loop.Clients(), 4), make(chan struct{})
	s.Follow(t.Context(), func(*string) bool { heard <- struct{}{}; return true }, func(error) {})
	defer s.Close()
	word := append([]byte{0, 24}, make([]byte, 24)...)
	if made := testing.AllocsPerRun(200, func() {
		near.Write(word)
		<-heard
	}); made > most {
		t.Errorf("%v pieces of memory are made for a word, at most %d", made, most)
	}
}
