package esp

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

const testSPI = uint32(7<<20 | 42)

func testMaterial() []byte { return materialOf(AES256GCM) }

func materialOf(s Suite) []byte {
	material := make([]byte, s.MaterialSize())
	for i := range material {
		material[i] = byte(0xa0 ^ i*7)
	}
	return material
}

func testKey(t testing.TB) Key {
	t.Helper()
	k, err := NewKey(AES256GCM, testMaterial())
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func pair(t testing.TB, spi uint32, k Key, l Limits, led Ledger) (*Outbound, *Inbound) {
	t.Helper()
	out, err := NewOutbound(spi, k, l, led)
	if err != nil {
		t.Fatal(err)
	}
	in, err := NewInbound(spi, k, l)
	if err != nil {
		t.Fatal(err)
	}
	return out, in
}

func testPair(t testing.TB) (*Outbound, *Inbound) {
	t.Helper()
	return suitePair(t, AES256GCM)
}

func suitePair(t testing.TB, s Suite) (*Outbound, *Inbound) {
	t.Helper()
	k, err := NewKey(s, materialOf(s))
	if err != nil {
		t.Fatal(err)
	}
	return pair(t, testSPI, k, DefaultLimits(), nil)
}

func sealFrame(out *Outbound, payload []byte, next byte, counter uint64) []byte {
	frame := make([]byte, SealedLen(len(payload)))
	copy(frame[PayloadOffset:], payload)
	return out.Seal(frame, len(payload), next, counter)
}

func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*31 + n)
	}
	return b
}

func TestSealOpenEveryLength(t *testing.T) {
	out, in := testPair(t)
	if out.SPI() != testSPI || in.SPI() != testSPI {
		t.Fatal("SPI lost")
	}
	for n := range 300 {
		first, err := out.Reserve(1, n)
		if err != nil || first != uint64(n)+1 {
			t.Fatalf("Reserve = %d, %v", first, err)
		}
		frame := sealFrame(out, pattern(n), NextIPv4, first)
		if extra := len(frame) - n; len(frame)%4 != 0 || extra > MaxOverhead || len(frame) < MinFrame {
			t.Fatalf("frame of %d bytes for %d", len(frame), n)
		}
		if spi, ok := ParseSPI(frame); !ok || spi != testSPI {
			t.Fatalf("ParseSPI = %x, %v", spi, ok)
		}
		payload, next, advanced, err := in.Open(frame)
		if err != nil || next != NextIPv4 || !advanced || !bytes.Equal(payload, pattern(n)) {
			t.Fatalf("%d bytes: %v, next %d, advanced %v", n, err, next, advanced)
		}
		if cap(payload) != n {
			t.Fatalf("appending to the payload would write into the trailer: cap %d", cap(payload))
		}
	}
	if SealedLen(2)-2 != MaxOverhead-3 || SealedLen(3)-3 != MaxOverhead || SealedLen(0) != MinFrame {
		t.Fatal("MaxOverhead or MinFrame is not tight")
	}
}

func TestSealLeavesTheNextSegmentAlone(t *testing.T) {
	out, _ := testPair(t)
	slab := bytes.Repeat([]byte{0xee}, 400)
	frame := out.Seal(slab[:0], 101, NextIPv4, 1)
	if &frame[0] != &slab[0] || len(frame) != SealedLen(101) {
		t.Fatal("not sealed in place")
	}
	if !bytes.Equal(slab[len(frame):], bytes.Repeat([]byte{0xee}, 400-len(frame))) {
		t.Fatal("wrote behind the frame")
	}
}

func TestSealPanics(t *testing.T) {
	out, _ := testPair(t)
	for name, seal := range map[string]func(){
		"no room":         func() { out.Seal(make([]byte, SealedLen(10)-1), 10, NextIPv4, 1) },
		"negative":        func() { out.Seal(make([]byte, 100), -1, NextIPv4, 1) },
		"counter zero":    func() { out.Seal(make([]byte, 100), 1, NextIPv4, 0) },
		"counter past":    func() { out.Seal(make([]byte, 100), 1, NextIPv4, MaxHardPackets+1) },
		"zero packets":    func() { out.Reserve(0, 1) },
		"many packets":    func() { out.Reserve(MaxReservePackets+1, 1) },
		"negative bytes":  func() { out.Reserve(1, -1) },
		"many bytes":      func() { out.Reserve(1, MaxReserveBytes+1) },
		"index too large": func() { MakeSPI(identity.MaxIndex+1, 1) },
		"local too large": func() { MakeSPI(1, MaxLocal+1) },
	} {
		func() {
			defer func() {
				if text := fmt.Sprint(recover()); !bytes.HasPrefix([]byte(text), []byte("esp: ")) {
					t.Errorf("%s: panic %q", name, text)
				}
			}()
			seal()
		}()
	}
}

