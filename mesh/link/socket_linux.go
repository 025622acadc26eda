package link

import (
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// socket is a blocking UDP descriptor.
type socket struct {
	fd    int
	v6    bool // an AF_INET6 socket, perhaps dual-stack
	local netip.AddrPort

	// using is held for reading during every system call on fd and for
	// writing while fd is closed, so that no call meets a recycled number.
	using    sync.RWMutex
	closed   atomic.Bool
	noTrains atomic.Bool // the kernel or device refused UDP_SEGMENT
	lost     atomic.Uint64

	in receiver // owned by the goroutine in Receive
}

var _ Socket = (*socket)(nil)

func newSocket(fd int, fragment bool) (*socket, error) {
	domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil {
		return nil, err
	}
	s := &socket{fd: fd, v6: domain == unix.AF_INET6}
	if err := dataOptions(fd, s.v6, fragment); err != nil {
		return nil, err
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		return nil, err
	}
	switch a := name.(type) {
	case *unix.SockaddrInet4:
		s.local = netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *unix.SockaddrInet6:
		s.local = netip.AddrPortFrom(netip.AddrFrom16(a.Addr).Unmap(), uint16(a.Port))
	default:
		return nil, fmt.Errorf("%w: address family of %T", ErrConfig, name)
	}
	return s, nil
}

func (s *socket) LocalAddr() netip.AddrPort { return s.local }

func (s *socket) Lost() uint64 { return s.lost.Load() }

// Close wakes a blocked Receive by shutdown(2) and waits until no call uses
// the descriptor. The flag decides, not what the woken call returns.
func (s *socket) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	// ENOTCONN is the normal answer for an unconnected socket, which is shut
	// down all the same.
	_ = unix.Shutdown(s.fd, unix.SHUT_RDWR)
	s.using.Lock()
	defer s.using.Unlock()
	return unix.Close(s.fd)
}

// call is sendmsg(2) or recvmsg(2) without the copies and allocations of the
// library wrappers. The message and all it points to may live on the stack:
// the runtime moves no stack during a system call.
func (s *socket) call(trap uintptr, m *unix.Msghdr, flags int) (int, unix.Errno) {
	n, _, errno := unix.Syscall(trap, uintptr(s.fd), uintptr(unsafe.Pointer(m)), uintptr(flags))
	return int(n), errno
}

// passing tells errors that speak of an earlier datagram (ICMP), of a wait cut
// short or of a shortage: the next call may succeed.
func passing(errno unix.Errno) bool {
	switch errno {
	case unix.EINTR, unix.EAGAIN, unix.ECONNREFUSED, unix.ECONNRESET, unix.EPROTO,
		unix.ENOPROTOOPT, unix.EHOSTDOWN, unix.ENONET:
		return true
	}
	return false
}
