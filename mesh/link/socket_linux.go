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
	noTrains atomic.Bool   // the kernel or device refused UDP_SEGMENT
	cut      atomic.Uint64 // datagrams that did not fit a Receive's buffer

	in     *receiver // owned by the goroutine in Receive, as is budget; nil in a Group
	rest   *rest     // where it waits; nil in a Group
	budget *budget   // nil but at a strangers' socket

	answers *answers // nil where everybody is heard

	losses sync.Mutex // protects overflow and dropped
	// overflow is the last value of the kernel's 32-bit loss counter, dropped
	// their sum.
	overflow uint32
	dropped  uint64
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

// Lost asks the kernel (SO_MEMINFO): what SO_RXQ_OVFL says comes only with the
// next datagram, and after a flood there may be none.
func (s *socket) Lost() uint64 {
	s.losses.Lock()
	defer s.losses.Unlock()
	if total, ok := s.drops(); ok {
		s.dropped += uint64(total - s.overflow) // right across a wrap
		s.overflow = total
	}
	return s.dropped + s.cut.Load()
}

// drops reads the kernel's counter of what found no room in the queue.
func (s *socket) drops() (total uint32, ok bool) {
	s.using.RLock()
	defer s.using.RUnlock()
	if s.closed.Load() {
		return 0, false
	}
	var info [skMemInfo]uint32
	size := uint32(unsafe.Sizeof(info))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(s.fd), unix.SOL_SOCKET, unix.SO_MEMINFO,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	return info[skMemInfoDrops], errno == 0 && size > 4*skMemInfoDrops
}

// Of enum in linux/sock_diag.h.
const (
	skMemInfoDrops = 8
	skMemInfo      = 9
)

// Close wakes a blocked Receive by shutdown(2) and waits until no call uses
// the descriptor. The flag decides, not what the woken call returns.
func (s *socket) Close() error {
	s.Lost() // for the last time
	if s.closed.Swap(true) {
		return nil
	}
	if s.budget != nil {
		close(s.budget.closed)
	}
	// ENOTCONN is the normal answer for an unconnected socket, which is shut
	// down all the same.
	_ = unix.Shutdown(s.fd, unix.SHUT_RDWR)
	return s.end()
}

// end closes the descriptor when no call uses it any more.
func (s *socket) end() error {
	s.using.Lock()
	defer s.using.Unlock()
	if s.rest != nil {
		_ = s.rest.file.Close() // nobody waits there
	}
	return unix.Close(s.fd)
}

// call is sendmsg(2) or recvmsg(2) without the copies and allocations of the
// library wrappers. The message and all it points to may live on the stack:
// the runtime moves no stack during a system call.
func (s *socket) call(trap uintptr, m *unix.Msghdr, flags int) (int, unix.Errno) {
	n, _, errno := unix.Syscall(trap, uintptr(s.fd), uintptr(unsafe.Pointer(m)), uintptr(flags))
	return int(n), errno
}

// callMany is recvmmsg(2), likewise.
func (s *socket) callMany(all []mmsghdr, flags int) (int, unix.Errno) {
	n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(s.fd), uintptr(unsafe.Pointer(&all[0])),
		uintptr(len(all)), uintptr(flags), 0, 0)
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
