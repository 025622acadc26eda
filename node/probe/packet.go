package probe

import (
	"encoding/binary"
	"errors"
	"net/netip"
)

// ErrFamily says that a test packet's ends are not of one family.
var ErrFamily = errors.New("probe: a path test needs two addresses of one family")

const (
	lenIPv4  = 20
	lenIPv6  = 40
	lenUDP   = 8
	protoUDP = 17
	hops     = 64
)

// Packet is a payload as a UDP packet (RFC 791, RFC 8200, RFC 768) of its
// ends' family, to send through one's own TUN.
func Packet(from, to netip.AddrPort, payload []byte) ([]byte, error) {
	source, destination := from.Addr(), to.Addr()
	switch {
	case source.Is4() && destination.Is4():
		return append(header4(source, destination, lenUDP+len(payload)), datagram(from, to, payload, false)...), nil
	case source.Is6() && destination.Is6():
		return append(header6(source, destination, lenUDP+len(payload)), datagram(from, to, payload, true)...), nil
	}
	return nil, ErrFamily
}

func header4(source, destination netip.Addr, length int) []byte {
	b := make([]byte, lenIPv4, lenIPv4+length)
	b[0], b[8], b[9] = 0x45, hops, protoUDP
	binary.BigEndian.PutUint16(b[2:], uint16(lenIPv4+length))
	copy(b[12:], source.AsSlice())
	copy(b[16:], destination.AsSlice())
	binary.BigEndian.PutUint16(b[10:], ^fold(sum(b)))
	return b
}

func header6(source, destination netip.Addr, length int) []byte {
	b := make([]byte, lenIPv6, lenIPv6+length)
	b[0], b[6], b[7] = 0x60, protoUDP, hops
	binary.BigEndian.PutUint16(b[4:], uint16(length))
	copy(b[8:], source.AsSlice())
	copy(b[24:], destination.AsSlice())
	return b
}

// datagram is the UDP part. IPv6 wants its checksum, IPv4 does not.
func datagram(from, to netip.AddrPort, payload []byte, checksum bool) []byte {
	b := make([]byte, lenUDP, lenUDP+len(payload))
	binary.BigEndian.PutUint16(b[0:], from.Port())
	binary.BigEndian.PutUint16(b[2:], to.Port())
	binary.BigEndian.PutUint16(b[4:], uint16(lenUDP+len(payload)))
	b = append(b, payload...)
	if checksum {
		pseudo := sum(from.Addr().AsSlice()) + sum(to.Addr().AsSlice()) + protoUDP + uint32(len(b))
		c := ^fold(pseudo + sum(b))
		if c == 0 {
			c = 0xffff // zero would say that there is none
		}
		binary.BigEndian.PutUint16(b[6:], c)
	}
	return b
}

// sum adds the 16-bit words of b (RFC 1071).
func sum(b []byte) (s uint32) {
	for ; len(b) > 1; b = b[2:] {
		s += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		s += uint32(b[0]) << 8
	}
	return s
}

func fold(s uint32) uint16 {
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}
