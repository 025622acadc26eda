// Package protocol is what the parties say to each other over TLS: client to
// arbiter, node to arbiter, joiner to arbiter. It owns the messages and their
// framing. It does not own connections, and it decides nothing.
//
// A frame is a 4-byte big-endian length and that many bytes of JSON, one
// Message; an empty one is a beat (node/loop). Unknown fields are ignored and
// unknown kinds are reported by name, so that versions N and N-1 can talk.
package protocol

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
)

// Bounds on one frame, in bytes (I10); a larger one ends the connection.
const (
	// MaxFrame is for everybody.
	MaxFrame = 1 << 20
	// MaxAskFrame is for what a stranger or a client says to an arbiter. The longest of an
	// honest one is a login by a chain of certificates.
	MaxAskFrame = 64 << 10
	// MaxMemberFrame is for streams between members: a full view names every
	// session of an egress, a hello or a usage every slice of an agent.
	MaxMemberFrame = 64 << 20
	// MaxTogether is what frames have that go in one write; a longer one goes alone.
	MaxTogether = 16 << 10
)

// Errors of a Conn.
var (
	ErrFrame   = errors.New("protocol: malformed frame")
	ErrTooLong = errors.New("protocol: frame exceeds limit")
)

// Conn frames messages of type M over a byte stream. Read belongs to one
// goroutine; Write is safe for concurrent use.
type Conn[M any] struct {
	stream io.ReadWriter
	limit  int        // bytes of a frame that is written
	most   int        // bytes of one that is read
	size   [4]byte    // of the frame that is being read; its reader's own
	mu     sync.Mutex // serialises writers
}

// NewConn frames messages over stream, at most MaxFrame each.
func NewConn[M any](stream io.ReadWriter) *Conn[M] {
	return &Conn[M]{stream: stream, limit: MaxFrame, most: MaxFrame}
}

// NewAsked is the arbiter's end of a connection that anybody may make: it reads at most
// MaxAskFrame, and writes as NewConn.
func NewAsked[M any](stream io.ReadWriter) *Conn[M] {
	return &Conn[M]{stream: stream, limit: MaxFrame, most: MaxAskFrame}
}

// NewStream frames the messages between a member and the arbiter, at most
// MaxMemberFrame each.
func NewStream(stream io.ReadWriter) *Conn[Node] {
	return &Conn[Node]{stream: stream, limit: MaxMemberFrame, most: MaxMemberFrame}
}

// Read returns the next message. A beat is none: who reads so has said to nobody that
// it knows them.
func (c *Conn[M]) Read() (*M, error) {
	m, err := c.Next()
	if err == nil && m == nil {
		err = fmt.Errorf("%w: empty", ErrFrame)
	}
	return m, err
}

// Next returns the next message; nil is a beat.
func (c *Conn[M]) Next() (*M, error) {
	if _, err := io.ReadFull(c.stream, c.size[:]); err != nil {
		return nil, err
	}
	n := int64(binary.BigEndian.Uint32(c.size[:]))
	if n > int64(c.most) {
		return nil, fmt.Errorf("%w: %d bytes", ErrTooLong, n)
	}
	if n == 0 {
		return nil, nil
	}
	var body bytes.Buffer // grows with what comes, not with what was announced
	if _, err := io.CopyN(&body, c.stream, n); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	m := new(M)
	if err := json.Unmarshal(body.Bytes(), m); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFrame, err)
	}
	return m, nil
}

// once is a message's encoding, made by whoever writes it first.
type once struct {
	sync.Once
	body []byte
	err  error
}

// ToMany has the message encoded once, however many it is written to. It must not
// change any more.
func (n *Node) ToMany() *Node {
	n.once = &once{}
	return n
}

// ToMany is the same for clients.
func (c *Client) ToMany() *Client {
	c.once = &once{}
	return c
}

func (n *Node) shared() *once   { return n.once }
func (c *Client) shared() *once { return c.once }

// encode gives the message's JSON.
func encode(m any) ([]byte, error) {
	many, is := m.(interface{ shared() *once })
	if !is || many.shared() == nil {
		return json.Marshal(m)
	}
	o := many.shared()
	o.Do(func() { o.body, o.err = json.Marshal(m) })
	return o.body, o.err
}

// Write sends messages, short ones together in one write: each write is a record of its own, and
// is relayed by itself. After an error it is not known which of them were sent.
func (c *Conn[M]) Write(all ...*M) error {
	var frames []byte
	for _, m := range all {
		body, err := encode(m)
		if err != nil {
			return fmt.Errorf("protocol: encode: %w", err)
		}
		if len(body) > c.limit {
			return fmt.Errorf("%w: %d bytes", ErrTooLong, len(body))
		}
		if len(frames) > 0 && len(frames)+4+len(body) > MaxTogether {
			if err := c.send(frames); err != nil {
				return err
			}
			frames = nil
		}
		frames = binary.BigEndian.AppendUint32(slices.Grow(frames, 4+len(body)), uint32(len(body)))
		frames = append(frames, body...)
	}
	return c.send(frames)
}

// Beat sends an empty frame, which says only that the sender is there. Builds that do
// not know it take it for the end of sense, so it is for who said that it knows it.
func (c *Conn[M]) Beat() error { return c.send(beat) }

// beat is what all beats are; who writes changes nothing.
var beat = make([]byte, 4)

func (c *Conn[M]) send(frame []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err := c.stream.Write(frame)
	return err
}
