package link

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sender is what the calls of one Send share, on its stack, since Send is
// concurrent. It holds no pointer: one into itself would move it to the heap.
type sender struct {
	name    unix.RawSockaddrInet6 // large enough for both families
	nameLen uint32
	control [controlWords]uint64 // words, for the alignment of cmsghdr
	// used is how many bytes of control name the local address and the TOS; a
	// segment size may follow.
	used int
}

// controlWords holds an IPv6 packet info (40 bytes), a TOS (24) and a segment
// size (24).
const controlWords = 11

// Send implements Socket.
func (s *socket) Send(b []byte, segment int, path Path) error {
	if segment <= 0 || segment > len(b) {
		segment = len(b)
	}
	if len(b) == 0 {
		return nil
	}
	s.using.RLock()
	defer s.using.RUnlock()
	if s.closed.Load() {
		return ErrClosed
	}
	var m sender
	if !m.address(s.v6, path) {
		return fmt.Errorf("%w: no way from %v to %v on a socket at %v",
			ErrConfig, path.Local, path.Remote, s.local)
	}
	if s.answers != nil {
		if err := s.expect(path.Remote.Addr()); err != nil {
			return err
		}
	}
	most := max(1, min(MaxSegments, MaxTrain/segment)) * segment
	for len(b) > 0 {
		n := min(most, len(b))
		if errno := s.sendTrain(&m, b[:n], segment); errno != 0 {
			return s.failed(errno, path)
		}
		b = b[n:]
	}
	return nil
}

func (s *socket) failed(errno unix.Errno, path Path) error {
	if s.closed.Load() {
		return ErrClosed
	}
	if errno == unix.EMSGSIZE {
		return ErrTooBig
	}
	return fmt.Errorf("link: send to %v: %w", path.Remote, errno)
}

// sendTrain sends one train, one by one if it has to. That trains do not work
// here is remembered only when the same datagrams went out singly: a vanished
// local address is refused either way. A segment above the MTU is no train on
// any socket, though single datagrams may pass as fragments.
func (s *socket) sendTrain(m *sender, b []byte, segment int) unix.Errno {
	if len(b) <= segment {
		return s.send(m, b, 0)
	}
	var errno unix.Errno
	if !s.noTrains.Load() {
		errno = s.send(m, b, segment)
		if errno != unix.EIO && errno != unix.EINVAL && errno != unix.EMSGSIZE {
			return errno
		}
	}
	for len(b) > 0 {
		n := min(segment, len(b))
		if errno := s.send(m, b[:n], 0); errno != 0 {
			return errno
		}
		b = b[n:]
	}
	if errno != unix.EMSGSIZE {
		s.noTrains.Store(true)
	}
	return 0
}

// send is one sendmsg; segment 0 is a single datagram.
func (s *socket) send(m *sender, b []byte, segment int) unix.Errno {
	vector := unix.Iovec{Base: unsafe.SliceData(b)}
	vector.SetLen(len(b))
	message := unix.Msghdr{
		Name: (*byte)(unsafe.Pointer(&m.name)), Namelen: m.nameLen, Iov: &vector,
	}
	message.SetIovlen(1)
	if length := m.segment(segment); length > 0 {
		message.Control = (*byte)(unsafe.Pointer(&m.control))
		message.SetControllen(length)
	}
	for range sendRetries {
		_, errno := s.call(unix.SYS_SENDMSG, &message, unix.MSG_NOSIGNAL)
		if !passing(errno) || s.closed.Load() {
			return errno
		}
	}
	return unix.ECONNREFUSED
}

// address sets the peer and the local address. A dual-stack socket names IPv4
// peers by mapped addresses. False: the socket has no such family.
func (m *sender) address(v6 bool, path Path) bool {
	remote, local := path.Remote.Addr().Unmap(), path.Local.Unmap()
	if !remote.IsValid() || (!v6 && !remote.Is4()) {
		return false
	}
	if local.IsValid() && local.Is4() != remote.Is4() {
		return false
	}
	port := (*[2]byte)(unsafe.Pointer(&m.name.Port))
	binary.BigEndian.PutUint16(port[:], path.Remote.Port())
	if v6 {
		m.name.Family = unix.AF_INET6
		m.name.Addr = remote.As16()
		m.nameLen = unix.SizeofSockaddrInet6
	} else {
		m.name.Family = unix.AF_INET
		(*unix.RawSockaddrInet4)(unsafe.Pointer(&m.name)).Addr = remote.As4()
		m.nameLen = unix.SizeofSockaddrInet4
	}
	if local.IsValid() && !local.IsUnspecified() {
		m.packetInfo(v6, local)
	}
	if path.TOS != 0 {
		m.class(remote.Is6(), path.TOS)
	}
	return true
}

func (m *sender) packetInfo(v6 bool, local netip.Addr) {
	if v6 {
		data := m.header(0, unix.SOL_IPV6, unix.IPV6_PKTINFO, unix.SizeofInet6Pktinfo)
		*(*[16]byte)(data) = local.As16()
		m.used = unix.SizeofCmsghdr + align(unix.SizeofInet6Pktinfo)
		return
	}
	data := m.header(0, unix.SOL_IP, unix.IP_PKTINFO, unix.SizeofInet4Pktinfo)
	(*unix.Inet4Pktinfo)(data).Spec_dst = local.As4()
	m.used = unix.SizeofCmsghdr + align(unix.SizeofInet4Pktinfo)
}

// class puts the TOS behind the local address. What counts is the family of the
// packet, not that of the socket.
func (m *sender) class(v6 bool, tos uint8) {
	level, kind := unix.SOL_IP, unix.IP_TOS
	if v6 {
		level, kind = unix.SOL_IPV6, unix.IPV6_TCLASS
	}
	*(*int32)(m.header(m.used, level, kind, 4)) = int32(tos)
	m.used += unix.SizeofCmsghdr + align(4)
}

// segment puts the segment size, if there is one, behind the others and returns
// how long the control messages are.
func (m *sender) segment(size int) int {
	if size <= 0 {
		return m.used
	}
	*(*uint16)(m.header(m.used, unix.SOL_UDP, unix.UDP_SEGMENT, 2)) = uint16(size)
	return m.used + unix.SizeofCmsghdr + align(2)
}

// header writes the head of a control message and returns the place of its data.
func (m *sender) header(at, level, kind, size int) unsafe.Pointer {
	h := (*unix.Cmsghdr)(unsafe.Add(unsafe.Pointer(&m.control), at))
	h.Level, h.Type = int32(level), int32(kind)
	h.SetLen(unix.SizeofCmsghdr + size)
	return unsafe.Add(unsafe.Pointer(h), unix.SizeofCmsghdr)
}
