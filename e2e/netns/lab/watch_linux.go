package lab

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Watch looks at every packet of an interface while it passes: whom it is
// between, and whether it holds bytes that must not be seen. It stores none.
type Watch struct {
	fd     int
	canary []byte
	ports  []uint16
	ending atomic.Bool // look at what waits, then end
	done   chan struct{}
	err    error // written before done is closed

	mu   sync.Mutex // protects the fields below
	seen Seen
}

// Seen is what a Watch saw.
type Seen struct {
	Packets, Bytes uint64
	Missed         uint64              // lost between kernel and watch
	Peers          map[Endpoint]uint64 // bytes by the end that has one of the ports
	Strange        map[string]uint64   // packets of any other port or protocol
	Canaries       []string            // where the bytes were seen
}

// Endpoint is one side of a packet.
type Endpoint struct {
	Proto uint8 // 6 TCP, 17 UDP
	At    netip.AddrPort
}

// Sizes of a watch.
const (
	frameSize   = 70_000
	maxPeers    = 4096
	maxCanaries = 8
	watchBuffer = 64 << 20
)

// Watch starts looking at an interface of the host. Every packet should have
// one of ports at one end; ARP and IPv6 neighbour discovery are not counted.
func (s *Space) Watch(device string, canary []byte, ports ...uint16) *Watch {
	s.world.Helper()
	w := &Watch{canary: canary, ports: ports, done: make(chan struct{})}
	w.seen.Peers, w.seen.Strange = map[Endpoint]uint64{}, map[string]uint64{}
	if err := s.Do(func() error { return w.open(device) }); err != nil {
		s.world.Fatalf("lab: watch %s of %s: %v", device, s.Name, err)
	}
	go w.run()
	s.world.Cleanup(func() { w.End() })
	return w
}

func (w *Watch) open(device string) (err error) {
	w.fd, err = packetSocket(device, unix.SOCK_DGRAM)
	return err
}

// packetSocket sees every packet of a device, and wakes ten times a second
// when there is none.
func packetSocket(device string, kind int) (int, error) {
	fd, err := unix.Socket(unix.AF_PACKET, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	// Without the right to force it, the kernel's own limit has to do.
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, watchBuffer) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, watchBuffer)
	}
	index, err := ifindex(device)
	if err == nil {
		err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100_000})
	}
	if err == nil {
		all := binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, unix.ETH_P_ALL))
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: index})
	}
	if err != nil {
		return -1, errors.Join(err, unix.Close(fd))
	}
	return fd, nil
}

func ifindex(device string) (int, error) {
	request, err := unix.NewIfreq(device)
	if err != nil {
		return 0, err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, request); err != nil {
		return 0, fmt.Errorf("%s: %w", device, err)
	}
	return int(request.Uint32()), nil
}

func (w *Watch) run() {
	defer close(w.done)
	frame := make([]byte, frameSize)
	for {
		// A live network never falls silent: once ending, what waits is all.
		ending, flags := w.ending.Load(), 0
		if ending {
			flags = unix.MSG_DONTWAIT
		}
		n, _, err := unix.Recvfrom(w.fd, frame, flags)
		switch {
		case err == nil:
			w.look(frame[:n])
		case errors.Is(err, unix.EAGAIN) && ending:
			return
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR), errors.Is(err, unix.ENETDOWN):
		default:
			w.err = err
			return
		}
	}
}

func (w *Watch) look(packet []byte) {
	proto, from, to, ok := parse(packet)
	if !ok {
		return // ARP and the like carry nobody's data
	}
	clear := bytes.Contains(packet, w.canary)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen.Packets++
	w.seen.Bytes += uint64(len(packet))
	if clear && len(w.canary) > 0 && len(w.seen.Canaries) < maxCanaries {
		w.seen.Canaries = append(w.seen.Canaries, fmt.Sprintf("proto %d %v > %v, %d bytes", proto, from, to, len(packet)))
	}
	for _, port := range w.ports {
		for _, end := range []netip.AddrPort{from, to} {
			if end.Port() == port {
				if e := (Endpoint{proto, end}); len(w.seen.Peers) < maxPeers || w.seen.Peers[e] > 0 {
					w.seen.Peers[e] += uint64(len(packet))
				}
				return
			}
		}
	}
	if name := fmt.Sprintf("proto %d %v > %v", proto, from, to); len(w.seen.Strange) < maxPeers {
		w.seen.Strange[name]++
	}
}

// parse finds the ends of an IP packet. ICMPv6 that only finds neighbours and
// routers is left out.
func parse(p []byte) (proto uint8, from, to netip.AddrPort, ok bool) {
	var src, dst netip.Addr
	var rest []byte
	switch {
	case len(p) >= 20 && p[0]>>4 == 4:
		header := int(p[0]&15) * 4
		proto, src, dst = p[9], netip.AddrFrom4([4]byte(p[12:16])), netip.AddrFrom4([4]byte(p[16:20]))
		rest = p[min(header, len(p)):]
	case len(p) >= 40 && p[0]>>4 == 6:
		proto, src, dst = p[6], netip.AddrFrom16([16]byte(p[8:24])), netip.AddrFrom16([16]byte(p[24:40]))
		rest = p[40:]
	default:
		return 0, from, to, false
	}
	if src.Is6() && src.IsLinkLocalUnicast() || src.IsUnspecified() || dst.IsMulticast() {
		return 0, from, to, false
	}
	var ports [2]uint16
	if (proto == unix.IPPROTO_TCP || proto == unix.IPPROTO_UDP) && len(rest) >= 4 {
		ports = [2]uint16{binary.BigEndian.Uint16(rest), binary.BigEndian.Uint16(rest[2:])}
	}
	return proto, netip.AddrPortFrom(src, ports[0]), netip.AddrPortFrom(dst, ports[1]), true
}

// Seen is what was seen so far.
func (w *Watch) Seen() Seen {
	w.mu.Lock()
	defer w.mu.Unlock()
	seen := w.seen
	seen.Peers, seen.Strange = map[Endpoint]uint64{}, map[string]uint64{}
	for k, v := range w.seen.Peers {
		seen.Peers[k] = v
	}
	for k, v := range w.seen.Strange {
		seen.Strange[k] = v
	}
	if stats, err := unix.GetsockoptTpacketStats(w.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS); err == nil {
		w.seen.Missed += uint64(stats.Drops)
		seen.Missed = w.seen.Missed
	}
	return seen
}

// Reset forgets what was seen.
func (w *Watch) Reset() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen = Seen{Peers: map[Endpoint]uint64{}, Strange: map[string]uint64{}}
}

// End looks at every packet that has passed by now, stops, and gives what was
// seen; again, it gives the same.
func (w *Watch) End() (Seen, error) {
	if w.ending.Swap(true) {
		<-w.done
		return w.seen, w.err
	}
	<-w.done
	seen := w.Seen()
	unix.Close(w.fd)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen = seen
	return seen, w.err
}
