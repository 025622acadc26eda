package main

import (
	"errors"
	"net"
	"net/netip"

	"github.com/meshcrypt/meshcrypt/mesh/link"
)

// socket is a UDP socket that waits in the runtime's poller: tens of thousands of
// them need no thread each.
type socket struct{ conn *net.UDPConn }

// Receive is link.Socket.
func (s *socket) Receive(b []byte) (link.Train, error) {
	n, from, err := s.conn.ReadFromUDPAddrPort(b)
	if errors.Is(err, net.ErrClosed) {
		return link.Train{}, link.ErrClosed
	}
	from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
	return link.Train{Path: link.Path{Local: s.LocalAddr().Addr(), Remote: from}, Len: n, Segment: max(1, n)}, err
}

// Send is link.Socket.
func (s *socket) Send(b []byte, segment int, path link.Path) error {
	for len(b) > 0 {
		n := min(segment, len(b))
		if _, err := s.conn.WriteToUDPAddrPort(b[:n], path.Remote); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// LocalAddr is link.Socket.
func (s *socket) LocalAddr() netip.AddrPort {
	at := s.conn.LocalAddr().(*net.UDPAddr).AddrPort()
	return netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
}

// Lost is link.Socket.
func (s *socket) Lost() uint64 { return 0 }

// Close is link.Socket.
func (s *socket) Close() error { return s.conn.Close() }
