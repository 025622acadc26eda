package dataplane

import (
	"encoding/binary"
	"testing"
)

// withHeader is an IPv4 packet of any protocol.
func withHeader(proto uint8, id uint16, fragment bool, transport ...byte) []byte {
	s := NewUDP("10.1.0.2:1", "10.9.0.1:2", nil)
	s.Proto, s.ID = proto, id
	p := append(s.network(len(transport)), transport...)
	if fragment {
		p[6] = 0x20
	}
	return p
}

func word32(words ...uint32) (b []byte) {
	for _, w := range words {
		b = binary.BigEndian.AppendUint32(b, w)
	}
	return b
}

func parsed(t *testing.T, p []byte) (in inner) {
	t.Helper()
	if reason := in.parse(p); reason != Pass {
		t.Fatalf("%x: %v", p, reason)
	}
	return in
}

// TestFlowKeys: what belongs to one flow has one number, another flow another.
func TestFlowKeys(t *testing.T) {
	udp := func(sport, dport uint32, id uint16, fragment bool) []byte {
		return withHeader(protoUDP, id, fragment, word32(sport<<16|dport, 8<<16)...)
	}
	fragment6 := func(id, offset, first uint32) []byte { // of UDP
		s := NewUDP("[2001:db8::2]:1", "[2001:db8::9]:2", nil)
		s.Extensions = [][]byte{word32(nextFragment<<24|offset<<3, id)}
		return append(s.network(8), word32(first, 9)...)
	}
	gre := func(words ...uint32) []byte { return withHeader(protoGRE, 1, false, word32(words...)...) }
	for _, c := range []struct {
		name string
		a, b []byte
		same bool
	}{
		{"datagrams of one flow", udp(1, 2, 7, false), udp(1, 2, 8, false), true},
		{"another port", udp(1, 2, 7, false), udp(1, 3, 7, false), false},
		{"fragments of one datagram", udp(1, 2, 7, true), withHeader(protoUDP, 7, true, 9, 9), true},
		{"fragments of two", udp(1, 2, 7, true), withHeader(protoUDP, 8, true, 9, 9), true},
		{"fragments of one IPv6 datagram", fragment6(7, 0, 1<<16|2), fragment6(7, 9, 77), true},
		{"fragments of two IPv6 datagrams", fragment6(7, 0, 1<<16|2), fragment6(8, 9, 77), true},
		{"one SPI", withHeader(protoESP, 1, false, word32(77, 1)...), withHeader(protoESP, 2, false, word32(77, 2)...), true},
		{"two SPIs", withHeader(protoESP, 1, false, word32(77, 1)...), withHeader(protoESP, 2, false, word32(78, 2)...), false},
		{"one SPI of AH", withHeader(protoAH, 1, false, word32(1, 77)...), withHeader(protoAH, 1, false, word32(2, 77)...), true},
		{"two SPIs of AH", withHeader(protoAH, 1, false, word32(1, 77)...), withHeader(protoAH, 1, false, word32(1, 78)...), false},
		{"GRE without a key", gre(0x0800), gre(0x0800, 9), true},
		{"one key of GRE", gre(0x20000800, 5, 1), gre(0x20000800, 5, 2), true},
		{"two keys of GRE", gre(0x20000800, 5), gre(0x20000800, 6), false},
		{"two keys behind checksums", gre(0xa0000800, 1, 5), gre(0xa0000800, 1, 6), false},
		{"one call of PPTP", gre(0x2001880b, 100<<16|5), gre(0x2001880b, 200<<16|5), true},
		{"two calls of PPTP", gre(0x2001880b, 100<<16|5), gre(0x2001880b, 100<<16|6), false},
		{"a header cut short", withHeader(protoESP, 1, false, 1), withHeader(protoESP, 1, false, 2), true},
		{"ICMP", withHeader(1, 1, false, word32(1)...), withHeader(1, 2, false, word32(2)...), true},
	} {
		a, b := parsed(t, c.a), parsed(t, c.b)
		if same := a.flow(c.a) == b.flow(c.b); same != c.same {
			t.Errorf("%s: one flow %v, want %v", c.name, same, c.same)
		}
	}
}

// TestWhatMayBeSprayed: UDP only where it was asked for, and what minds the
// order of its packets never.
func TestWhatMayBeSprayed(t *testing.T) {
	udp := func(sport, dport uint32) []byte {
		return withHeader(protoUDP, 1, false, word32(sport<<16|dport, 8<<16)...)
	}
	for _, c := range []struct {
		name         string
		packet       []byte
		plain, asked bool
	}{
		{"TCP", withHeader(protoTCP, 1, false, word32(80, 0, 0, 0, 0)...), true, true},
		{"a fragment of TCP", withHeader(protoTCP, 1, true, word32(80, 0)...), false, false},
		{"UDP", udp(4000, 4001), false, true},
		{"a fragment of UDP", withHeader(protoUDP, 1, true, word32(80, 0)...), false, false},
		{"QUIC", udp(4000, 443), false, false},
		{"answers of QUIC", udp(443, 4000), false, false},
		{"ESP in UDP", udp(4500, 4500), false, false},
		{"IKE", udp(500, 500), false, false},
		{"ESP", withHeader(protoESP, 1, false, word32(9, 9)...), false, false},
		{"GRE", withHeader(protoGRE, 1, false, word32(9, 9)...), false, false},
		{"ICMP", withHeader(1, 1, false, word32(9, 9)...), false, false},
	} {
		in := parsed(t, c.packet)
		if plain, asked := in.sprayable(false), in.sprayable(true); plain != c.plain || asked != c.asked {
			t.Errorf("%s: sprayed %v, when asked %v", c.name, plain, asked)
		}
	}
}
