package port

import (
	"crypto/tls"
	"net"

	"github.com/meshcrypt/meshcrypt/node/loop"
)

// Who dials another node says in its hello that it knows beats (node/loop), where the
// protocol behind has no words for that: by the server's name. Builds that do not know
// the word ignore it, and a node's certificate is judged without it.
const beatsName = "beats"

// SayBeats is a configuration to dial by that says so.
func SayBeats(config *tls.Config) *tls.Config {
	config = config.Clone()
	config.ServerName = beatsName
	return config
}

// HearsBeats reports whether who dialled said so.
func HearsBeats(conn *tls.Conn) bool { return conn.ConnectionState().ServerName == beatsName }

// Beating makes a pipe of a connection whose both ends said, or heard, that they know
// beats: it ends soon after the other one is gone without a word.
func Beating(conn *tls.Conn) net.Conn {
	return beatingConn{loop.NewPipe(conn, loop.Nodes()), conn}
}

// beatingConn tells, like a TLS connection, who is at its other end.
type beatingConn struct {
	*loop.Pipe
	secure *tls.Conn
}

// ConnectionState is that of the TLS connection below.
func (c beatingConn) ConnectionState() tls.ConnectionState { return c.secure.ConnectionState() }
