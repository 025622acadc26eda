package port

import (
	"crypto/tls"
	"errors"
	"net"
	"os"
	"slices"
	"time"
)

var (
	errOversize = errors.New("port: hello too long")
	errSeen     = errors.New("port: hello seen") // ends the peek once the hello is whole
)

// hello is what a connection said first: every byte read so far, and the one
// protocol it asks for.
type hello struct {
	raw  []byte
	alpn string
	name string // of the server, as a relay stream uses it
}

// readHello reads until the ClientHello is whole, by the parser of crypto/tls
// itself, so that we and the handshake behind us cannot understand it
// differently. Nothing is written to the peer.
func readHello(conn net.Conn) (hello, Reason) {
	tap := &tapConn{conn: conn}
	var info tls.ClientHelloInfo
	err := tls.Server(tap, &tls.Config{
		MinVersion: tls.VersionTLS13,
		GetConfigForClient: func(i *tls.ClientHelloInfo) (*tls.Config, error) {
			info = *i
			return nil, errSeen
		},
	}).Handshake()
	switch {
	case errors.Is(tap.failed, errOversize):
		return hello{}, ReasonOversize
	case errors.Is(tap.failed, os.ErrDeadlineExceeded):
		return hello{}, ReasonSlow
	case !errors.Is(err, errSeen):
		return hello{}, ReasonMalformed
	case !slices.Contains(info.SupportedVersions, tls.VersionTLS13):
		return hello{}, ReasonVersion
	case len(info.SupportedProtos) != 1:
		return hello{}, ReasonALPN
	}
	return hello{raw: tap.seen, alpn: info.SupportedProtos[0], name: info.ServerName}, 0
}

// tapConn keeps what is read and swallows what is written.
type tapConn struct {
	conn   net.Conn
	seen   []byte
	failed error // the first error of Read
}

func (t *tapConn) Read(b []byte) (int, error) {
	if len(t.seen) >= MaxHello {
		t.failed = errOversize
		return 0, errOversize
	}
	n, err := t.conn.Read(b[:min(len(b), MaxHello-len(t.seen))])
	t.seen = append(t.seen, b[:n]...)
	if err != nil {
		t.failed = err
	}
	return n, err
}

func (t *tapConn) Write(b []byte) (int, error)      { return len(b), nil }
func (t *tapConn) Close() error                     { return nil }
func (t *tapConn) LocalAddr() net.Addr              { return t.conn.LocalAddr() }
func (t *tapConn) RemoteAddr() net.Addr             { return t.conn.RemoteAddr() }
func (t *tapConn) SetDeadline(time.Time) error      { return nil }
func (t *tapConn) SetReadDeadline(time.Time) error  { return nil }
func (t *tapConn) SetWriteDeadline(time.Time) error { return nil }
