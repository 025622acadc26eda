package link

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"github.com/libp2p/go-reuseport"
	"golang.org/x/sys/unix"
)

// Listen opens c.Count sockets on one address and port. The kernel keeps one
// peer's datagrams on one socket. On an error nothing stays open.
func Listen(c Config) ([]Socket, error) {
	c, err := c.check()
	if err != nil {
		return nil, err
	}
	sockets := make([]Socket, 0, c.Count)
	for range c.Count {
		s, err := openRead(c)
		if err != nil {
			for _, open := range sockets {
				_ = open.Close()
			}
			return nil, err
		}
		c.Addr = netip.AddrPortFrom(c.Addr.Addr(), s.LocalAddr().Port())
		sockets = append(sockets, s)
	}
	return sockets, nil
}

// openRead opens one of them.
func openRead(c Config) (*socket, error) {
	s, err := openOne(c)
	if err != nil {
		return nil, err
	}
	if s.rest, err = newRest(s); err != nil {
		_ = s.end()
		return nil, err
	}
	s.in = newReceiver()
	if c.Ahead {
		s.in.open()
	}
	return s, nil
}

// openOne opens one without a receiver.
func openOne(c Config) (*socket, error) {
	config := net.ListenConfig{Control: func(network, address string, raw syscall.RawConn) error {
		// Where each of many may share its port the kernel gives one out twice.
		if c.Count > 1 || c.Addr.Port() != 0 {
			if err := reuseport.Control(network, address, raw); err != nil {
				return err
			}
		}
		return onDescriptor(raw, func(fd int) error { return bindOptions(fd, c) })
	}}
	conn, err := config.ListenPacket(context.Background(), network(c.Addr.Addr()), c.Addr.String())
	if err != nil {
		return nil, explain(c, err)
	}
	defer conn.Close()
	fd, err := detach(conn)
	if err != nil {
		return nil, fmt.Errorf("link: take over the socket of %v: %w", c.Addr, err)
	}
	s, err := newSocket(fd, c.Fragment)
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("link: set up the socket of %v: %w", c.Addr, err)
	}
	if c.Answers {
		s.answers = new(answers)
	}
	return s, nil
}

// network names the Go network: only the unspecified IPv6 address is
// dual-stack.
func network(a netip.Addr) string {
	switch {
	case a.Is4():
		return "udp4"
	case a.IsUnspecified():
		return "udp"
	default:
		return "udp6"
	}
}

func explain(c Config, err error) error {
	switch {
	case errors.Is(err, unix.EADDRINUSE) && c.Addr.Port() == 0:
		return fmt.Errorf("link: the kernel has no UDP port left to give out at %v; "+
			"widen net.ipv4.ip_local_port_range: %w", c.Addr.Addr(), err)
	case errors.Is(err, unix.EMFILE):
		return fmt.Errorf("link: this process has as many descriptors open as it may; "+
			"raise LimitNOFILE of its unit, or ulimit -Hn: %w", err)
	case errors.Is(err, unix.EADDRINUSE):
		return fmt.Errorf("link: UDP port %v is taken by another program; "+
			"find it with `ss -ulpn` or choose another port: %w", c.Addr, err)
	case errors.Is(err, unix.EADDRNOTAVAIL):
		return fmt.Errorf("link: %v is not an address of this host; see `ip address`: %w",
			c.Addr.Addr(), err)
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return fmt.Errorf("link: opening %v (device %q, mark %d) is not permitted; run as root, "+
			"or give the binary CAP_NET_ADMIN: %w", c.Addr, c.Device, c.Mark, err)
	}
	return fmt.Errorf("link: listen on %v: %w", c.Addr, err)
}

func onDescriptor(raw syscall.RawConn, set func(fd int) error) error {
	var inner error
	if err := raw.Control(func(fd uintptr) { inner = set(int(fd)) }); err != nil {
		return err
	}
	return inner
}

// detach takes the descriptor out of Go's network poller: a duplicate of it,
// blocking, owned by the caller. A blocked system call costs half of what a
// wake through the poller does.
func detach(conn net.PacketConn) (int, error) {
	udp, ok := conn.(*net.UDPConn)
	if !ok {
		return -1, fmt.Errorf("%w: %T is no UDP socket", ErrConfig, conn)
	}
	raw, err := udp.SyscallConn()
	if err != nil {
		return -1, err
	}
	fd := -1
	err = onDescriptor(raw, func(old int) error {
		fd, err = unix.FcntlInt(uintptr(old), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return err
		}
		return unix.SetNonblock(fd, false)
	})
	return fd, err
}

// bindOptions must stand before bind.
func bindOptions(fd int, c Config) error {
	if c.Device != "" {
		if err := unix.BindToDevice(fd, c.Device); err != nil {
			return fmt.Errorf("bind to device %q: %w", c.Device, err)
		}
	}
	if c.Mark != 0 {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, c.Mark); err != nil {
			return fmt.Errorf("set mark %d: %w", c.Mark, err)
		}
	}
	return nil
}

// dataOptions sets what the hot path relies on. UDP_GRO may be missing on old
// kernels: trains then arrive as single datagrams.
func dataOptions(fd int, v6, fragment bool) error {
	setBuffer(fd, unix.SO_RCVBUFFORCE, unix.SO_RCVBUF)
	setBuffer(fd, unix.SO_SNDBUFFORCE, unix.SO_SNDBUF)
	_ = unix.SetsockoptInt(fd, unix.SOL_UDP, unix.UDP_GRO, 1)
	discover, discover6 := unix.IP_PMTUDISC_PROBE, unix.IPV6_PMTUDISC_PROBE
	if fragment {
		discover, discover6 = unix.IP_PMTUDISC_DONT, unix.IPV6_PMTUDISC_DONT
	}
	err := errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_RECVTOS, 1),
		unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_MTU_DISCOVER, discover))
	if !v6 {
		return errors.Join(err, unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_PKTINFO, 1))
	}
	return errors.Join(err,
		unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_RECVPKTINFO, 1),
		unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_RECVTCLASS, 1),
		unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_MTU_DISCOVER, discover6))
}

// setBuffer asks beyond the system's ceiling first, which needs a privilege,
// then for what the ceiling allows.
func setBuffer(fd, force, plain int) {
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, force, BufferBytes) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, plain, BufferBytes)
	}
}
