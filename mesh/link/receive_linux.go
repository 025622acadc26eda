package link

import (
	"encoding/binary"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// receiver is where Receive puts what the kernel has: the first message into
// the caller's buffer, further ones of the same call ahead of their time into
// buffers of its own. Built once, and owned by the goroutine in Receive.
type receiver struct {
	headers [1 + MaxAhead]mmsghdr
	places  [1 + MaxAhead]place
	ahead   [][]byte // a buffer for each place but the first; none: one at a time
	// ask is how many messages the next call asks for, least how many after a train;
	// of got ones those from next on wait for a Receive.
	ask, least, got, next int
}

func newReceiver() *receiver { return &receiver{least: 1} }

// open makes the buffers for messages that are taken ahead.
func (r *receiver) open() {
	for range MaxAhead {
		r.ahead = append(r.ahead, make([]byte, aheadBytes))
	}
}

// mmsghdr is struct mmsghdr of recvmmsg(2).
type mmsghdr struct {
	message unix.Msghdr
	size    uint32
}

// place is what one message header refers to.
type place struct {
	vector  unix.Iovec
	name    unix.RawSockaddrInet6 // large enough for both families
	control [controlSpace]byte
}

// controlSpace holds a packet info of either family, TOS and UDP_GRO with room
// to spare.
const controlSpace = 256

// aheadBytes holds the longest message there can be.
const aheadBytes = 1 << 16

// Receive implements Socket. Errors that ICMP or a shortage put on the socket
// are skipped: a peer must not be able to stop a receiver.
func (s *socket) Receive(b []byte) (Train, error) {
	s.using.RLock()
	defer s.using.RUnlock()
	for !s.closed.Load() {
		if s.budget != nil {
			s.budget.await()
		}
		place, n, errno := s.receive(b)
		if errno != 0 {
			if passing(errno) || hopeful(errno) {
				continue
			}
			if s.closed.Load() {
				break
			}
			return Train{}, errno
		}
		if t, ok := s.train(s.in, place, len(b), n); ok {
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

// receive gives the place of the next message and its length. What waits is
// copied, so it is asked for only while small datagrams come: trains bring as
// much with one call.
func (s *socket) receive(b []byte) (place, n int, errno unix.Errno) {
	r := s.in
	if r.next == r.got {
		if errno = s.rest.await(s, b); errno != 0 {
			return 0, 0, errno
		}
	}
	place = r.next
	r.next++
	n = int(r.headers[place].size)
	if place > 0 {
		copy(b, r.ahead[place-1][:n])
	}
	return place, n, 0
}

// fetch takes the messages that are there already, the first into b. It waits for
// one unless flags say otherwise.
func (s *socket) fetch(r *receiver, b []byte, flags int) unix.Errno {
	r.got, r.next = 0, 0
	first := r.aim(0, b)
	for i := 1; i < r.ask; i++ {
		r.aim(i, r.ahead[i-1])
	}
	// MSG_TRUNC makes the size the length sent, so that a cut is counted.
	var n int
	var errno unix.Errno
	if r.ask <= 1 {
		n, errno = s.call(unix.SYS_RECVMSG, first, unix.MSG_TRUNC|flags&unix.MSG_DONTWAIT)
		r.headers[0].size, n = uint32(n), 1
	} else {
		n, errno = s.callMany(r.headers[:r.ask], unix.MSG_TRUNC|flags)
	}
	r.places[0].vector.Base = nil
	if errno == 0 {
		r.got = n
		r.plan()
	}
	return errno
}

// aim makes b the place of a message.
func (r *receiver) aim(i int, b []byte) *unix.Msghdr {
	p, m := &r.places[i], &r.headers[i].message
	p.vector.Base = unsafe.SliceData(b)
	p.vector.SetLen(len(b))
	*m = unix.Msghdr{
		Name: (*byte)(unsafe.Pointer(&p.name)), Namelen: unix.SizeofSockaddrInet6,
		Iov: &p.vector, Control: &p.control[0],
	}
	m.SetIovlen(1)
	m.SetControllen(controlSpace)
	return m
}

// plan says how many messages to ask for: twice as many while all that were
// asked for come, and the least after a train.
func (r *receiver) plan() {
	switch {
	case r.headers[0].size > singleMost:
		r.ask = r.least
	case r.got == max(r.ask, 1):
		r.ask = min(2*r.got, 1+len(r.ahead))
	default:
		r.ask = r.got
	}
}

// train describes a message of n bytes for a buffer of room bytes. Not ok:
// nothing was received (a shutdown, an empty datagram) or no whole datagram
// fitted.
func (s *socket) train(in *receiver, place, room, n int) (t Train, ok bool) {
	r, p := &in.headers[place].message, &in.places[place]
	t = Train{Len: n, Segment: n}
	t.Path.Remote = remote(&p.name)
	s.readControl(p.control[:min(int(r.Controllen), controlSpace)], &t)
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
