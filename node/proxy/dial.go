package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"syscall"
	"time"
)

// destination is where a program wants to go: a name or an address.
type destination struct {
	host string
	port uint16
}

func (d destination) String() string { return net.JoinHostPort(d.host, strconv.Itoa(int(d.port))) }

// parseDestination reads host:port.
func parseDestination(text string) (destination, error) {
	host, portText, err := net.SplitHostPort(text)
	if err != nil {
		return destination{}, err
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil || port == 0 || host == "" || len(host) > maxNameBytes {
		return destination{}, fmt.Errorf("%q is no host and port", text)
	}
	return destination{host, uint16(port)}, nil
}

// addresses are the destination's within reach.
func (s *Server) addresses(ctx context.Context, host string) ([]netip.Addr, error) {
	all := []netip.Addr{}
	if addr, err := netip.ParseAddr(host); err == nil {
		all = append(all, addr.Unmap().WithZone(""))
	} else if all, err = s.config.Network.Lookup(ctx, host); err != nil {
		return nil, err
	}
	var reached []netip.Addr
	for _, addr := range all {
		if s.config.Network.Reaches(addr) && len(reached) < MaxAddresses {
			reached = append(reached, addr)
		}
	}
	if len(reached) == 0 {
		return nil, fmt.Errorf("%s: %w", host, ErrOutside)
	}
	return reached, nil
}

// dial connects to the first address that answers.
func (s *Server) dial(ctx context.Context, to destination) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, DialTimeout)
	defer cancel()
	all, err := s.addresses(ctx, to.host)
	if err != nil {
		return nil, err
	}
	var failed error
	for i, addr := range all {
		c, err := s.dialOne(ctx, netip.AddrPortFrom(addr, to.port), len(all)-i)
		if err == nil {
			return c, nil
		}
		failed = errors.Join(failed, err)
	}
	return nil, failed
}

// dialOne leaves the addresses after it their share of the time.
func (s *Server) dialOne(ctx context.Context, to netip.AddrPort, left int) (net.Conn, error) {
	if left > 1 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, DialTimeout/time.Duration(left))
		defer cancel()
	}
	return s.config.Network.DialTCP(ctx, to)
}

// cause sorts failures for both protocols.
type cause struct {
	socks byte // RFC 1928, 6
	http  int
}

func causeOf(err error) cause {
	for _, c := range []struct {
		err   error
		cause cause
	}{
		{ErrOutside, cause{socksNotAllowed, 403}},
		{ErrNoNames, cause{socksHostUnreachable, 502}},
		{ErrUnknownName, cause{socksHostUnreachable, 502}},
		{syscall.ECONNREFUSED, cause{socksRefused, 502}},
		{syscall.ENETUNREACH, cause{socksNetUnreachable, 502}},
		{syscall.EHOSTUNREACH, cause{socksHostUnreachable, 502}},
		{syscall.ETIMEDOUT, cause{socksHostUnreachable, 504}},
		{context.DeadlineExceeded, cause{socksHostUnreachable, 504}},
	} {
		if errors.Is(err, c.err) {
			return c.cause
		}
	}
	return cause{socksFailed, 502}
}
