package channel

import (
	"net"
	"time"

	"github.com/meshcrypt/meshcrypt/crypto/record"
)

// below is a connection of which crypto/tls gets no byte behind the record that it reads.
type below struct {
	net.Conn
	boundary *record.Boundary

	keeps bool   // what TLS writes: its last word
	kept  []byte // that
}

// last takes what TLS wrote since it is kept. What it might write after its last word goes nowhere.
func (b *below) last() (word []byte) {
	word, b.kept = b.kept, nil
	return word
}

// Below is what a tls.Conn has to stand on for its channel to leave it later.
func Below(conn net.Conn) net.Conn { return &below{Conn: conn, boundary: record.NewBoundary(conn)} }

// Read returns bytes of one record.
func (b *below) Read(p []byte) (int, error) { return b.boundary.Read(p) }

// Write sends bytes of TLS, or keeps them where they are its last.
func (b *below) Write(p []byte) (int, error) {
	if b.keeps {
		b.kept = append(b.kept, p...)
		return len(p), nil
	}
	return b.Conn.Write(p)
}

// SetWriteDeadline does nothing: it is crypto/tls alone that asks for one here, to say the
// end of its direction, and it leaves it in the past, where our records go on. Conn has
// those of its users.
func (*below) SetWriteDeadline(time.Time) error { return nil }

// NetConn is the connection itself, as with crypto/tls.
func (b *below) NetConn() net.Conn { return b.Conn }
