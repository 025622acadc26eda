package link

import (
	"encoding/binary"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// receiver is the message header of Receive, built once.
type receiver struct {
	message unix.Msghdr
	vector  unix.Iovec
	name    unix.RawSockaddrInet6 // large enough for both families
	control [controlSpace]byte
}

// controlSpace holds a packet info of either family, TOS and UDP_GRO with room
// to spare.
const controlSpace = 256

// Receive implements Socket. Errors that ICMP or a shortage put on the socket
// are skipped: a peer must not be able to stop a receiver.
func (s *socket) Receive(b []byte) (Train, error) {
	s.using.RLock()
	defer s.using.RUnlock()
	for !s.closed.Load() {
		if s.budget != nil {
			s.budget.await()
		}
		n, errno := s.receive(b)
		if errno != 0 {
			if passing(errno) || hopeful(errno) {
				continue
			}
			if s.closed.Load() {
				break
			}
			return Train{}, errno
		}
		if t, ok := s.train(len(b), n); ok {
			return t, nil
		}
	}
	return Train{}, ErrClosed
}

// hopeful are the further errors a receiver survives.
func hopeful(errno unix.Errno) bool {
	switch errno {
	case unix.EHOSTUNREACH, unix.ENETUNREACH, unix.ENETDOWN, unix.EMSGSIZE, unix.EACCES,
		unix.EPERM, unix.EOPNOTSUPP, unix.ENOMEM, unix.ENOBUFS, unix.ENODEV:
		return true
	}
	return false
}

func (s *socket) receive(b []byte) (int, unix.Errno) {
	r := &s.in
	r.vector.Base = unsafe.SliceData(b)
	r.vector.SetLen(len(b))
	r.message = unix.Msghdr{
		Name: (*byte)(unsafe.Pointer(&r.name)), Namelen: unix.SizeofSockaddrInet6,
		Iov: &r.vector, Control: &r.control[0],
	}
	r.message.SetIovlen(1)
	r.message.SetControllen(controlSpace)
	// MSG_TRUNC makes the result the length sent, so that a cut is counted.
	n, errno := s.call(unix.SYS_RECVMSG, &r.message, unix.MSG_TRUNC)
	r.vector.Base = nil
	return n, errno
}

// train describes what the last receive of n bytes put into a buffer of room
// bytes. Not ok: nothing was received (a shutdown, an empty datagram) or no
// whole datagram fitted.
func (s *socket) train(room, n int) (t Train, ok bool) {
	r := &s.in
	t = Train{Len: n, Segment: n}
	t.Path.Remote = remote(&r.name)
	s.readControl(r.control[:min(int(r.message.Controllen), controlSpace)], &t)
	if n > room {
		whole := room / t.Segment * t.Segment
		s.cut.Add(uint64((n - whole + t.Segment - 1) / t.Segment))
		t.Len = whole
	}
	return t, t.Len > 0 && t.Path.Remote.IsValid()
}

// readControl walks the control messages (cmsg(3)). They come from the kernel,
// but are read as if they did not.
func (s *socket) readControl(c []byte, t *Train) {
	const header = unix.SizeofCmsghdr
	for len(c) >= header {
		h := (*unix.Cmsghdr)(unsafe.Pointer(&c[0]))
		size := int(h.Len)
		if size < header || size > len(c) {
			return
		}
		s.readMessage(h.Level, h.Type, c[header:size], t)
		c = c[min(align(size), len(c)):]
	}
}

func (s *socket) readMessage(level, kind int32, data []byte, t *Train) {
	switch {
	case level == unix.SOL_IP && kind == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
		t.Path.Local = netip.AddrFrom4([4]byte(data[4:8])) // ipi_spec_dst
	case level == unix.SOL_IPV6 && kind == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
		t.Path.Local = netip.AddrFrom16([16]byte(data[:16])).Unmap()
	case level == unix.SOL_IP && kind == unix.IP_TOS && len(data) >= 1:
		t.TOS = data[0]
	case level == unix.SOL_IPV6 && kind == unix.IPV6_TCLASS && len(data) >= 4:
		t.TOS = uint8(binary.NativeEndian.Uint32(data))
	case level == unix.SOL_UDP && kind == unix.UDP_GRO && len(data) >= 4:
		if size := int(int32(binary.NativeEndian.Uint32(data))); size > 0 && size < t.Len {
			t.Segment = size
		}
	}
}

// remote reads the sender's address; an IPv4 sender is always a plain IPv4
// address.
func remote(name *unix.RawSockaddrInet6) netip.AddrPort {
	// Ports stand in network order in both families, at the same place.
	port := (*[2]byte)(unsafe.Pointer(&name.Port))
	number := binary.BigEndian.Uint16(port[:])
	switch name.Family {
	case unix.AF_INET:
		v4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(name))
		return netip.AddrPortFrom(netip.AddrFrom4(v4.Addr), number)
	case unix.AF_INET6:
		return netip.AddrPortFrom(netip.AddrFrom16(name.Addr).Unmap(), number)
	}
	return netip.AddrPort{}
}

// align rounds up to the kernel's alignment of control messages.
func align(n int) int {
	const word = int(unsafe.Sizeof(uintptr(0)))
	return (n + word - 1) &^ (word - 1)
}
