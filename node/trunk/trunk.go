// Package trunk carries many connections in one: a gateway has a trunk to the arbiter, and
// in it a stream for each client that it relays, so that a client costs neither a
// handshake nor a connection more.
//
// It owns the frames, the streams, and that none of them can hold up another: each
// direction of a stream has a window, the reader never waits for whoever reads a stream,
// and what waits in memory is bounded for a stream and for the trunk. It does not own who
// may open a trunk, nor whose the streams are: the first word of each is the opener's
// (node/port). When a trunk is dead says node/loop.
//
// A trunk has one goroutine, who reads. What is written on a quiet trunk goes at once. What
// comes soon after goes together a moment later (write.go), for each record costs a system
// call and wakes a process, whatever is in it.
//
// What breaks the rules ends the trunk: a stream that was never opened, data beyond the
// window, frames too long. A frame of a stream that is over is ignored, for it may have
// been on its way.
package trunk

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/meshcrypt/meshcrypt/node/loop"
)

var (
	// ErrLost is how a stream ends that neither end has closed.
	ErrLost = errors.New("trunk: the stream was cut off")
	// ErrFull is returned by Open while the trunk carries all it may.
	ErrFull = errors.New("trunk: no room for another stream")
	// errStalled ends a trunk whose other end takes nothing.
	errStalled = errors.New("trunk: the other end takes nothing")
)

// Trunk is one end. Run belongs to one goroutine; the rest is for any.
type Trunk struct {
	pipe    *loop.Pipe
	within  time.Duration  // that the other end takes what is written
	serving sync.WaitGroup // what accept does
	opensAt time.Time      // when the opens heard so far would be due; the reader's own
	heard   []*Stream      // that something came for, and who reads them was not told; the reader's own

	mu      sync.Mutex // protects what follows, and all that streams have
	streams map[uint32]*Stream
	last    uint32 // stream that was opened
	held    int    // bytes that wait to be read
	over    bool
	out     outbound
}

// New makes a trunk of a connection whose other end makes one, too. It beats from now on,
// and carries something while Run runs.
func New(conn net.Conn) *Trunk { return Gathering(conn, Gather) }

// Gathering is New with another Gather. With none each frame goes by itself, as who repeats a
// run in virtual time needs it: of two streams that say something in the same moment neither
// is the first.
func Gathering(conn net.Conn, gather time.Duration) *Trunk {
	t := &Trunk{pipe: loop.NewPipe(conn, loop.Nodes()), within: WriteWithin, streams: make(map[uint32]*Stream)}
	t.out.every = gather
	return t
}

// Run reads until the trunk ends, and says why it did. Each stream that the other end
// opens is accept's, on a goroutine of its own, with what was said of it; Run waits for
// them. Who dials a trunk accepts none.
func (t *Trunk) Run(accept func(s *Stream, word []byte)) error {
	err := t.read(accept)
	t.cut()
	t.serving.Wait()
	return err
}

// Close ends the trunk, and all streams with it, in their order. What they have written
// goes before, if the other end takes it within CloseWithin.
func (t *Trunk) Close() {
	t.end()
	t.flush()
	t.pipe.Close() // nobody is left to be told if it fails
}

// cut is Close of a trunk that nothing can be written to any more, or nothing shall.
func (t *Trunk) cut() {
	t.end()
	t.pipe.Close()
}

// end has nothing be said any more.
func (t *Trunk) end() {
	t.mu.Lock()
	streams := slices.SortedFunc(maps.Values(t.streams), func(a, b *Stream) int { return cmp.Compare(a.number, b.number) })
	t.over, t.streams = true, nil
	for _, s := range streams {
		s.change()
	}
	t.mu.Unlock()
	for _, s := range streams {
		s.tell()
	}
}

// Over reports whether the trunk has ended.
func (t *Trunk) Over() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.over
}

// Open begins a stream; word says whose it is.
func (t *Trunk) Open(word []byte) (*Stream, error) {
	if len(word) > MaxBody {
		return nil, fmt.Errorf("%w: a word of %d bytes", ErrFrame, len(word))
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.over:
		return nil, ErrLost
	case t.last == math.MaxUint32: // out of numbers: another one is dialled
		go t.Close()
		return nil, ErrLost
	case len(t.streams) >= MaxStreams:
		return nil, ErrFull
	}
	t.last++
	s := t.add(t.last)
	t.put(kindOpen, s.number, word)
	return s, nil
}

