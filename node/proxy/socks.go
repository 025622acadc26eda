package proxy

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/meshcrypt/meshcrypt/node/splice"
)

// Numbers of RFC 1928 and RFC 1929.
const (
	socksVersion     = 5
	passwordVersion  = 1
	methodNone       = 0
	methodPassword   = 2
	methodNotOffered = 0xff

	commandConnect   = 1
	commandAssociate = 3

	addressIPv4 = 1
	addressName = 3
	addressIPv6 = 4

	socksDone               = 0
	socksFailed             = 1
	socksNotAllowed         = 2
	socksNetUnreachable     = 3
	socksHostUnreachable    = 4
	socksRefused            = 5
	socksUnknownCommand     = 7
	socksUnknownAddressType = 8
)

var (
	// errSOCKS is input that is not of the protocol; there is nothing to answer.
	errSOCKS       = errors.New("proxy: not SOCKS5")
	errAddressType = errors.New("proxy: unknown address type")
)

// serveSOCKS serves one program to its end.
func (s *Server) serveSOCKS(c *conn) {
	if !s.greet(c) {
		return
	}
	command, to, err := readRequest(c)
	if errors.Is(err, errAddressType) {
		reply(c, socksUnknownAddressType, nil)
	}
	if err != nil {
		return
	}
	switch command {
	case commandConnect:
		s.socksConnect(c, to)
	case commandAssociate:
		s.associate(c, to)
	default: // BIND: nothing connects to a client
		reply(c, socksUnknownCommand, nil)
	}
}

// greet agrees on a method, and on who asks where that is wanted.
func (s *Server) greet(c *conn) bool {
	var head [2]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		return false
	}
	methods := make([]byte, head[1])
	if _, err := io.ReadFull(c, methods); err != nil {
		return false
	}
	wanted := byte(methodNone)
	if s.config.Credentials != nil {
		wanted = methodPassword
	}
	for _, m := range methods {
		if m == wanted {
			_, err := c.Write([]byte{socksVersion, wanted})
			return err == nil && (wanted == methodNone || s.checkPassword(c))
		}
	}
	c.Write([]byte{socksVersion, methodNotOffered})
	return false
}

// checkPassword is RFC 1929.
func (s *Server) checkPassword(c *conn) bool {
	var version [1]byte
	if _, err := io.ReadFull(c, version[:]); err != nil || version[0] != passwordVersion {
		return false
	}
	user, err := readShort(c)
	if err != nil {
		return false
	}
	password, err := readShort(c)
	if err != nil {
		return false
	}
	ok := s.config.Credentials.match(string(user), string(password))
	answer := []byte{passwordVersion, socksDone}
	if !ok {
		answer[1] = socksFailed
	}
	_, err = c.Write(answer)
	return ok && err == nil
}

// readShort reads a string behind its length in one byte.
func readShort(r io.Reader) ([]byte, error) {
	var length [1]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, err
	}
	text := make([]byte, length[0])
	_, err := io.ReadFull(r, text)
	return text, err
}

// readRequest reads what is wanted, and of whom.
func readRequest(r io.Reader) (command byte, to destination, err error) {
	var head [3]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, to, err
	}
	if head[0] != socksVersion {
		return 0, to, errSOCKS
	}
	to, err = readAddress(r)
	return head[1], to, err
}

// readAddress reads ATYP, DST.ADDR and DST.PORT.
func readAddress(r io.Reader) (to destination, err error) {
	var kind [1]byte
	if _, err := io.ReadFull(r, kind[:]); err != nil {
		return to, err
	}
	var raw []byte
	switch kind[0] {
	case addressIPv4:
		raw = make([]byte, 4)
	case addressIPv6:
		raw = make([]byte, 16)
	case addressName:
		name, err := readShort(r)
		if err != nil {
			return to, err
		}
		if len(name) == 0 {
			return to, errSOCKS
		}
		to.host = string(name)
	default:
		return to, errAddressType
	}
	if raw != nil {
		if _, err := io.ReadFull(r, raw); err != nil {
			return to, err
		}
		addr, _ := netip.AddrFromSlice(raw) // of 4 or 16 bytes
		to.host = addr.String()
	}
	var port [2]byte
	_, err = io.ReadFull(r, port[:])
	to.port = binary.BigEndian.Uint16(port[:])
	return to, err
}

// appendAddress writes what readAddress reads.
func appendAddress(b []byte, a netip.AddrPort) []byte {
	addr := a.Addr().Unmap()
	switch {
	case addr.Is4():
		b = append(b, addressIPv4)
	case addr.Is6():
		b = append(b, addressIPv6)
	default:
		b, addr = append(b, addressIPv4), netip.IPv4Unspecified()
	}
	return binary.BigEndian.AppendUint16(append(b, addr.AsSlice()...), a.Port())
}

// reply answers a request; bound is our end of what was opened.
func reply(c net.Conn, code byte, bound net.Addr) bool {
	_, err := c.Write(appendAddress([]byte{socksVersion, code, 0}, addrPortOf(bound)))
	return err == nil
}

// addrPortOf gives the zero value for what has no address.
func addrPortOf(a net.Addr) netip.AddrPort {
	if a, ok := a.(interface{ AddrPort() netip.AddrPort }); ok {
		at := a.AddrPort()
		return netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
	}
	return netip.AddrPort{}
}

func (s *Server) socksConnect(c *conn, to destination) {
	c.SetDeadline(time.Now().Add(DialTimeout + HandshakeTimeout))
	onward, err := s.dial(s.ctx, to)
	if err != nil {
		s.config.Log.Info("proxy: no connection", "to", to, "error", err)
		reply(c, causeOf(err).socks, nil)
		return
	}
	if !reply(c, socksDone, onward.LocalAddr()) {
		onward.Close()
		return
	}
	c.SetDeadline(time.Time{})
	splice.Both(c, onward)
}
