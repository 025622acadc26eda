package loop

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// pipes are both ends of one.
func pipes() (near, far *Pipe) {
	a, b := net.Pipe()
	return NewPipe(a, Nodes()), NewPipe(b, Nodes())
}

// TestPipeCarriesBytes, more than a record holds, and nothing else, however long nobody
// says a word in between; the end of it is an end.
func TestPipeCarriesBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := pipes()
		defer far.Close()
		sent := bytes.Repeat([]byte("meshcrypt"), 20_000)
		go func() {
			near.Write(sent[:7])
			<-time.After(time.Hour)
			near.Write(sent[7:])
			near.Close()
		}()
		go io.Copy(io.Discard, near) // whose beats near hears
		got, err := io.ReadAll(far)
		if err != nil || !bytes.Equal(got, sent) {
			t.Errorf("%d bytes of %d, %v", len(got), len(sent), err)
		}
	})
}

// TestPipeEndsInSilence: the other end is gone without a word.
func TestPipeEndsInSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		defer b.Close()
		near := NewPipe(a, Nodes())
		defer near.Close()
		go io.Copy(io.Discard, b)
		began := time.Now()
		if _, err := near.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != NodeSilence {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
	})
}

// TestPipeKeepsDeadlines that its owner sets, beats or not: of a handshake inside.
func TestPipeKeepsDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := pipes()
		defer near.Close()
		defer far.Close()
		go io.Copy(io.Discard, far)
		if err := near.SetDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if _, err := near.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != time.Minute {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
	})
}

// half is a connection of which each direction ends by itself.
type half struct {
	net.Conn
	out net.Conn
}

func (h half) Write(b []byte) (int, error)         { return h.out.Write(b) }
func (h half) SetWriteDeadline(at time.Time) error { return h.out.SetWriteDeadline(at) }
func (h half) CloseWrite() error                   { return h.out.Close() }
func (h half) Close() error                        { return errors.Join(h.Conn.Close(), h.out.Close()) }

// TestHalfPipe: after the end of one direction the other goes on, for hours.
func TestHalfPipe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		upIn, upOut := net.Pipe()
		downIn, downOut := net.Pipe()
		near, far := NewPipe(half{downIn, upOut}, Nodes()), NewPipe(half{upIn, downOut}, Nodes())
		defer near.Close()
		defer far.Close()
		go func() {
			<-time.After(time.Minute)
			near.Write([]byte("question"))
			near.CloseWrite()
		}()
		go func() {
			io.ReadAll(far)
			<-time.After(time.Hour)
			far.Write([]byte("answer"))
			far.CloseWrite()
		}()
		if got, err := io.ReadAll(near); err != nil || string(got) != "answer" {
			t.Errorf("%q, %v", got, err)
		}
	})
}

// TestPipeCutShort: an end within a record is none that the protocol inside made.
func TestPipeCutShort(t *testing.T) {
	a, b := net.Pipe()
	near := NewPipe(a, Nodes())
	defer near.Close()
	go func() {
		io.CopyN(io.Discard, b, 2) // near's first beat
		b.Write([]byte{0, 3, 'a'})
		b.Close()
	}()
	if got, err := io.ReadAll(near); string(got) != "a" || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%q, %v", got, err)
	}
}

// FuzzPipe: whatever comes, there are no more bytes inside than came, and an end.
func FuzzPipe(f *testing.F) {
	f.Add([]byte{0, 0, 0, 1, 'x', 0, 0})
	f.Add([]byte{0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		near, far := net.Pipe()
		p := NewPipe(near, Nodes())
		defer p.Close()
		go io.Copy(io.Discard, far)
		go func() { far.Write(b); far.Close() }()
		if got, _ := io.ReadAll(p); len(got) > len(b) {
			t.Errorf("%d bytes out of %d", len(got), len(b))
		}
	})
}

// dribble is a connection that brings a byte at a time, as a slow way may.
type dribble struct{ net.Conn }

func (d dribble) Read(b []byte) (int, error) { return d.Conn.Read(b[:min(len(b), 1)]) }

// TestPipeOverASlowWay: a record's length may come in two pieces.
func TestPipeOverASlowWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		near, far := NewPipe(a, Nodes()), NewPipe(dribble{b}, Nodes())
		defer far.Close()
		sent := bytes.Repeat([]byte("meshcrypt"), 100)
		go func() {
			near.Write(sent)
			near.Write(sent[:3])
			near.Close()
		}()
		go io.Copy(io.Discard, near)
		if got, err := io.ReadAll(far); err != nil || !bytes.Equal(got, append(sent, sent[:3]...)) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	})
}
