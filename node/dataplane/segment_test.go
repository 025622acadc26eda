package dataplane

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/meshcrypt/meshcrypt/node/tun"
)

func TestSumEqualsTheNaiveOne(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for n := range 2000 {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(random.Uint32())
			if n%3 == 0 {
				b[i] = 0xff // carries everywhere
			}
		}
		start := uint16(random.Uint32())
		var got [2]byte
		store(got[:], fold(sum(b, word(start))))
		want := NaiveSum(b, uint32(start))
		if word := fold(sumWords(b, word(start))); word != binary.NativeEndian.Uint16(got[:]) {
			t.Fatalf("%d bytes: plain Go gives %04x", n, word)
		}
		if g := binary.BigEndian.Uint16(got[:]); g != want && g^want != 0xffff {
			t.Fatalf("%d bytes: %04x, want %04x", n, g, want)
		} else if g != want && want != 0 && want != 0xffff {
			t.Fatalf("%d bytes: %04x, want %04x", n, g, want)
		}
	}
}

// cutAll loads a super-packet and cuts it whole.
func cutAll(t testing.TB, h tun.VnetHeader, p []byte) [][]byte {
	t.Helper()
	var r run
	if reason := r.load(h, p); reason != Pass {
		t.Fatalf("load: %v", reason)
	}
	var all [][]byte
	for r.left() > 0 {
		left, want, total := r.left(), r.length(), r.bytes(1)
		dst := make([]byte, 70000)
		n := r.cut(dst)
		if n != want || n != total || r.left() != left-1 {
			t.Fatalf("cut %d of announced %d and %d, %d left of %d", n, want, total, r.left(), left)
		}
		all = append(all, dst[:n])
	}
	return all
}

func flows() map[string][2]string {
	return map[string][2]string{
		"ipv4": {"10.1.0.2:4000", "10.9.0.1:80"},
		"ipv6": {"[fd00::2]:4000", "[fd01::1]:80"},
	}
}

func TestSegmentTCP(t *testing.T) {
	for name, ends := range flows() {
		for _, payload := range []int{1, 1360, 1361, 2720, 60001} {
			s := NewTCP(ends[0], ends[1], 0xfffffff0, Pattern(payload))
			s.Flags = flagACK | flagPSH | flagFIN | flagCWR
			s.ID = 0xfffe
			h, p := s.Super(1360)
			segments := cutAll(t, h, p)
			if want := (payload + 1359) / 1360; len(segments) != want {
				t.Fatalf("%s: %d segments of %d bytes, want %d", name, len(segments), payload, want)
			}
			var got []byte
			for i, seg := range segments {
				checkSegment(t, s, seg, i, len(got), i == len(segments)-1)
				got = append(got, seg[len(seg)-min(1360, payload-len(got)):]...)
			}
			if !bytes.Equal(got, s.Payload) {
				t.Fatalf("%s: payload of %d changed", name, payload)
			}
		}
	}
}

func checkSegment(t *testing.T, s Segment, seg []byte, i, done int, last bool) {
	t.Helper()
	if !Sound(seg) {
		t.Fatalf("segment %d: checksum or length wrong", i)
	}
	var in inner
	in.parse(seg)
	tcp := seg[in.header:]
	if got := binary.BigEndian.Uint32(tcp[4:]); got != s.Seq+uint32(done) {
		t.Fatalf("segment %d: seq %d, want %d", i, got, s.Seq+uint32(done))
	}
	if psh := tcp[13]&flagPSH != 0; psh != last {
		t.Fatalf("segment %d: PSH %v", i, psh)
	}
	if fin := tcp[13]&flagFIN != 0; fin != last { // else the connection ends early
		t.Fatalf("segment %d: FIN %v", i, fin)
	}
	if cwr := tcp[13]&flagCWR != 0; cwr != (i == 0) {
		t.Fatalf("segment %d: CWR %v", i, cwr)
	}
	if id := binary.BigEndian.Uint16(seg[4:]); !in.v6 && id != s.ID+uint16(i) {
		t.Fatalf("segment %d: id %d", i, id)
	}
}

func TestSegmentUDP(t *testing.T) {
	for name, ends := range flows() {
		s := NewUDP(ends[0], ends[1], Pattern(5000))
		h, p := s.Super(1200)
		segments := cutAll(t, h, p)
		if len(segments) != 5 {
			t.Fatalf("%s: %d datagrams, want 5", name, len(segments))
		}
		for i, seg := range segments {
			if !Sound(seg) {
				t.Fatalf("%s: datagram %d: checksum wrong", name, i)
			}
		}
	}
}

// summingToZero is a datagram whose checksum comes out as zero.
func summingToZero(ends [2]string, size int) Segment {
	s := NewUDP(ends[0], ends[1], Pattern(size))
	at := udpChecksum + len(s.Bytes()) - size - udpHeaderLen
	binary.BigEndian.PutUint16(s.Payload, 0)
	binary.BigEndian.PutUint16(s.Payload, binary.BigEndian.Uint16(s.Bytes()[at:]))
	return s
}

