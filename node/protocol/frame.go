// Package protocol is what the parties say to each other over TLS: client to
// arbiter, node to arbiter, joiner to arbiter. It owns the messages and their
// framing. It does not own connections, and it decides nothing.
//
// A frame is a 4-byte big-endian length and that many bytes of JSON, one
// Message. Unknown fields are ignored and unknown kinds are reported by name,
// so that versions N and N-1 can talk.
package protocol

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
)

// MaxFrame bounds one frame, in bytes; a larger one ends the connection.
const MaxFrame = 1 << 20

// Errors of a Conn.
var (
	ErrFrame   = errors.New("protocol: malformed frame")
	ErrTooLong = errors.New("protocol: frame exceeds limit")
)

// Conn frames messages of type M over a byte stream. Read belongs to one
// goroutine; Write is safe for concurrent use.
type Conn[M any] struct {
	stream io.ReadWriter
	mu     sync.Mutex // serialises writers
}

// NewConn frames messages over stream.
func NewConn[M any](stream io.ReadWriter) *Conn[M] { return &Conn[M]{stream: stream} }

// Read returns the next message.
func (c *Conn[M]) Read() (*M, error) {
	var size [4]byte
	if _, err := io.ReadFull(c.stream, size[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(size[:])
	if n > MaxFrame {
		return nil, fmt.Errorf("%w: %d bytes", ErrTooLong, n)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(c.stream, body); err != nil {
		return nil, err
	}
	m := new(M)
	if err := json.Unmarshal(body, m); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFrame, err)
	}
	return m, nil
}

// Write sends one message.
func (c *Conn[M]) Write(m *M) error {
	body, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("protocol: encode: %w", err)
	}
	if len(body) > MaxFrame {
		return fmt.Errorf("%w: %d bytes", ErrTooLong, len(body))
	}
	frame := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(body)), uint32(len(body)))
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err = c.stream.Write(append(frame, body...))
	return err
}
