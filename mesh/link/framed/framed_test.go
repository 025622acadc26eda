package framed

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/meshcrypt/meshcrypt/mesh/link"
)

var peer = netip.MustParseAddrPort("198.51.100.7:40000")

// pair is both ends of one stream in memory.
func pair(t *testing.T) (near, far *Socket) {
	a, b := net.Pipe()
	near, far = New(a, peer), New(b, peer)
	t.Cleanup(func() { near.Close(); far.Close() })
	return near, far
}

// datagrams are n of size bytes and one SPI, the last one shorter.
func datagrams(n, size, last int, spi byte) []byte {
	b := bytes.Repeat([]byte{spi}, (n-1)*size+last)
	for i := range n {
		b[i*size+4] = byte(i)
	}
	return b
}

// TestTrainsStayTrains: what goes in as one train comes out as one.
func TestTrainsStayTrains(t *testing.T) {
	near, far := pair(t)
	for _, want := range []struct{ bytes, segment int }{{1400, 1400}, {44*1400 + 99, 1400}, {64 * 100, 100}, {MaxFrame, MaxFrame}} {
		b := bytes.Repeat([]byte{9}, want.bytes)
		if err := near.Send(b, want.segment, link.Path{}); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, link.MaxTrain)
		train, err := far.Receive(got)
		if err != nil || train.Len != want.bytes || train.Segment != want.segment || !bytes.Equal(got[:train.Len], b) {
			t.Errorf("%+v became %+v, %v", want, train, err)
		}
		if train.Path.Remote != peer || train.Path.Local.IsValid() {
			t.Errorf("path %+v", train.Path)
		}
	}
	_, nearSpoke := near.Spoke()
	if _, farSpoke := far.Spoke(); !nearSpoke || farSpoke {
		t.Error("who spoke is not told apart")
	}
}

// TestTrainsArePure: a train ends where the SPI changes, after a shorter
// datagram, at MaxSegments, and marked datagrams travel alone.
func TestTrainsArePure(t *testing.T) {
	var queue []byte
	queue = appendFrames(queue, datagrams(3, 100, 100, 1), 100)
	queue = appendFrames(queue, datagrams(2, 100, 100, 2), 100)
	queue = appendFrames(queue, datagrams(2, 100, 50, 2), 100)
	queue = appendFrames(queue, datagrams(1, 60, 60, 2), 60)
	queue = appendFrames(queue, datagrams(2, 100, 100, 0), 100)
	queue = appendFrames(queue, datagrams(link.MaxSegments+1, 100, 100, 3), 100)
	queue = appendFrames(queue, []byte{3, 3}, 2) // too short to have an SPI
	queue = appendFrames(queue, []byte{3, 3}, 2)
	c := cutter{bufio.NewReaderSize(bytes.NewReader(queue), readBuffer)}
	b := make([]byte, link.MaxTrain)
	var got []string
	for {
		n, segment, err := c.train(b)
		if err != nil {
			break
		}
		got = append(got, fmt.Sprintf("%d by %d", n, segment))
	}
	want := []string{"300 by 100", "350 by 100", "60 by 60", "100 by 100", "100 by 100", "6400 by 100", "100 by 100", "2 by 2", "2 by 2"}
	if !slices.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

// TestSlowStreamRefuses: nobody waits for a stream that takes nothing; the
// queue has a limit in time and one in bytes (I10), and a stuck stream ends.
func TestSlowStreamRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe() // nobody reads b
		s := New(a, peer)
		defer b.Close()
		train := make([]byte, 60_000)
		sent := 0
		for s.Send(train, 1400, link.Path{}) == nil {
			sent += len(train)
			synctest.Wait()
		}
		if sent < MaxQueue/2 || sent > 2*MaxQueue {
			t.Errorf("%d bytes were taken, the limit is %d", sent, MaxQueue)
		}
		<-time.After(QueueTime + time.Millisecond)
		if err := s.Send([]byte("late"), 0, link.Path{}); !errors.Is(err, link.ErrQueue) {
			t.Errorf("after %v: %v", QueueTime, err)
		}
		<-s.Done()
		if err := s.Send([]byte("x"), 0, link.Path{}); !errors.Is(err, link.ErrClosed) {
			t.Errorf("after the end: %v", err)
		}
	})
}

