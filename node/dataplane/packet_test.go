package dataplane

import (
	"encoding/binary"
	"net/netip"

	"github.com/meshcrypt/meshcrypt/node/tun"
)

// NaiveSum is the checksum of RFC 1071 as one would write it down, over words
// as they stand on the wire.
func NaiveSum(b []byte, acc uint32) uint16 {
	for i := 0; i < len(b); i += 2 {
		w := uint32(b[i]) << 8
		if i+1 < len(b) {
			w |= uint32(b[i+1])
		}
		acc += w
		acc = acc>>16 + acc&0xffff
	}
	return uint16(acc>>16 + acc&0xffff)
}

// Segment describes a packet for tests to make.
type Segment struct {
	Src, Dst netip.AddrPort
	Proto    uint8
	Seq      uint32
	Flags    uint8
	ID       uint16
	DF       bool
	TTL, TOS uint8
	Options  []byte // of TCP
	Payload  []byte
	// Extensions of IPv6, each with its own kind in place of the next header's.
	Extensions [][]byte
}

// NewTCP is a plain ACK-only segment.
func NewTCP(src, dst string, seq uint32, payload []byte) Segment {
	return Segment{
		Src: netip.MustParseAddrPort(src), Dst: netip.MustParseAddrPort(dst), Proto: protoTCP,
		Seq: seq, Flags: flagACK, ID: uint16(seq), DF: true, TTL: 64, Payload: payload,
		Options: []byte{1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2},
	}
}

// NewUDP is a UDP datagram.
func NewUDP(src, dst string, payload []byte) Segment {
	s := NewTCP(src, dst, 7, payload)
	s.Proto = protoUDP
	return s
}

// Bytes is the packet with right checksums.
func (s Segment) Bytes() []byte {
	transport := s.transport()
	src, dst := s.Src.Addr().AsSlice(), s.Dst.Addr().AsSlice()
	acc := uint32(NaiveSum(append(append([]byte{}, src...), dst...), uint32(s.Proto)+uint32(len(transport))))
	at := tcpChecksum
	if s.Proto == protoUDP {
		at = udpChecksum
	}
	binary.BigEndian.PutUint16(transport[at:], ^NaiveSum(transport, acc))
	return append(s.network(len(transport)), transport...)
}

func (s Segment) network(payload int) []byte {
	if s.Src.Addr().Is6() {
		h := make([]byte, ipv6HeaderLen)
		h[0], h[1] = 0x60|s.TOS>>4, s.TOS<<4
		copy(h[8:], s.Src.Addr().AsSlice())
		copy(h[24:], s.Dst.Addr().AsSlice())
		h[7] = s.TTL
		next := 6 // the place that says what comes next
		for _, e := range s.Extensions {
			h[next], next = e[0], len(h)
			h = append(h, e...)
		}
		h[next] = s.Proto
		binary.BigEndian.PutUint16(h[4:], uint16(len(h)-ipv6HeaderLen+payload))
		return h
	}
	h := make([]byte, ipv4HeaderLen)
	h[0], h[1], h[8], h[9] = 0x45, s.TOS, s.TTL, s.Proto
	binary.BigEndian.PutUint16(h[2:], uint16(ipv4HeaderLen+payload))
	binary.BigEndian.PutUint16(h[4:], s.ID)
	if s.DF {
		h[6] = 0x40
	}
	copy(h[12:], s.Src.Addr().AsSlice())
	copy(h[16:], s.Dst.Addr().AsSlice())
	binary.BigEndian.PutUint16(h[10:], ^NaiveSum(h, 0))
	return h
}

func (s Segment) transport() []byte {
	t := make([]byte, udpHeaderLen, 64+len(s.Payload))
	if s.Proto == protoTCP {
		t = make([]byte, tcpHeaderLen, 64+len(s.Payload))
		binary.BigEndian.PutUint32(t[4:], s.Seq)
		binary.BigEndian.PutUint32(t[8:], 99)
		t[12], t[13] = byte(tcpHeaderLen+len(s.Options))/4<<4, s.Flags
		binary.BigEndian.PutUint16(t[14:], 501)
		t = append(t, s.Options...)
	} else {
		binary.BigEndian.PutUint16(t[4:], uint16(udpHeaderLen+len(s.Payload)))
	}
	binary.BigEndian.PutUint16(t, s.Src.Port())
	binary.BigEndian.PutUint16(t[2:], s.Dst.Port())
	return append(t, s.Payload...)
}

// Super is the packet as the kernel gives it with its checksum still to be
// made and, if size is not 0, its payload still to be cut.
func (s Segment) Super(size int) (tun.VnetHeader, []byte) {
	p := s.Bytes()
	header := len(s.network(0))
	h := tun.VnetHeader{
		Flags: tun.FlagNeedsCsum, CsumStart: uint16(header), CsumOffset: tcpChecksum,
		GSOSize: uint16(size),
	}
	switch {
	case s.Proto == protoUDP:
		h.GSOType, h.CsumOffset = tun.GSOUDPL4, udpChecksum
	case s.Src.Addr().Is6():
		h.GSOType = tun.GSOTCPv6
	default:
		h.GSOType = tun.GSOTCPv4
	}
	if size == 0 {
		h.GSOType = tun.GSONone
	}
	acc := uint32(s.Proto) + uint32(len(p)-header)
	acc = uint32(NaiveSum(s.Src.Addr().AsSlice(), acc))
	binary.BigEndian.PutUint16(p[header+int(h.CsumOffset):], NaiveSum(s.Dst.Addr().AsSlice(), acc))
	return h, p
}

// Sound verifies a packet's checksums by the naive sum.
func Sound(p []byte) bool {
	var in inner
	if in.parse(p) != Pass || in.total != len(p) {
		return false
	}
	if !in.v6 && NaiveSum(p[:in.header], 0) != 0xffff {
		return false
	}
	acc := uint32(in.proto) + uint32(len(p)-in.header)
	acc = uint32(NaiveSum(in.src.AsSlice(), acc))
	acc = uint32(NaiveSum(in.dst.AsSlice(), acc))
	return NaiveSum(p[in.header:], acc) == 0xffff
}

// Pattern is n bytes that differ from place to place.
func Pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8*13)
	}
	return b
}

func addrPort(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }
