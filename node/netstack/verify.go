package netstack

import (
	"encoding/binary"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// versionOf is the protocol of an IP packet that has at least a header.
func versionOf(p []byte) (tcpip.NetworkProtocolNumber, bool) {
	switch {
	case len(p) >= header.IPv4MinimumSize && p[0]>>4 == 4:
		return header.IPv4ProtocolNumber, true
	case len(p) >= header.IPv6MinimumSize && p[0]>>4 == 6:
		return header.IPv6ProtocolNumber, true
	}
	return 0, false
}

// sound verifies lengths and checksums of a packet that came as it was sent.
// The stack cannot be told to verify some packets and not others, and those
// that the engine joined have no checksum any more. What hides its transport
// header, a fragment or an extension, passes: ICMP is verified by the stack,
// and the rest was sealed for most of its way.
func sound(p []byte) bool {
	if p[0]>>4 == 6 {
		end := header.IPv6MinimumSize + int(binary.BigEndian.Uint16(p[4:]))
		return end <= len(p) && transportSound(p[6], p[8:40], p[header.IPv6MinimumSize:end])
	}
	start, end := int(p[0]&0xf)*4, int(binary.BigEndian.Uint16(p[2:]))
	if start < header.IPv4MinimumSize || end < start || end > len(p) || checksum.Checksum(p[:start], 0) != 0xffff {
		return false
	}
	fragment := binary.BigEndian.Uint16(p[6:])&0x3fff != 0
	return fragment || transportSound(p[9], p[12:20], p[start:end])
}

func transportSound(protocol byte, addresses, segment []byte) bool {
	switch protocol {
	case byte(header.TCPProtocolNumber):
	case byte(header.UDPProtocolNumber):
		if len(segment) < header.UDPMinimumSize || len(addresses) == 8 && segment[6] == 0 && segment[7] == 0 {
			return len(segment) >= header.UDPMinimumSize // IPv4 may go without
		}
	default:
		return true
	}
	pseudo := [4]byte{1: protocol}
	binary.BigEndian.PutUint16(pseudo[2:], uint16(len(segment)))
	sum := checksum.Checksum(pseudo[:], checksum.Checksum(addresses, 0))
	return checksum.Checksum(segment, sum) == 0xffff
}
