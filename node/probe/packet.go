package probe

import (
	"encoding/binary"
	"errors"
	"net/netip"
)

// ErrFamily says that a test packet's ends are not both IPv4.
var ErrFamily = errors.New("probe: a path test needs IPv4 addresses")

const (
	lenIPv4 = 20
	lenUDP  = 8
)

// Packet is a payload as an IPv4 UDP packet (RFC 791, RFC 768; no UDP
// checksum), to send through one's own TUN.
func Packet(from, to netip.AddrPort, payload []byte) ([]byte, error) {
	if !from.Addr().Is4() || !to.Addr().Is4() {
		return nil, ErrFamily
	}
	b := make([]byte, lenIPv4+lenUDP, lenIPv4+lenUDP+len(payload))
	b[0], b[8], b[9] = 0x45, 64, 17
	binary.BigEndian.PutUint16(b[2:], uint16(lenIPv4+lenUDP+len(payload)))
	source, destination := from.Addr().As4(), to.Addr().As4()
	copy(b[12:], source[:])
	copy(b[16:], destination[:])
	binary.BigEndian.PutUint16(b[10:], headerChecksum(b[:lenIPv4]))
	binary.BigEndian.PutUint16(b[20:], from.Port())
	binary.BigEndian.PutUint16(b[22:], to.Port())
	binary.BigEndian.PutUint16(b[24:], uint16(lenUDP+len(payload)))
	return append(b, payload...), nil
}

// headerChecksum is RFC 791's over a header whose checksum field is zero.
func headerChecksum(header []byte) uint16 {
	var sum uint32
	for i := 0; i < len(header); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(header[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
