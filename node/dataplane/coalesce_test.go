package dataplane

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/meshcrypt/meshcrypt/node/tun"
	"github.com/meshcrypt/meshcrypt/node/tun/tuntest"
)

// merged feeds packets to a coalescer and returns what was written.
func merged(t testing.TB, uso bool, packets ...[]byte) []tuntest.Packet {
	t.Helper()
	device := tuntest.New(1)
	l := new(ledger)
	c := newCoalescer(l, device.Queues()[0], uso)
	l.take(PortOuter, len(packets))
	for _, p := range packets {
		var in inner
		if reason := in.parse(p); reason != Pass {
			t.Fatalf("parse: %v", reason)
		}
		c.add(append([]byte(nil), p...), &in)
	}
	c.flush()
	if s := l.stats(); s.Balance() != 0 || s.Delivered[PortTUN] != uint64(len(packets)) {
		t.Fatalf("delivered %d of %d", s.Delivered[PortTUN], len(packets))
	}
	return device.TakeAll()
}

func TestCoalesceUndoesSegment(t *testing.T) {
	for name, ends := range flows() {
		for _, payload := range []int{2720, 3000, 40 * 1360, 60000} {
			s := NewTCP(ends[0], ends[1], 0xffffff00, Pattern(payload))
			s.Flags |= flagPSH
			h, p := s.Super(1360)
			got := merged(t, false, cutAll(t, h, append([]byte(nil), p...))...)
			if len(got) != 1 {
				t.Fatalf("%s: %d packets written for a run of %d bytes", name, len(got), payload)
			}
			if !bytes.Equal(got[0].Data, p) {
				t.Fatalf("%s: %d bytes: super-packet differs from the one cut", name, payload)
			}
			h.HdrLen = uint16(len(p) - payload)
			if got[0].Header != h {
				t.Fatalf("%s: header %+v, want %+v", name, got[0].Header, h)
			}
		}
	}
}

func TestCoalesceUDP(t *testing.T) {
	for name, ends := range flows() {
		h, p := NewUDP(ends[0], ends[1], Pattern(5000)).Super(1200)
		all := cutAll(t, h, append([]byte(nil), p...))
		if got := merged(t, true, all...); len(got) != 1 || !bytes.Equal(got[0].Data, p) {
			t.Errorf("%s: %d packets, want the one that was cut", name, len(got))
		}
		if got := merged(t, false, all...); len(got) != 5 {
			t.Errorf("%s: without USO %d packets, want 5", name, len(got))
		}
	}
}

// TestCoalesceKeepsApart holds what must not be joined: whatever the cut
// super-packet would not say again.
func TestCoalesceKeepsApart(t *testing.T) {
	type change struct {
		name string
		edit func(a, b *Segment)
		raw  func(a, b []byte)
	}
	v4 := [2]string{"10.1.0.2:4000", "10.9.0.1:80"}
	cases := []change{
		{name: "gap", edit: func(_, b *Segment) { b.Seq++ }},
		{name: "overlap", edit: func(_, b *Segment) { b.Seq-- }},
		{name: "TTL", edit: func(_, b *Segment) { b.TTL-- }},
		{name: "DSCP", edit: func(_, b *Segment) { b.TOS = 0x28 }},
		{name: "ECN", edit: func(_, b *Segment) { b.TOS = 3 }},
		{name: "DF", edit: func(_, b *Segment) { b.DF = false }},
		{name: "ID without DF", edit: func(a, b *Segment) { a.DF, b.DF = false, false; b.ID += 2 }},
		{name: "source port", edit: func(_, b *Segment) { b.Src = addrPort("10.1.0.2:4001") }},
		{name: "destination", edit: func(_, b *Segment) { b.Dst = addrPort("10.9.0.2:80") }},
		{name: "PSH ends a run", edit: func(a, _ *Segment) { a.Flags |= flagPSH }},
		{name: "FIN", edit: func(_, b *Segment) { b.Flags |= flagFIN }},
		{name: "SYN", edit: func(_, b *Segment) { b.Flags |= 2 }},
		{name: "RST", edit: func(_, b *Segment) { b.Flags |= 4 }},
		{name: "CWR", edit: func(_, b *Segment) { b.Flags |= flagCWR }},
		{name: "ECE", edit: func(_, b *Segment) { b.Flags |= flagECE }},
		{name: "options", edit: func(_, b *Segment) { b.Options = []byte{1, 1, 8, 10, 0, 0, 0, 9, 0, 0, 0, 2} }},
		{name: "no options", edit: func(_, b *Segment) { b.Options = nil }},
		{name: "longer", edit: func(_, b *Segment) { b.Payload = Pattern(1001) }},
		{name: "empty", edit: func(_, b *Segment) { b.Payload = nil }},
		{name: "UDP", edit: func(_, b *Segment) { b.Proto = protoUDP }},
		{name: "checksum of the first", raw: func(a, _ []byte) { a[60] ^= 1 }},
		{name: "checksum of the second", raw: func(_, b []byte) { b[60] ^= 1 }},
		{name: "IP checksum", raw: func(_, b []byte) { b[10] ^= 1 }},
		{name: "fragment", raw: func(_, b []byte) { b[6] |= 0x20 }},
	}
	for _, c := range cases {
		a := NewTCP(v4[0], v4[1], 100, Pattern(1000))
		b := NewTCP(v4[0], v4[1], 1100, Pattern(1000))
		b.ID = a.ID + 1
		if c.edit != nil {
			c.edit(&a, &b)
		}
		pa, pb := a.Bytes(), b.Bytes()
		if c.raw != nil {
			c.raw(pa, pb)
		}
		got := merged(t, true, pa, pb)
		if len(got) != 2 || !bytes.Equal(got[0].Data, pa) || !bytes.Equal(got[1].Data, pb) {
			t.Errorf("%s: joined or changed", c.name)
		}
	}
	a, b := NewTCP(v4[0], v4[1], 100, Pattern(1000)), NewTCP(v4[0], v4[1], 1100, Pattern(1000))
	if got := merged(t, true, a.Bytes(), b.Bytes()); len(got) != 1 {
		t.Error("the unchanged pair is not joined: nothing tested")
	}
}

