package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Flood sends the same frames again and again out of an interface, at a pace,
// as whoever holds a wire could: nothing of this host's stack is in the way.
type Flood struct {
	fd     int
	frames [][]byte
	stop   chan struct{}
	done   chan struct{}
	sent   atomic.Uint64
	began  time.Time
	ended  time.Time
	err    error // written before done is closed
}

// Limits of a flood.
const (
	floodBatch = 64 // frames in one system call
	// floodBuffer is small: what the wire does not take at once waits here,
	// and the pace is caught up with.
	floodBuffer = 4 << 20
)

// Flood begins to send frames, each a whole Ethernet frame, out of device at
// so many a second.
func (s *Space) Flood(device string, frames [][]byte, rate int) *Flood {
	s.world.Helper()
	f := &Flood{frames: frames, stop: make(chan struct{}), done: make(chan struct{})}
	if err := s.Do(func() error { return f.open(device) }); err != nil {
		s.world.Fatalf("lab: flood out of %s of %s: %v", device, s.Name, err)
	}
	f.began = time.Now()
	go f.run(rate)
	s.world.Cleanup(func() { f.End() })
	return f
}

func (f *Flood) open(device string) error {
	// Protocol 0: it sends and receives nothing.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	index, err := ifindex(device)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: index})
	}
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, floodBuffer)
	}
	if err != nil {
		return errors.Join(err, unix.Close(fd))
	}
	f.fd = fd
	return nil
}

// mmsghdr is struct mmsghdr of sendmmsg(2).
type mmsghdr struct {
	header unix.Msghdr
	_      [8]byte // the length sent, and padding
}

func (f *Flood) run(rate int) {
	defer close(f.done)
	defer unix.Close(f.fd)
	// The flood is another machine's: it does not wait for a turn on this one.
	// The thread is not unlocked, so it ends with this goroutine.
	runtime.LockOSThread()
	_ = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), -15) // needs a right
	defer func() { f.ended = time.Now() }()
	var vectors [floodBatch]unix.Iovec
	var messages [floodBatch]mmsghdr
	next := 0
	for {
		select {
		case <-f.stop:
			return
		default:
		}
		due := int(time.Since(f.began).Seconds()*float64(rate)) - int(f.sent.Load())
		if due < floodBatch {
			time.Sleep(time.Duration(floodBatch-due) * time.Second / time.Duration(rate))
			continue
		}
		for i := range messages {
			frame := f.frames[(next+i)%len(f.frames)]
			vectors[i].Base = unsafe.SliceData(frame)
			vectors[i].SetLen(len(frame))
			messages[i].header.Iov = &vectors[i]
			messages[i].header.SetIovlen(1)
		}
		n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(f.fd), uintptr(unsafe.Pointer(&messages)), floodBatch, 0, 0, 0)
		switch errno {
		case 0:
			next = (next + int(n)) % len(f.frames)
			f.sent.Add(uint64(n))
		case unix.EINTR, unix.ENOBUFS, unix.EAGAIN:
		default:
			f.err = errno
			return
		}
	}
}

// Sent is how many frames the interface took.
func (f *Flood) Sent() uint64 { return f.sent.Load() }

// End stops the flood and gives how many frames went out, and how many a second.
func (f *Flood) End() (sent uint64, rate float64, err error) {
	select {
	case <-f.stop:
	default:
		close(f.stop)
	}
	<-f.done
	sent = f.sent.Load()
	return sent, float64(sent) / f.ended.Sub(f.began).Seconds(), f.err
}

// Wire is the addresses of a link: frames from one end to the other.
type Wire struct{ From, To net.HardwareAddr }

// Towards is the wire of a device to the one neighbour that has the address.
func (s *Space) Towards(device, address string) Wire {
	s.world.Helper()
	s.Sh("ping -qc1 -W2 %s", address)
	var w Wire
	for text, into := range map[string]*net.HardwareAddr{
		s.Sh("cat /sys/class/net/%s/address", device):                           &w.From,
		s.Sh("ip neigh show %s | sed 's/.*lladdr \\([^ ]*\\).*/\\1/'", address): &w.To,
	} {
		mac, err := net.ParseMAC(text)
		if err != nil {
			s.world.Fatalf("lab: %s of %s: %v", device, s.Name, err)
		}
		*into = mac
	}
	return w
}

// Datagram is the frame that carries an IPv4 UDP datagram over the wire,
// whoever it says that it is from. It has no UDP checksum, which IPv4 allows.
func (w Wire) Datagram(from, to netip.AddrPort, payload []byte) []byte {
	return w.Frame(unix.IPPROTO_UDP, from.Addr(), to.Addr(), UDP(from.Port(), to.Port(), payload))
}

// UDP is a datagram without a checksum.
func UDP(from, to uint16, payload []byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, from)
	b = binary.BigEndian.AppendUint16(b, to)
	b = binary.BigEndian.AppendUint16(b, uint16(8+len(payload)))
	return append(append(b, 0, 0), payload...)
}

// Frame is the frame that carries an IPv4 packet of any protocol.
func (w Wire) Frame(proto uint8, from, to netip.Addr, payload []byte) []byte {
	b := append(append([]byte(nil), w.To...), w.From...)
	b = binary.BigEndian.AppendUint16(b, unix.ETH_P_IP)
	return append(b, IPv4(proto, from, to, payload)...)
}

// IPv4 is a packet of any protocol.
func IPv4(proto uint8, from, to netip.Addr, payload []byte) []byte {
	b := make([]byte, 20, 20+len(payload))
	b[0], b[8], b[9] = 0x45, 64, proto
	binary.BigEndian.PutUint16(b[2:], uint16(20+len(payload)))
	src, dst := from.As4(), to.As4()
	copy(b[12:], src[:])
	copy(b[16:], dst[:])
	binary.BigEndian.PutUint16(b[10:], ^fold(b))
	return append(b, payload...)
}

// SYN is the frame that asks for a TCP connection, and will not know the answer.
func (w Wire) SYN(from, to netip.AddrPort) []byte {
	b := binary.BigEndian.AppendUint16(nil, from.Port())
	b = binary.BigEndian.AppendUint16(b, to.Port())
	b = append(b, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0)
	src, dst := from.Addr().As4(), to.Addr().As4()
	pseudo := append(append(append(src[:], dst[:]...), 0, unix.IPPROTO_TCP, 0, byte(len(b))), b...)
	binary.BigEndian.PutUint16(b[16:], ^fold(pseudo))
	return w.Frame(unix.IPPROTO_TCP, from.Addr(), to.Addr(), b)
}

// TooBig is the ICMP message that says that a packet was too big for a link of
// that MTU.
func TooBig(packet []byte, mtu uint16) []byte {
	b := append([]byte{3, 4, 0, 0, 0, 0, byte(mtu >> 8), byte(mtu)}, packet[:28]...)
	binary.BigEndian.PutUint16(b[2:], ^fold(b))
	return b
}

// fold is the one's complement sum of an even number of bytes.
func fold(b []byte) uint16 {
	var sum uint32
	for i := 0; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}

// Counter reads one of a device's counters, such as rx_dropped.
func (s *Space) Counter(device, name string) (n uint64) {
	s.world.Helper()
	text := s.Sh("cat /sys/class/net/%s/statistics/%s", device, name)
	if _, err := fmt.Sscan(text, &n); err != nil {
		s.world.Fatalf("lab: %s of %s: %v", name, device, err)
	}
	return n
}
