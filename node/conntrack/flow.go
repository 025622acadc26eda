package conntrack

import (
	"encoding/binary"
	"errors"
	"net/netip"
)

// Flow is one masqueraded flow as the kernel knows it.
type Flow struct {
	Key
	// NAT is the source that the destination sees: address and port, or the
	// identifier of an echo.
	NAT netip.AddrPort
	// Replied and Assured are how far the flow has come.
	Replied, Assured bool
	// State is the kernel's state of a TCP connection, 0 of anything else;
	// Scales are the window scales of both its ends, Flags what they offered.
	State  uint8
	Scales [2]uint8
	Flags  [2]uint8
	// Timeout is how many seconds the kernel would keep it without a packet.
	Timeout uint32
}

// Key names a flow: its packets as they come from the client.
type Key struct {
	Proto uint8
	// Source and Destination have the ports of TCP and UDP; of an echo, the
	// source has the identifier and the destination nothing.
	Source, Destination netip.AddrPort
}

// Protocols that are masqueraded and mirrored.
const (
	protoICMP   = 1
	protoTCP    = 6
	protoUDP    = 17
	protoICMPv6 = 58
)

// ErrFlow is returned for bytes that are no flow.
var ErrFlow = errors.New("conntrack: malformed flow")

// Bits of the first byte of an encoded flow.
const (
	bitSix = 1 << iota
	bitReplied
	bitAssured
	bitsKnown = 1<<iota - 1
)

// fixedLen is an encoded flow but for its addresses: bits, protocol, three
// ports, TCP state, scales, flags, timeout.
const fixedLen = 1 + 1 + 6 + 1 + 2 + 2 + 4

// Append encodes a flow: version-free, for the frame around it has one.
func (f Flow) Append(b []byte) []byte {
	var bits byte
	if f.Source.Addr().Is6() {
		bits |= bitSix
	}
	if f.Replied {
		bits |= bitReplied
	}
	if f.Assured {
		bits |= bitAssured
	}
	b = append(b, bits, f.Proto)
	for _, end := range []netip.AddrPort{f.Source, f.Destination, f.NAT} {
		b = append(b, end.Addr().AsSlice()...)
		b = binary.BigEndian.AppendUint16(b, end.Port())
	}
	b = append(b, f.State, f.Scales[0], f.Scales[1], f.Flags[0], f.Flags[1])
	return binary.BigEndian.AppendUint32(b, f.Timeout)
}

// Parse reads one flow and gives what follows it.
func Parse(b []byte) (f Flow, rest []byte, err error) {
	if len(b) < fixedLen || b[0]&^bitsKnown != 0 {
		return Flow{}, nil, ErrFlow
	}
	size := 4
	if b[0]&bitSix != 0 {
		size = 16
	}
	if len(b) < fixedLen+3*size {
		return Flow{}, nil, ErrFlow
	}
	f.Replied, f.Assured, f.Proto = b[0]&bitReplied != 0, b[0]&bitAssured != 0, b[1]
	b = b[2:]
	for _, end := range []*netip.AddrPort{&f.Source, &f.Destination, &f.NAT} {
		a, _ := netip.AddrFromSlice(b[:size])
		*end = netip.AddrPortFrom(a, binary.BigEndian.Uint16(b[size:]))
		b = b[size+2:]
	}
	f.State, f.Scales, f.Flags = b[0], [2]uint8(b[1:3]), [2]uint8(b[3:5])
	f.Timeout = binary.BigEndian.Uint32(b[5:])
	return f, b[9:], f.check()
}

// check refuses what no kernel would have said.
func (f Flow) check() error {
	six := f.Source.Addr().Is6()
	known := f.Proto == protoTCP || f.Proto == protoUDP || f.Proto == protoICMP && !six || f.Proto == protoICMPv6 && six
	echo := f.Proto == protoICMP || f.Proto == protoICMPv6
	switch {
	case !known, f.State != 0 && f.Proto != protoTCP, f.State > maxState:
		return ErrFlow
	case f.Source.Addr().Is4In6(), f.Destination.Addr().Is4In6(), f.NAT.Addr().Is4In6():
		return ErrFlow
	case echo && f.Destination.Port() != 0:
		return ErrFlow
	}
	return nil
}

// within reports whether the flow's source is in one of the prefixes.
func (f Flow) within(prefixes []netip.Prefix) bool {
	for _, p := range prefixes {
		if p.Contains(f.Source.Addr()) {
			return true
		}
	}
	return false
}
