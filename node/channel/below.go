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
}

// Below is what a tls.Conn has to stand on for its channel to leave it later.
func Below(conn net.Conn) net.Conn { return &below{conn, record.NewBoundary(conn)} }

// Read returns bytes of one record.
func (b *below) Read(p []byte) (int, error) { return b.boundary.Read(p) }

// SetWriteDeadline does nothing: it is crypto/tls alone that asks for one here, to say the
// end of its direction, and it leaves it in the past, where our records go on. Conn has
// those of its users.
func (*below) SetWriteDeadline(time.Time) error { return nil }

// NetConn is the connection itself, as with crypto/tls.
func (b *below) NetConn() net.Conn { return b.Conn }