// TestUDPChecksumIsNeverZero: zero says that there is none, so 0xffff is sent, which
// sums up alike (RFC 768). IPv6 refuses zero altogether (RFC 8200, 8.1).
func TestUDPChecksumIsNeverZero(t *testing.T) {
	for name, ends := range flows() {
		s := summingToZero(ends, 1200)
		second := summingToZero(ends, 1200) // its ID is not summed
		s.Payload = append(s.Payload, second.Payload...)
		for _, size := range []int{0, 1200} {
			one := s
			if size == 0 {
				one.Payload = s.Payload[:1200]
			}
			h, p := one.Super(size)
			for i, datagram := range cutAll(t, h, p) {
				var in inner
				in.parse(datagram)
				if got := binary.BigEndian.Uint16(datagram[in.header+udpChecksum:]); got != 0xffff || !Sound(datagram) {
					t.Errorf("%s, cut to %d, datagram %d: checksum %04x", name, size, i, got)
				}
			}
		}
	}
}

func TestSinglePacketGetsItsChecksum(t *testing.T) {
	s := NewTCP("10.1.0.2:4000", "10.9.0.1:80", 5, Pattern(33))
	h, p := s.Super(0)
	if Sound(p) {
		t.Fatal("the partial checksum is already whole: nothing tested")
	}
	if got := cutAll(t, h, p); len(got) != 1 || !bytes.Equal(got[0], s.Bytes()) {
		t.Fatal("single packet changed beyond its checksum")
	}
}

func TestLoadRefusesWhatItCannotCut(t *testing.T) {
	h, p := NewTCP("10.1.0.2:4000", "10.9.0.1:80", 5, Pattern(3000)).Super(1000)
	cases := map[string]func(*tun.VnetHeader, []byte) []byte{
		"udp offload of tcp": func(h *tun.VnetHeader, p []byte) []byte { h.GSOType = tun.GSOUDPL4; return p },
		"other family":       func(h *tun.VnetHeader, p []byte) []byte { h.GSOType = tun.GSOTCPv6; return p },
		"unknown offload":    func(h *tun.VnetHeader, p []byte) []byte { h.GSOType = 3; return p },
		"no size":            func(h *tun.VnetHeader, p []byte) []byte { h.GSOSize = 0; return p },
		"fragment":           func(_ *tun.VnetHeader, p []byte) []byte { p[6] = 0x20; return p },
		"short TCP header":   func(_ *tun.VnetHeader, p []byte) []byte { p[32] = 0x10; return p },
		"header past end":    func(_ *tun.VnetHeader, p []byte) []byte { p[3], p[2] = 50, 0; return p },
		"cut":                func(_ *tun.VnetHeader, p []byte) []byte { return p[:100] },
		"checksum past end": func(h *tun.VnetHeader, p []byte) []byte {
			h.GSOType, h.CsumStart = 0, 0xffff
			return p
		},
		"version": func(_ *tun.VnetHeader, p []byte) []byte { p[0] = 0x55; return p },
	}
	for name, damage := range cases {
		hh, pp := h, append([]byte(nil), p...)
		pp = damage(&hh, pp)
		var r run
		if reason := r.load(hh, pp); reason == Pass {
			t.Errorf("%s: accepted", name)
		}
	}
}

// FuzzLoad feeds the offload header and packet as the kernel would give them:
// whatever loads can be cut whole, and adds up (I11).
func FuzzLoad(f *testing.F) {
	for _, ends := range flows() {
		h, p := NewTCP(ends[0], ends[1], 5, Pattern(300)).Super(100)
		b := make([]byte, tun.HeaderLen)
		h.Encode(b)
		f.Add(b, p)
	}
	f.Fuzz(func(t *testing.T, header, p []byte) {
		if len(header) < tun.HeaderLen {
			return
		}
		var r run
		if r.load(tun.Decode(header), p) != Pass {
			return
		}
		dst := make([]byte, tun.MaxPacket+1)
		n, bytes, want := r.left(), 0, r.bytes(r.left())
		for range n {
			bytes += r.cut(dst)
		}
		if r.left() != 0 || bytes != want {
			t.Fatalf("%d left, %d bytes of %d", r.left(), bytes, want)
		}
	})
}

func BenchmarkSum1400(b *testing.B) {
	p := Pattern(1400)
	b.SetBytes(1400)
	for b.Loop() {
		sum(p, 1)
	}
}

func BenchmarkSumPlainGo1400(b *testing.B) {
	p := Pattern(1400)
	b.SetBytes(1400)
	for b.Loop() {
		sumWords(p, 1)
	}
}

func BenchmarkSegment64K(b *testing.B) {
	h, p := NewTCP("10.1.0.2:4000", "10.9.0.1:80", 5, Pattern(64000)).Super(1360)
	dst := make([]byte, 2000)
	b.SetBytes(int64(len(p)))
	var r run
	for b.Loop() {
		r.load(h, p)
		for r.left() > 0 {
			r.cut(dst)
		}
	}
}
