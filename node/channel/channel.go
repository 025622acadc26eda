// Package channel is the control connection of a client: crypto/tls until the login is
// proven, then the records of crypto/record under keys of the same handshake, so that a
// connection that rests keeps no state of crypto/tls.
//
// It owns the byte at which one takes over from the other. The arbiter ends TLS in its
// direction, which says so under TLS's own keys (close_notify), when the client's hello said
// that it knows the channel and the login is proven; the client hears it and ends its
// own. Each direction goes on in records at once. Where either end is of a build
// that knows no channel, or a login is refused, all of it is TLS. The package does not own
// what is said (node/protocol), nor when it is time (node/arbiter).
package channel

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/meshcrypt/meshcrypt/crypto/record"
)

// ErrStays says that TLS cannot be left: it does not stand on what Below made, so it may
// hold bytes of what comes after.
var ErrStays = errors.New("channel: TLS reads ahead of its records")

// GoodbyeWithin is how long an end may take to be said; who reads nothing is not waited
// for longer.
const GoodbyeWithin = time.Second

// Conn is one end. Read belongs to one goroutine; the rest is for any.
type Conn struct {
	net.Conn // below both, for deadlines and addresses
	isClient bool
	ledger   record.Ledger

	reads *tls.Conn // nil: it reads records; its reader's own

	mu     sync.Mutex // protects what follows, and keeps what is written in order
	writes *tls.Conn  // nil: it writes records
	out    *record.Writer
	in     *record.Reader // made with out; its reader's own from then on
}

// Server is the arbiter's end of a handshake that is done. The ledger is nil but in tests.
func Server(secure *tls.Conn, ledger record.Ledger) *Conn { return over(secure, ledger, false) }

// Client is the client's end, which leaves TLS as soon as the arbiter has.
func Client(secure *tls.Conn, ledger record.Ledger) *Conn { return over(secure, ledger, true) }

func over(secure *tls.Conn, ledger record.Ledger, isClient bool) *Conn {
	c := &Conn{Conn: secure.NetConn(), isClient: isClient, ledger: ledger, reads: secure, writes: secure}
	if b, ok := c.Conn.(*below); ok {
		c.Conn = b.Conn
	}
	return c
}

// Leave ends TLS in this end's direction: what is written from now on is in records. The word that
// says so goes with the first of them, for each write is a segment and is relayed by itself: each
// end says something soon, if only a beat (node/loop).
func (c *Conn) Leave() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.writes == nil {
		return nil
	}
	b, ok := c.writes.NetConn().(*below)
	if !ok {
		return ErrStays
	}
	state := c.writes.ConnectionState()
	to, from, err := record.Derive(state.ExportKeyingMaterial)
	if err != nil {
		return err
	}
	if !c.isClient {
		to, from = from, to
	}
	b.keep()
	if err := c.writes.CloseWrite(); err != nil {
		return err
	}
	out := record.NewWriter(c.Conn, to, c.ledger)
	out.Ahead(b.last())
	c.out, c.in, c.writes = out, record.NewReader(c.Conn, from), nil
	return nil
}

// Read returns what comes next, in TLS or behind it.
func (c *Conn) Read(b []byte) (int, error) {
	if c.reads == nil {
		return c.in.Read(b)
	}
	n, err := c.reads.Read(b)
	if err != io.EOF || !c.goesOn() {
		return n, err
	}
	if c.reads = nil; n > 0 {
		return n, nil
	}
	return c.in.Read(b)
}

// goesOn reports whether the end of TLS, which was just read, is not that of all. Whoever
// cuts the connection can end TLS so, but then nothing comes behind it.
func (c *Conn) goesOn() bool {
	b, ok := c.reads.NetConn().(*below)
	if !ok || !b.boundary.Between() {
		return false
	}
	if c.isClient {
		return c.Leave() == nil // it ends if nothing can be written any more
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.writes == nil
}

// Write sends b.
func (c *Conn) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.writes != nil {
		return c.writes.Write(b)
	}
	return c.out.Write(b)
}

// Close says the end, where nobody is in the middle of a word, and closes the connection.
func (c *Conn) Close() error {
	if c.mu.TryLock() {
		_ = c.SetWriteDeadline(time.Now().Add(GoodbyeWithin)) // a closed one says so below
		_ = c.goodbye()                                       // the other end may be gone
		c.mu.Unlock()
	}
	return c.Conn.Close()
}

func (c *Conn) goodbye() error {
	if c.writes != nil {
		return c.writes.CloseWrite()
	}
	return c.out.Close()
}
