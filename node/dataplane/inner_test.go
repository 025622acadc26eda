package dataplane

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/meshcrypt/meshcrypt/node/tun"
)

// Extension headers as Segment.Extensions has them.
func hopByHop() []byte    { return []byte{nextHopByHop, 0, 5, 2, 0, 0, 1, 0} } // router alert
func destination() []byte { return append([]byte{nextDestination, 1, 1, 12}, make([]byte, 12)...) }
func routing() []byte     { return append([]byte{43, 2, 0, 1}, make([]byte, 20)...) }
func fragmentHeader(offset uint16, more bool) []byte {
	e := []byte{nextFragment, 0, 0, 0, 0, 0, 0, 9}
	binary.BigEndian.PutUint16(e[2:], offset<<3)
	if more {
		e[3] |= 1
	}
	return e
}

// extended is one TCP segment with extension headers.
func extended(seq uint32, payload []byte, extensions ...[]byte) Segment {
	s := NewTCP("[fd00::2]:4000", "[fd01::1]:80", seq, payload)
	s.Extensions = extensions
	return s
}

func TestParseExtensions(t *testing.T) {
	eight := make([][]byte, MaxExtensions)
	for i := range eight {
		eight[i] = destination()
	}
	for name, c := range map[string]struct {
		extensions [][]byte
		proto      uint8
		header     int
		ports      bool
		fragment   bool
	}{
		"none":              {nil, protoTCP, 40, true, false},
		"hop by hop":        {[][]byte{hopByHop()}, protoTCP, 48, true, false},
		"options":           {[][]byte{hopByHop(), destination()}, protoTCP, 64, true, false},
		"first fragment":    {[][]byte{hopByHop(), fragmentHeader(0, true)}, protoTCP, 56, false, true},
		"later fragment":    {[][]byte{fragmentHeader(8, false)}, protoTCP, 48, false, true},
		"routing":           {[][]byte{destination(), routing()}, 43, 56, false, false},
		"as many as may be": {eight, protoTCP, 40 + 16*MaxExtensions, true, false},
	} {
		var in inner
		reason := in.parse(extended(1, Pattern(64), c.extensions...).Bytes())
		if reason != Pass || in.proto != c.proto || in.header != c.header || in.fragment != c.fragment ||
			(in.sport == 4000 && in.dport == 80) != c.ports {
			t.Errorf("%s: %v, %+v", name, reason, in)
		}
	}
}

// Beyond the limit (I10), or where a header is cut short, nothing behind it is
// believed: the packet has no ports, and may hide those of a node.
func TestExtensionsWithoutAnEnd(t *testing.T) {
	many := make([][]byte, MaxExtensions+1)
	for i := range many {
		many[i] = destination()
	}
	packets := map[string][]byte{"too many": extended(1, nil, many...).Bytes()}
	whole := extended(1, nil, destination()).Bytes()
	for _, n := range []int{40, 41, 47, 48, 55} {
		short := bytes.Clone(whole[:n])
		binary.BigEndian.PutUint16(short[4:], uint16(n-ipv6HeaderLen))
		packets[fmt.Sprint("cut to ", n)] = short
	}
	for name, p := range packets {
		var in inner
		reason := in.parse(p)
		if reason != Pass || in.proto != nextDestination || in.sport != 0 || !in.hidden() || in.header > len(p) {
			t.Errorf("%s: %v, %+v", name, reason, in)
		}
	}
}

// TestLengthBeyondThePacket: a header may say less than there is, as padding is behind
// the packet, and never more (I11).
func TestLengthBeyondThePacket(t *testing.T) {
	for name, ends := range flows() {
		whole := NewTCP(ends[0], ends[1], 1, Pattern(64)).Bytes()
		for missing, want := range map[int]Reason{-7: Pass, 0: Pass, 1: DropMalformed, 64: DropMalformed, 100: DropShort} {
			b := append(bytes.Clone(whole), make([]byte, 7)...)
			var in inner
			if reason := in.parse(b[:len(whole)-missing]); reason != want || want == Pass && in.total != len(whole) {
				t.Errorf("%s, %d bytes missing: %v, of length %d", name, missing, reason, in.total)
			}
		}
	}
}

// A super-packet with options is cut and joined as one without.
func TestExtensionsAreCutAndJoined(t *testing.T) {
	s := extended(0xffffff00, Pattern(5000), hopByHop(), destination())
	s.Flags |= flagPSH
	datagrams := s
	datagrams.Proto = protoUDP
	for name, s := range map[string]Segment{"TCP": s, "UDP": datagrams} {
		h, p := s.Super(1200)
		all := cutAll(t, h, bytes.Clone(p))
		if len(all) != 5 {
			t.Fatalf("%s: %d segments", name, len(all))
		}
		for i, seg := range all {
			if !Sound(seg) || !bytes.Equal(seg[6:64], p[6:64]) {
				t.Errorf("%s: segment %d: %x", name, i, seg[:64])
			}
		}
		if got := merged(t, true, all...); len(got) != 1 || !bytes.Equal(got[0].Data, p) {
			t.Errorf("%s: %d packets written, want the one that was cut", name, len(got))
		}
	}
}

// What differs in an extension header, is a fragment or goes by a routing
// header stays as it came.
func TestExtensionsKeepApart(t *testing.T) {
	other := hopByHop()
	other[5] = 1
	for name, pair := range map[string][2]Segment{
		"options differ": {extended(100, Pattern(1000), hopByHop()), extended(1100, Pattern(1000), other)},
		"only one has":   {extended(100, Pattern(1000), hopByHop()), extended(1100, Pattern(1000))},
		"fragments":      {extended(100, Pattern(1000), fragmentHeader(0, true)), extended(1100, Pattern(1000), fragmentHeader(129, false))},
		"routing":        {extended(100, Pattern(1000), routing()), extended(1100, Pattern(1000), routing())},
	} {
		a, b := pair[0].Bytes(), pair[1].Bytes()
		got := merged(t, true, a, b)
		if len(got) != 2 || !bytes.Equal(got[0].Data, a) || !bytes.Equal(got[1].Data, b) {
			t.Errorf("%s: joined or changed", name)
		}
	}
	var r run
	h, p := extended(1, Pattern(5000), fragmentHeader(0, true)).Super(1200)
	if reason := r.load(h, p); reason != DropOffload {
		t.Errorf("a fragment that is to be cut: %v", reason)
	}
	if reason := r.load(tun.VnetHeader{}, p); reason != Pass {
		t.Errorf("a fragment as it is: %v", reason)
	}
}