func TestSendRefuses(t *testing.T) {
	near, _ := pair(t)
	if err := near.Send(make([]byte, MaxFrame+1), 0, link.Path{}); !errors.Is(err, link.ErrTooBig) {
		t.Errorf("a datagram beyond the limit: %v", err)
	}
	if err := near.Send(nil, 0, link.Path{}); err != nil {
		t.Errorf("nothing: %v", err)
	}
}

// TestStreamEnds: at either end, and by bytes that are no frame.
func TestStreamEnds(t *testing.T) {
	for name, end := range map[string]func(near *Socket, raw net.Conn){
		"closed here":  func(near *Socket, _ net.Conn) { near.Close() },
		"closed there": func(_ *Socket, raw net.Conn) { raw.Close() },
		"zero length":  func(_ *Socket, raw net.Conn) { raw.Write([]byte{0, 0}) },
		"too long":     func(_ *Socket, raw net.Conn) { raw.Write([]byte{0xff, 0xff}) },
	} {
		a, raw := net.Pipe()
		near := New(a, peer)
		go end(near, raw)
		if _, err := near.Receive(make([]byte, link.MaxTrain)); !errors.Is(err, link.ErrClosed) {
			t.Errorf("%s: %v", name, err)
		}
		<-near.Done()
		raw.Close()
	}
}

// goodbye says something before it closes, as TLS does, and waits until it is read.
type goodbye struct{ net.Conn }

func (c goodbye) NetConn() net.Conn { return c.Conn }

func (c goodbye) Close() error {
	_, err := c.Conn.Write([]byte("bye"))
	return errors.Join(err, c.Conn.Close())
}

// TestCloseWaitsForNobody: a peer that has stopped to read holds up neither who
// closes the stream nor who sends meanwhile.
func TestCloseWaitsForNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe() // nobody reads b
		defer b.Close()
		s := New(goodbye{a}, peer)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := s.Send([]byte("x"), 0, link.Path{}); !errors.Is(err, link.ErrClosed) {
			t.Errorf("after the end: %v", err)
		}
	})
}

// FuzzTrain: whatever a stream carries, no byte is invented or lost (I11), and
// it matters not in which pieces it comes.
func FuzzTrain(f *testing.F) {
	f.Add(appendFrames(nil, datagrams(5, 100, 40, 1), 100))
	f.Add(appendFrames(appendFrames(nil, datagrams(2, 60, 60, 1), 60), datagrams(2, 60, 60, 2), 60))
	f.Add([]byte{0, 0})
	f.Add([]byte{0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, stream []byte) {
		whole := reframed(t, cutter{bufio.NewReaderSize(bytes.NewReader(stream), readBuffer)})
		pieces := reframed(t, cutter{bufio.NewReaderSize(iotest.OneByteReader(bytes.NewReader(stream)), readBuffer)})
		if !bytes.HasPrefix(stream, whole) || !bytes.Equal(whole, pieces) {
			t.Errorf("%x became %x, and %x in pieces", stream, whole, pieces)
		}
	})
}

// reframed cuts a stream to its end and frames the datagrams again.
func reframed(t *testing.T, c cutter) (again []byte) {
	b := make([]byte, link.MaxTrain)
	for {
		n, segment, err := c.train(b)
		if err != nil {
			return again
		}
		if n <= 0 || segment <= 0 || segment > n || n > len(b) || (n+segment-1)/segment > link.MaxSegments {
			t.Fatalf("a train of %d by %d", n, segment)
		}
		again = appendFrames(again, b[:n], segment)
	}
}
