package dataplane

import (
	"encoding/binary"
	"net/netip"

	"github.com/meshcrypt/meshcrypt/crypto/esp"
)

// Protocol numbers and header sizes of inner packets.
const (
	protoTCP = 6
	protoUDP = 17

	ipv4HeaderLen = 20
	ipv6HeaderLen = 40
	tcpHeaderLen  = 20
	udpHeaderLen  = 8

	extensionLen = 8 // and a multiple of it

	nextHopByHop    = 0
	nextRouting     = 43
	nextFragment    = 44
	nextDestination = 60
	nextMobility    = 135
	nextHIP         = 139
	nextShim6       = 140
)

// inner is what the engine knows of an inner packet.
type inner struct {
	src, dst     netip.Addr
	sport, dport uint16
	total        int // length by its own header
	header       int // bytes before the transport header, extensions included
	proto, tos   uint8
	v6           bool
	fragment     bool // of a datagram; its ports are not known
}

// parse reads the headers of the packet at the start of b.
func (in *inner) parse(b []byte) Reason {
	if len(b) < ipv4HeaderLen {
		return DropShort
	}
	var reason Reason
	switch b[0] >> 4 {
	case 4:
		reason = in.parseIPv4(b)
	case 6:
		reason = in.parseIPv6(b)
	default:
		return DropMalformed
	}
	if reason == Pass {
		in.parsePorts(b[:in.total])
	}
	return reason
}

func (in *inner) parseIPv4(b []byte) Reason {
	in.v6 = false
	in.header = int(b[0]&0xf) * 4
	in.total = int(binary.BigEndian.Uint16(b[2:]))
	if in.header < ipv4HeaderLen || in.total < in.header || in.total > len(b) {
		return DropMalformed
	}
	in.fragment = binary.BigEndian.Uint16(b[6:])&0x3fff != 0
	in.proto, in.tos = b[9], b[1]
	in.src = netip.AddrFrom4([4]byte(b[12:16]))
	in.dst = netip.AddrFrom4([4]byte(b[16:20]))
	return Pass
}

func (in *inner) parseIPv6(b []byte) Reason {
	if len(b) < ipv6HeaderLen {
		return DropShort
	}
	in.v6 = true
	in.header = ipv6HeaderLen
	in.total = ipv6HeaderLen + int(binary.BigEndian.Uint16(b[4:]))
	if in.total > len(b) {
		return DropMalformed
	}
	in.fragment = false
	in.proto, in.tos = b[6], b[0]<<4|b[1]>>4
	in.src = netip.AddrFrom16([16]byte(b[8:24]))
	in.dst = netip.AddrFrom16([16]byte(b[24:40]))
	if in.proto != protoTCP && in.proto != protoUDP {
		in.skipExtensions(b[:in.total])
	}
	return Pass
}

// skipExtensions finds the transport header behind extension headers (RFC 8200,
// 4), as far as it can: then the protocol is that of the header it stopped at.
// Behind a routing header the checksum is of another destination than the one
// that stands in front: such a packet is carried as one of no known transport.
func (in *inner) skipExtensions(b []byte) {
	for range MaxExtensions {
		size := extensionLen
		switch in.proto {
		case nextHopByHop, nextDestination:
			if len(b) > in.header+1 {
				size += int(b[in.header+1]) * extensionLen
			}
		case nextFragment:
			in.fragment = true
		default:
			return
		}
		if len(b) < in.header+size {
			return
		}
		in.proto = b[in.header]
		in.header += size
		if in.fragment {
			return
		}
	}
}

// hidden reports whether the ports may be those of UDP and are not known: a
// fragment, or behind an extension header of IPv6 that is not passed over.
func (in *inner) hidden() bool {
	if !in.v6 || in.proto == protoUDP {
		return in.fragment && in.proto == protoUDP
	}
	switch in.proto {
	case nextHopByHop, nextRouting, nextFragment, protoAH, nextDestination, nextMobility, nextHIP, nextShim6:
		return true
	}
	return false
}

func (in *inner) parsePorts(b []byte) {
	in.sport, in.dport = 0, 0
	if in.fragment || in.proto != protoTCP && in.proto != protoUDP || len(b) < in.header+4 {
		return
	}
	in.sport = binary.BigEndian.Uint16(b[in.header:])
	in.dport = binary.BigEndian.Uint16(b[in.header+2:])
}

// next is the ESP next header of the packet in tunnel mode.
func (in *inner) next() byte {
	if in.v6 {
		return esp.NextIPv6
	}
	return esp.NextIPv4
}

// pseudo sums the addresses and protocol of a pseudo header; the length of the
// transport segment is added by the caller.
func (in *inner) pseudo(b []byte) uint64 {
	if in.v6 {
		return sum(b[8:40], word(uint16(in.proto)))
	}
	return sum(b[12:20], word(uint16(in.proto)))
}
