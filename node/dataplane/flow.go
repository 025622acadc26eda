package dataplane

import (
	"encoding/binary"
	"math/bits"
)

// Protocols whose header begins with what tells their flows apart, and ports
// of protocols in UDP that mind the order of their packets.
const (
	protoDCCP    = 33
	protoGRE     = 47
	protoESP     = 50
	protoAH      = 51
	protoSCTP    = 132
	protoUDPLite = 136

	portQUIC = 443
	portIKE  = 500
	portNATT = 4500 // ESP in UDP
)

// sprayable reports whether the packets of one flow may take several slices:
// TCP puts them in order again; UDP only if it was asked for, and never where
// the protocol inside is known to mind.
func (in *inner) sprayable(udp bool) bool {
	switch {
	case in.fragment:
		return false
	case in.proto == protoTCP:
		return true
	}
	return udp && in.proto == protoUDP && !ordered(in.sport) && !ordered(in.dport)
}

func ordered(port uint16) bool { return port == portQUIC || port == portIKE || port == portNATT }

// flow hashes addresses, protocol and key, so that all packets of one flow
// give one number. It serves to spread flows, not to resist an attacker.
func (in *inner) flow(b []byte) uint64 {
	at, end := 12, 20
	if in.v6 {
		at, end = 8, 40
	}
	h := uint64(in.proto)<<32 | uint64(in.key(b))
	for ; at < end; at += 8 {
		h = mix(h ^ binary.BigEndian.Uint64(b[at:]))
	}
	return mix(h)
}

// key tells flows of one protocol between the same hosts apart: ports, SPI, GRE
// key. Fragments have none of these, so all of them are one flow: by their
// identification, a flow of large datagrams would be sprayed.
func (in *inner) key(b []byte) uint32 {
	if in.fragment {
		return 0
	}
	t := b[in.header:in.total]
	switch in.proto {
	case protoTCP, protoUDP, protoDCCP, protoESP, protoSCTP, protoUDPLite:
		return wordAt(t, 0)
	case protoAH:
		return wordAt(t, 4)
	case protoGRE:
		return greKey(t)
	}
	return 0
}

// greKey is the key of RFC 2890, or the call of RFC 2637, whose upper half is
// a length.
func greKey(t []byte) uint32 {
	const checksum, key, version = 0x8000, 0x2000, 0x0007
	flags := wordAt(t, 0) >> 16
	at := 4
	if flags&checksum != 0 {
		at += 4
	}
	switch {
	case flags&key == 0:
		return 0
	case flags&version == 1:
		return wordAt(t, at) & 0xffff
	}
	return wordAt(t, at)
}

// wordAt is four bytes of a header, 0 where they are missing.
func wordAt(t []byte, at int) uint32 {
	if len(t) < at+4 {
		return 0
	}
	return binary.BigEndian.Uint32(t[at:])
}

func mix(h uint64) uint64 {
	hi, lo := bits.Mul64(h^0x9e3779b97f4a7c15, 0xd6e8feb86659fd93)
	return hi ^ lo
}