func TestCoalesceLimits(t *testing.T) {
	var many [][]byte
	for i := range MaxCoalesced + 1 {
		s := NewTCP("10.1.0.2:4000", "10.9.0.1:80", uint32(i*10), Pattern(10))
		many = append(many, s.Bytes())
	}
	if got := merged(t, false, many...); len(got) != 2 {
		t.Errorf("%d packets for MaxCoalesced+1 segments, want 2", len(got))
	}
	many = many[:0]
	for i := range 50 {
		s := NewTCP("10.1.0.2:4000", "10.9.0.1:80", uint32(i*1400), Pattern(1400))
		many = append(many, s.Bytes())
	}
	got := merged(t, false, many...)
	if len(got) != 2 || len(got[0].Data) > tun.MaxPacket {
		t.Errorf("%d packets, the first of %d bytes", len(got), len(got[0].Data))
	}
}

// TestCoalesceIsLossless cuts what the coalescer joined again and compares,
// for many random sequences: the joined form says exactly what came in.
func TestCoalesceIsLossless(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for range 200 {
		packets := randomPackets(random)
		var again [][]byte
		for _, w := range merged(t, true, packets...) {
			again = append(again, cutAll(t, w.Header, w.Data)...)
		}
		if len(again) != len(packets) {
			t.Fatalf("%d packets became %d", len(packets), len(again))
		}
		for i := range again {
			if !bytes.Equal(again[i], packets[i]) {
				t.Fatalf("packet %d changed\n%x\n%x", i, packets[i][:60], again[i][:60])
			}
		}
	}
}

func randomPackets(random *rand.Rand) [][]byte {
	seq, id := random.Uint32(), uint16(random.Uint32())
	var all [][]byte
	for range 20 {
		s := NewTCP("10.1.0.2:4000", "10.9.0.1:80", seq, Pattern(500))
		s.ID = id
		switch random.IntN(10) {
		case 0:
			s.Flags |= flagPSH
		case 1:
			s.Payload = Pattern(random.IntN(600))
		case 2:
			s.TOS = 2
		case 3:
			s.Src = addrPort("10.1.0.2:4001")
		case 4:
			s.Proto = protoUDP
		}
		seq += uint32(len(s.Payload))
		id++
		all = append(all, s.Bytes())
	}
	return all
}

// FuzzCoalesce: two packets from outside, whatever they are, come out as they
// went in (I11).
func FuzzCoalesce(f *testing.F) {
	a := NewTCP("10.1.0.2:4000", "10.9.0.1:80", 100, Pattern(100))
	b := NewTCP("10.1.0.2:4000", "10.9.0.1:80", 200, Pattern(90))
	b.ID = a.ID + 1
	f.Add(a.Bytes(), b.Bytes())
	f.Add(NewUDP("[fd00::1]:1", "[fd00::2]:2", Pattern(9)).Bytes(), b.Bytes())
	f.Add(extended(100, Pattern(9), hopByHop(), destination()).Bytes(), extended(109, Pattern(9), hopByHop(), destination()).Bytes())
	f.Add(extended(100, Pattern(9), fragmentHeader(0, true)).Bytes(), extended(100, nil, routing()).Bytes())
	f.Fuzz(func(t *testing.T, a, b []byte) {
		var ia, ib inner
		if ia.parse(a) != Pass || ib.parse(b) != Pass {
			return
		}
		a, b = a[:ia.total], b[:ib.total]
		got := merged(t, true, a, b)
		if len(got) == 2 {
			if !bytes.Equal(got[0].Data, a) || !bytes.Equal(got[1].Data, b) {
				t.Fatal("packet changed")
			}
			return
		}
		again := cutAll(t, got[0].Header, got[0].Data)
		if len(again) != 2 {
			t.Fatalf("two packets became %d", len(again))
		}
		if !ia.v6 && a[6]&0x40 != 0 { // the identification has no meaning with DF
			binary.BigEndian.PutUint16(again[1][4:], binary.BigEndian.Uint16(b[4:]))
			fixIPv4Checksum(again[1][:ib.header])
		}
		if !bytes.Equal(again[0], a) || !bytes.Equal(again[1], b) {
			t.Fatal("joined packets changed")
		}
	})
}
