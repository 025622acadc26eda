package channel

import (
	"net"
	"sync"
	"time"

	"github.com/meshcrypt/meshcrypt/crypto/record"
)

// below is a connection of which crypto/tls gets no byte behind the record that it reads.
type below struct {
	net.Conn
	boundary *record.Boundary

	mu    sync.Mutex // protects what follows: TLS writes while it reads, too
	keeps bool       // what TLS writes: its last word
	over  bool       // that was taken
	kept  []byte     // that
}

// keep has what TLS writes from now on kept, not sent.
func (b *below) keep() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.keeps = true
}

// last takes what was kept. What TLS writes after its last word goes nowhere: it answers each
// update of keys that the other end asks it for, as often as that likes.
func (b *below) last() (word []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	word, b.kept, b.over = b.kept, nil, true
	return word
}

// Below is what a tls.Conn has to stand on for its channel to leave it later.
func Below(conn net.Conn) net.Conn { return &below{Conn: conn, boundary: record.NewBoundary(conn)} }

// Read returns bytes of one record.
func (b *below) Read(p []byte) (int, error) { return b.boundary.Read(p) }

// Write sends bytes of TLS, or keeps them where they are its last.
func (b *below) Write(p []byte) (int, error) {
	if b.holds(p) {
		return len(p), nil
	}
	return b.Conn.Write(p)
}

// holds takes what is not to be sent.
func (b *below) holds(p []byte) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.keeps && !b.over {
		b.kept = append(b.kept, p...)
	}
	return b.keeps
}

// SetWriteDeadline does nothing: it is crypto/tls alone that asks for one here, to say the
// end of its direction, and it leaves it in the past, where our records go on. Conn has
// those of its users.
func (*below) SetWriteDeadline(time.Time) error { return nil }

// NetConn is the connection itself, as with crypto/tls.
func (b *below) NetConn() net.Conn { return b.Conn }
