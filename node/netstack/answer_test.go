package netstack

import (
	"net/netip"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"github.com/meshcrypt/meshcrypt/node/tun"
)

// answering is a stack that answers for everybody and takes no flow.
func answering(t testing.TB) *Stack {
	t.Helper()
	s, err := New(1, testMTU)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	if err := s.Answer(Answerer{
		TCP: func(r *TCPRequest) { r.Refuse() },
		UDP: func(*UDPRequest) bool { return false },
	}); err != nil {
		t.Fatal(err)
	}
	return s
}

// ping is an echo request of either family; a part of one if it is a fragment.
func ping(to netip.Addr, fragment bool) []byte {
	from := leaseA[0]
	if to.Is6() {
		from = leaseA[1]
	}
	src, dst := tcpip.AddrFromSlice(from.AsSlice()), tcpip.AddrFromSlice(to.AsSlice())
	if to.Is4() {
		b := make([]byte, header.IPv4MinimumSize+header.ICMPv4MinimumSize+32)
		icmp := header.ICMPv4(b[header.IPv4MinimumSize:])
		icmp.SetType(header.ICMPv4Echo)
		icmp.SetChecksum(header.ICMPv4Checksum(icmp, 0))
		fields := header.IPv4Fields{TotalLength: uint16(len(b)), TTL: 64, Protocol: uint8(header.ICMPv4ProtocolNumber), SrcAddr: src, DstAddr: dst}
		if fragment {
			fields.Flags, fields.ID = header.IPv4FlagMoreFragments, 7
		}
		header.IPv4(b).Encode(&fields)
		header.IPv4(b).SetChecksum(^header.IPv4(b).CalculateChecksum())
		return b
	}
	b := make([]byte, header.IPv6MinimumSize+header.ICMPv6MinimumSize+32)
	icmp := header.ICMPv6(b[header.IPv6MinimumSize:])
	icmp.SetType(header.ICMPv6EchoRequest)
	icmp.SetChecksum(header.ICMPv6Checksum(header.ICMPv6ChecksumParams{Header: icmp, Src: src, Dst: dst}))
	header.IPv6(b).Encode(&header.IPv6Fields{PayloadLength: uint16(len(icmp)), TransportProtocol: header.ICMPv6ProtocolNumber, HopLimit: 64, SrcAddr: src, DstAddr: dst})
	return b
}

// lastFragment ends the ping that its first fragment began.
func lastFragment(to netip.Addr) []byte {
	b := ping(to, true)
	clear(b[header.IPv4MinimumSize:]) // the first one's checksum stays right
	h := header.IPv4(b)
	h.SetFlagsFragmentOffset(0, uint16(len(b)-header.IPv4MinimumSize))
	h.SetChecksum(0)
	h.SetChecksum(^h.CalculateChecksum())
	return b
}

func (p *pair) write(s *Stack, packet []byte) {
	p.Helper()
	if err := s.Queues()[0].Write([][]byte{make([]byte, tun.HeaderLen), packet}); err != nil {
		p.Fatal(err)
	}
}

// TestPingIsRefused: nobody answers for a host that may not be there; both
// families are told so by the destination's address, also those who asked in
// fragments.
func TestPingIsRefused(t *testing.T) {
	p := &pair{T: t}
	s := answering(t)
	b := make([]byte, tun.HeaderLen+tun.MaxPacket)
	for _, to := range []string{"10.20.0.9", "fd20::9"} {
		addr := netip.MustParseAddr(to)
		request := ping(addr, false)
		p.write(s, request)
		n, err := s.Queues()[0].TryRead(b)
		if err != nil || n == 0 {
			t.Fatalf("%s: no answer, %v", to, err)
		}
		answer := b[tun.HeaderLen:n]
		if !sound(answer) {
			t.Errorf("%s: bad checksum", to)
		}
		if addr.Is4() {
			icmp := header.ICMPv4(header.IPv4(answer).Payload())
			if header.IPv4(answer).SourceAddress() != tcpip.AddrFromSlice(addr.AsSlice()) || checksum.Checksum(icmp, 0) != 0xffff ||
				icmp.Type() != header.ICMPv4DstUnreachable || icmp.Code() != header.ICMPv4AdminProhibited {
				t.Errorf("%s: % x", to, answer)
			}
			continue
		}
		icmp := header.ICMPv6(header.IPv6(answer).Payload())
		sum := header.ICMPv6Checksum(header.ICMPv6ChecksumParams{Header: icmp, Src: header.IPv6(answer).SourceAddress(), Dst: header.IPv6(answer).DestinationAddress()})
		if header.IPv6(answer).SourceAddress() != tcpip.AddrFromSlice(addr.AsSlice()) || icmp.Checksum() != sum ||
			icmp.Type() != header.ICMPv6DstUnreachable || icmp.Code() != header.ICMPv6Prohibited {
			t.Errorf("%s: % x", to, answer)
		}
	}
	whole := netip.MustParseAddr("10.20.0.9")
	p.write(s, ping(whole, true))
	p.write(s, lastFragment(whole))
	if n, _ := s.Queues()[0].TryRead(b); n == 0 || header.ICMPv4(header.IPv4(b[tun.HeaderLen:n]).Payload()).Code() != header.ICMPv4AdminProhibited {
		t.Errorf("a ping in fragments: % x", b[tun.HeaderLen:n])
	}
}

// FuzzAnswer: whatever comes out of the tunnel, a stack that answers for
// everybody stands, and never says that a host is there.
func FuzzAnswer(f *testing.F) {
	s := answering(f)
	for _, to := range []string{"10.20.0.9", "127.0.0.1", "fd20::9", "::1"} {
		f.Add(append(make([]byte, tun.HeaderLen), ping(netip.MustParseAddr(to), false)...))
	}
	f.Add(append(make([]byte, tun.HeaderLen), ping(netip.MustParseAddr("10.20.0.9"), true)...))
	seed(f)
	out := make([]byte, tun.HeaderLen+tun.MaxPacket)
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := s.Queues()[0].Write([][]byte{b}); err != nil {
			t.Fatal(err)
		}
		for {
			n, err := s.Queues()[0].TryRead(out)
			if n == 0 || err != nil {
				return
			}
			p := out[tun.HeaderLen:n]
			if p[0]>>4 == 4 && header.IPv4(p).Protocol() == 1 && header.ICMPv4(header.IPv4(p).Payload()).Type() == header.ICMPv4EchoReply {
				t.Errorf("echo reply % x", p)
			}
		}
	})
}