func TestConstructors(t *testing.T) {
	k, l := testKey(t), DefaultLimits()
	bad := func(change func(*Limits)) Limits { c := l; change(&c); return c }
	for _, c := range []struct {
		spi  uint32
		key  Key
		l    Limits
		want error
	}{
		{testSPI, k, l, nil},
		{minSPI, k, l, nil},
		{0, k, l, ErrSPI},
		{minSPI - 1, k, l, ErrSPI},
		{testSPI, Key{}, l, ErrSuite},
		{testSPI, k, Limits{}, ErrLimits},
		{testSPI, k, bad(func(l *Limits) { l.HardPackets = MaxHardPackets }), nil},
		{testSPI, k, bad(func(l *Limits) { l.HardPackets = MaxHardPackets + 1 }), ErrLimits},
		{testSPI, k, bad(func(l *Limits) { l.HardPackets = l.SoftPackets - 1 }), ErrLimits},
		{testSPI, k, bad(func(l *Limits) { l.SoftPackets = 0 }), ErrLimits},
		{testSPI, k, bad(func(l *Limits) { l.HardBytes = MaxHardBytes }), nil},
		{testSPI, k, bad(func(l *Limits) { l.HardBytes = MaxHardBytes + 1 }), ErrLimits},
		{testSPI, k, bad(func(l *Limits) { l.HardBytes = l.SoftBytes - 1 }), ErrLimits},
		{testSPI, k, bad(func(l *Limits) { l.SoftBytes = 0 }), ErrLimits},
	} {
		if _, err := NewOutbound(c.spi, c.key, c.l, nil); !errors.Is(err, c.want) {
			t.Errorf("NewOutbound(%d, %+v) = %v, want %v", c.spi, c.l, err, c.want)
		}
		if _, err := NewInbound(c.spi, c.key, c.l); !errors.Is(err, c.want) {
			t.Errorf("NewInbound(%d, %+v) = %v, want %v", c.spi, c.l, err, c.want)
		}
	}
}

func TestSPI(t *testing.T) {
	for _, c := range []struct {
		ix    identity.Index
		local uint32
		spi   uint32
	}{
		{0, 256, 256}, {1, 0, 1 << 20}, {7, 42, testSPI}, {identity.MaxIndex, MaxLocal, 0xffffffff},
	} {
		if spi := MakeSPI(c.ix, c.local); spi != c.spi || Index(spi) != c.ix {
			t.Errorf("MakeSPI(%d, %d) = %x, its index %d", c.ix, c.local, spi, Index(spi))
		}
	}
	frame := make([]byte, MinFrame)
	for _, spi := range []uint32{0, 1, minSPI - 1} {
		putHeader(frame, spi, 1, 1)
		if _, ok := ParseSPI(frame); ok {
			t.Errorf("reserved SPI %d parsed", spi)
		}
	}
	putHeader(frame, minSPI, 1, 1)
	if _, ok := ParseSPI(frame); !ok {
		t.Error("first free SPI refused")
	}
	if _, ok := ParseSPI(frame[:MinFrame-1]); ok {
		t.Error("short datagram parsed")
	}
}

func FuzzParseSPI(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0xff})
	f.Add(bytes.Repeat([]byte{1}, MinFrame))
	f.Fuzz(func(t *testing.T, datagram []byte) {
		spi, ok := ParseSPI(datagram)
		if !ok {
			return
		}
		again := make([]byte, 16)
		putHeader(again, MakeSPI(Index(spi), spi&MaxLocal), 0, 0)
		if !bytes.Equal(again[:spiSize], datagram[:spiSize]) {
			t.Fatalf("SPI %08x comes back as %x", spi, again[:spiSize])
		}
	})
}
