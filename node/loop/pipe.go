package loop

import (
	"encoding/binary"
	"io"
	"math"
	"net"
	"sync"
	"time"
)

// Pipe is a connection whose bytes are another protocol's: they travel in records, and
// beats between them. Both ends have to know that it is one. A record is a length of two
// bytes, big endian, and that many; one of length 0 is a beat.
type Pipe struct {
	line
	// Of the record that is being read, its reader's own: its length, how much of that has
	// come, and how much of the record is still to come. A read may end in the middle.
	size        [2]byte
	sized, rest int

	writing sync.Mutex      // serialises records, and protects frame
	frame   [pipeShort]byte // where short ones are made
}

// NewPipe makes a pipe of a connection; it beats from now on.
func NewPipe(conn net.Conn, pace Pace) *Pipe {
	p := &Pipe{line: line{Conn: conn, pace: pace}}
	p.beat = func() error { return p.record(nil) }
	p.beats()
	return p
}

// Read returns bytes of the protocol inside.
func (p *Pipe) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	if err := p.Await(); err != nil {
		return 0, err
	}
	n, err := p.line.Read(b[:min(len(b), p.rest)])
	p.rest -= n
	if err == io.EOF && p.rest > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// Await waits for bytes of the protocol inside, or the end: who reads needs no buffer
// before.
func (p *Pipe) Await() error {
	for p.rest == 0 {
		n, err := p.line.Read(p.size[p.sized:])
		if p.sized += n; err != nil {
			return err
		}
		if p.sized == len(p.size) {
			p.sized, p.rest = 0, int(binary.BigEndian.Uint16(p.size[:]))
		}
	}
	return nil
}

// Write sends bytes of the protocol inside.
func (p *Pipe) Write(b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		piece := b[n:min(len(b), n+math.MaxUint16)]
		if err = p.record(piece); err == nil {
			n += len(piece)
		}
	}
	return n, err
}

func (p *Pipe) record(b []byte) error {
	p.writing.Lock()
	defer p.writing.Unlock()
	frame := p.frame[:0]
	if 2+len(b) > len(p.frame) {
		frame = make([]byte, 0, 2+len(b))
	}
	_, err := p.line.Write(append(binary.BigEndian.AppendUint16(frame, uint16(len(b))), b...))
	return err
}

// SetDeadline is that of net.Conn; silence ends a read before.
func (p *Pipe) SetDeadline(at time.Time) error {
	if err := p.SetReadDeadline(at); err != nil {
		return err
	}
	return p.SetWriteDeadline(at)
}

// SetReadDeadline likewise.
func (p *Pipe) SetReadDeadline(at time.Time) error { return p.until(at) }

// CloseWrite ends this end's direction, where the connection below can. The other one
// goes on, and its beats.
func (p *Pipe) CloseWrite() error {
	half, ok := p.Conn.(interface{ CloseWrite() error })
	if !ok {
		return p.Close()
	}
	p.hush()
	p.writing.Lock()
	defer p.writing.Unlock() // a beat that was about to be sent comes before the end
	return half.CloseWrite()
}
