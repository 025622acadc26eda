package host

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Neighbor discovery (RFC 4861) of one address that stands on the TUN: an
// answer dies with the process, as the address does.
const (
	solicitation  = 135
	advertisement = 136

	// Bits of an advertisement: the sender forwards, answers a question, and
	// what it says replaces what the neighbour knew, for the holder changes.
	flagRouter    = 0x80
	flagSolicited = 0x40
	flagOverride  = 0x20

	optionTargetLink = 2
	// hopLimit proves that a message was sent on this very link.
	hopLimit = 255
)

var allNodes = netip.MustParseAddr("ff02::1")

// neighbours speaks for one address on one interface.
type neighbours struct {
	conn    *net.IPConn
	device  string
	mac     net.HardwareAddr
	address netip.Addr
	rival   func(netip.Addr) // nil: nobody hears of one
}

// openNeighbours listens for questions. A device without Ethernet addresses
// has no neighbours: nobody asks there, and nothing is said.
func openNeighbours(dev string, a netip.Addr) (*neighbours, error) {
	link, err := netlink.LinkByName(dev)
	if err != nil {
		return nil, err
	}
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) (err error) {
		controlErr := raw.Control(func(fd uintptr) { err = neighbourOptions(int(fd), link, a) })
		return errors.Join(err, controlErr)
	}}
	conn, err := config.ListenPacket(context.Background(), "ip6:ipv6-icmp", "::")
	if err != nil {
		return nil, err
	}
	n := &neighbours{conn: conn.(*net.IPConn), device: dev, address: a}
	if mac := link.Attrs().HardwareAddr; len(mac) == 6 && link.Attrs().RawFlags&unix.IFF_NOARP == 0 {
		n.mac = mac
	}
	return n, nil
}

// neighbourOptions lets solicitations of one interface in, advertisements, and nothing else.
// The group is the one that questions for the address are sent to; being in it
// as a listener also tells switches that snoop.
func neighbourOptions(fd int, link netlink.Link, a netip.Addr) error {
	var filter unix.ICMPv6Filter // a set bit keeps its type out
	for i := range filter.Data {
		filter.Data[i] = 0xffffffff
	}
	filter.Data[solicitation/32] &^= 1<<(solicitation%32) | 1<<(advertisement%32)
	group := unix.IPv6Mreq{Multiaddr: solicitedNode(a).As16(), Interface: uint32(link.Attrs().Index)}
	return errors.Join(
		unix.BindToDevice(fd, link.Attrs().Name),
		unix.SetsockoptICMPv6Filter(fd, unix.SOL_ICMPV6, unix.ICMPV6_FILTER, &filter),
		unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_RECVHOPLIMIT, 1),
		unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_UNICAST_HOPS, hopLimit),
		unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_MULTICAST_HOPS, hopLimit),
		unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_MULTICAST_LOOP, 0),
		unix.SetsockoptIPv6Mreq(fd, unix.SOL_IPV6, unix.IPV6_JOIN_GROUP, &group))
}

// solicitedNode is the group of RFC 4291, 2.7.1.
func solicitedNode(a netip.Addr) netip.Addr {
	group := [16]byte{0xff, 0x02, 11: 0x01, 12: 0xff}
	raw := a.As16()
	copy(group[13:], raw[13:])
	return netip.AddrFrom16(group)
}

// serve answers until close. An error is the interface's, which may come back.
func (n *neighbours) serve() {
	message, control := make([]byte, maxSolicitation), make([]byte, maxControl)
	for faults := 0; faults < maxFaults; faults++ {
		size, controls, _, from, err := n.conn.ReadMsgIP(message, control)
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			continue
		}
		faults = -1
		if arrivedHops(control[:controls]) == hopLimit {
			n.hear(message[:size], from)
		}
	}
}

// hear answers who asks for the address, and notes who else says to have it.
func (n *neighbours) hear(message []byte, from *net.IPAddr) {
	if target, ok := parseSolicitation(message); ok && target == n.address {
		_ = n.answer(from) // who asks again is answered again
		return
	}
	target, mac, ok := parseAdvertisement(message)
	if ok && target == n.address && n.mac != nil && n.rival != nil && !bytes.Equal(mac, n.mac) {
		n.rival(target)
	}
}

// answer goes to who asked, or to all when he has no address yet and asks
// whether this one is free.
func (n *neighbours) answer(to *net.IPAddr) error {
	if to.IP.IsUnspecified() {
		return n.announce()
	}
	return n.send(flagRouter|flagSolicited|flagOverride, to)
}

// announce tells every neighbour, unasked.
func (n *neighbours) announce() error {
	return n.send(flagRouter|flagOverride, &net.IPAddr{IP: allNodes.AsSlice(), Zone: n.device})
}

func (n *neighbours) send(flags byte, to *net.IPAddr) error {
	if n.mac == nil {
		return nil
	}
	_, err := n.conn.WriteToIP(advertise(n.mac, n.address, flags), to)
	return err
}

func (n *neighbours) close() { _ = n.conn.Close() }

// advertise is a neighbor advertisement; the kernel fills in the checksum.
func advertise(mac net.HardwareAddr, a netip.Addr, flags byte) []byte {
	b := make([]byte, 32)
	b[0], b[4] = advertisement, flags
	copy(b[8:24], a.AsSlice())
	b[24], b[25] = optionTargetLink, 1
	copy(b[26:], mac)
	return b
}

// parseSolicitation checks what RFC 4861, 7.1.1 asks for, beyond what the
// kernel has checked.
func parseSolicitation(b []byte) (target netip.Addr, ok bool) {
	if len(b) < 24 || b[0] != solicitation || b[1] != 0 {
		return netip.Addr{}, false
	}
	target = netip.AddrFrom16([16]byte(b[8:24]))
	for options := b[24:]; len(options) > 0; {
		if len(options) < 2 || options[1] == 0 || int(options[1])*8 > len(options) {
			return netip.Addr{}, false
		}
		options = options[int(options[1])*8:]
	}
	return target, !target.IsMulticast()
}

// arrivedHops is the hop limit that a message came with; 0 if it is not told.
func arrivedHops(control []byte) uint32 {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return 0
	}
	for _, m := range messages {
		if m.Header.Level == unix.SOL_IPV6 && m.Header.Type == unix.IPV6_HOPLIMIT && len(m.Data) >= 4 {
			return binary.NativeEndian.Uint32(m.Data)
		}
	}
	return 0
}
