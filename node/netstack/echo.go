package netstack

import (
	"slices"

	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// A stack that answers for every address would answer every ping too, also for
// hosts that are not there. Echo requests are refused instead, "administratively
// prohibited", in the name of who was asked.

// refuseEcho4 takes what the stack would answer itself.
func (l *link) refuseEcho4(_ stack.TransportEndpointID, p *stack.PacketBuffer) bool {
	asked := p.TransportHeader().Slice()
	if len(asked) < header.ICMPv4MinimumSize || header.ICMPv4(asked).Type() != header.ICMPv4Echo {
		return false
	}
	h := header.IPv4(p.NetworkHeader().Slice())
	l.send(prohibited4(h, slices.Concat(h, asked[:header.ICMPv4MinimumSize])))
	return true
}

// refuseEcho6 takes what the stack would answer itself.
func (l *link) refuseEcho6(_ stack.TransportEndpointID, p *stack.PacketBuffer) bool {
	asked := p.TransportHeader().Slice()
	if len(asked) < header.ICMPv6MinimumSize || header.ICMPv6(asked).Type() != header.ICMPv6EchoRequest {
		return false
	}
	h := p.NetworkHeader().Slice()
	l.send(prohibited6(header.IPv6(h), slices.Concat(h, asked)))
	return true
}

func prohibited4(h header.IPv4, quoted []byte) []byte {
	b := make([]byte, header.IPv4MinimumSize+header.ICMPv4MinimumSize+len(quoted))
	ip, icmp := header.IPv4(b), header.ICMPv4(b[header.IPv4MinimumSize:])
	ip.Encode(&header.IPv4Fields{
		TotalLength: uint16(len(b)), TTL: 64, Protocol: uint8(header.ICMPv4ProtocolNumber),
		SrcAddr: h.DestinationAddress(), DstAddr: h.SourceAddress(),
	})
	ip.SetChecksum(^ip.CalculateChecksum())
	copy(icmp[header.ICMPv4MinimumSize:], quoted)
	icmp.SetType(header.ICMPv4DstUnreachable)
	icmp.SetCode(header.ICMPv4AdminProhibited)
	icmp.SetChecksum(header.ICMPv4Checksum(icmp, 0))
	return b
}

func prohibited6(h header.IPv6, quoted []byte) []byte {
	b := make([]byte, header.IPv6MinimumSize+header.ICMPv6MinimumSize+len(quoted))
	icmp := header.ICMPv6(b[header.IPv6MinimumSize:])
	header.IPv6(b).Encode(&header.IPv6Fields{
		PayloadLength: uint16(len(icmp)), TransportProtocol: header.ICMPv6ProtocolNumber, HopLimit: 64,
		SrcAddr: h.DestinationAddress(), DstAddr: h.SourceAddress(),
	})
	copy(icmp[header.ICMPv6MinimumSize:], quoted)
	icmp.SetType(header.ICMPv6DstUnreachable)
	icmp.SetCode(header.ICMPv6Prohibited)
	payload := icmp[header.ICMPv6MinimumSize:]
	icmp.SetChecksum(header.ICMPv6Checksum(header.ICMPv6ChecksumParams{
		Header: icmp[:header.ICMPv6MinimumSize], Src: h.DestinationAddress(), Dst: h.SourceAddress(),
		PayloadCsum: checksum.Checksum(payload, 0), PayloadLen: len(payload),
	}))
	return b
}