func (t *Trunk) add(number uint32) *Stream {
	s := &Stream{trunk: t, number: number, credit: Window}
	t.streams[number] = s
	return s
}

// read hears one frame after the other. Streams are told before it waits for more: whoever
// reads one is woken once by all that came for it together.
func (t *Trunk) read(accept func(*Stream, []byte)) error {
	in := bufio.NewReaderSize(t.pipe, readRoom)
	for {
		head, err := t.peek(in, headerSize)
		if err != nil {
			return err
		}
		h, err := parseHeader(head)
		if err != nil {
			return err
		}
		frame, err := t.peek(in, headerSize+h.length)
		if err != nil {
			return err
		}
		if err := t.hear(h, frame[headerSize:], accept); err != nil {
			return err
		}
		in.Discard(len(frame)) // it is there
	}
}

// peek looks at the next n bytes; while it waits for them nobody waits for what came before.
func (t *Trunk) peek(in *bufio.Reader, n int) ([]byte, error) {
	if in.Buffered() < n {
		t.tell()
	}
	return in.Peek(n)
}

// hear takes one frame. body is the reader's.
func (t *Trunk) hear(h header, body []byte, accept func(*Stream, []byte)) error {
	if h.kind == kindOpen {
		return t.opened(h.stream, body, accept)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if h.kind <= kindClose && (h.stream == 0 || h.stream > t.last) {
		return fmt.Errorf("%w: stream %d was never opened", ErrFrame, h.stream)
	}
	s := t.streams[h.stream]
	if s == nil {
		return nil
	}
	if !s.heard {
		s.heard, t.heard = true, append(t.heard, s)
	}
	return s.hear(h.kind, body)
}

// tell wakes who waits for what was heard.
func (t *Trunk) tell() {
	if len(t.heard) == 0 {
		return
	}
	t.mu.Lock()
	for _, s := range t.heard {
		s.heard = false
		s.change()
	}
	t.mu.Unlock()
	for _, s := range t.heard {
		s.tell()
	}
	clear(t.heard) // one that is closed shall not stay
	t.heard = t.heard[:0]
}

// opened takes a stream that the other end begins.
func (t *Trunk) opened(number uint32, body []byte, accept func(*Stream, []byte)) error {
	t.mu.Lock()
	if accept == nil || number <= t.last {
		t.mu.Unlock()
		return fmt.Errorf("%w: stream %d is not for the other end to open", ErrFrame, number)
	}
	t.last = number
	var s *Stream
	if !t.over && len(t.streams) < MaxStreams {
		s = t.add(number)
	} else {
		t.put(kindClose, number, nil)
	}
	t.mu.Unlock()
	if s != nil {
		word := append([]byte(nil), body...)
		t.serving.Go(func() { accept(s, word) })
	}
	t.slow()
	return nil
}

// slow waits where streams are opened faster than anybody needs. Nothing else is heard
// meanwhile, and nobody but the other end has to wait for it.
func (t *Trunk) slow() {
	now := time.Now()
	if early := now.Add(-OpensFree * OpensEach); t.opensAt.Before(early) {
		t.opensAt = early
	}
	t.opensAt = t.opensAt.Add(OpensEach)
	if wait := t.opensAt.Sub(now); wait > 0 {
		t.tell()
		<-time.After(wait)
	}
}

// makeRoom lets so many bytes more wait; the caller holds mu. Where there is no room the
// fullest streams go, for a stream that is read holds next to nothing: so many that half of
// the room is free, or each further frame would have all streams looked at again.
func (t *Trunk) makeRoom(more int) {
	if t.held+more <= MaxHeld {
		return
	}
	for _, s := range t.fullestFirst() {
		if t.held <= MaxHeld/2 {
			return
		}
		s.cut()
	}
}

// fullestFirst is all streams in which something waits; the caller holds mu.
func (t *Trunk) fullestFirst() []*Stream {
	var full []*Stream
	for _, s := range t.streams {
		if len(s.in) > 0 {
			full = append(full, s)
		}
	}
	slices.SortFunc(full, func(a, b *Stream) int {
		return cmp.Or(cmp.Compare(len(b.in), len(a.in)), cmp.Compare(a.number, b.number))
	})
	return full
}
