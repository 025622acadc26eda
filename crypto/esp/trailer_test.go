package esp

import (
	"bytes"
	"testing"
)

// sealPlain seals plain as it is, trailer included: what a holder of the key
// who is no friend could send.
func sealPlain(out *Outbound, plain []byte, counter uint64) []byte {
	frame := make([]byte, PayloadOffset+len(plain)+icvSize)
	putHeader(frame, out.spi, uint32(counter), counter)
	copy(frame[PayloadOffset:], plain)
	out.tr.seal(frame)
	return frame
}

func TestPadding(t *testing.T) {
	out, in := testPair(t)
	long := make([]byte, 258)
	putTrailer(long[:258-1], 0, NextIPv4) // 255 bytes of padding, one byte short of a boundary
	for i, c := range []struct {
		name  string
		plain []byte
		want  error
	}{
		{"none", []byte{1, 2, 0, 4}, nil},
		{"minimal", []byte{9, 1, 1, 4}, nil},
		{"more than needed", []byte{9, 8, 1, 2, 3, 4, 4, 4}, nil},
		{"whole content", []byte{1, 2, 2, 4}, nil},
		{"longer than the content", []byte{1, 2, 3, 4}, ErrPadding},
		{"far longer", []byte{1, 2, 255, 4}, ErrPadding},
		{"wrong bytes", []byte{9, 2, 1, 4}, ErrPadding},
		{"wrong order", []byte{2, 1, 2, 4}, ErrPadding},
		{"zero bytes", []byte{0, 0, 2, 4}, ErrPadding},
		{"off the boundary", []byte{1, 2, 3, 0, 4}, ErrPadding},
		{"long, off the boundary", long[:257], ErrPadding},
	} {
		counter := uint64(i) + 1
		frame := sealPlain(out, c.plain, counter)
		payload, _, advanced, err := in.Open(bytes.Clone(frame))
		if err != c.want || advanced != (err == nil) || (err != nil && payload != nil) {
			t.Errorf("%s: %v, advanced %v, want %v", c.name, err, advanced, c.want)
		}
		if err := openErr(in, frame); err != ErrReplay {
			t.Errorf("%s: an authenticated frame was accepted again: %v", c.name, err)
		}
	}
}

func TestLongestPadding(t *testing.T) {
	plain := make([]byte, 260)
	copy(plain, "abc")
	putTrailer(plain, 3, NextIPv6)
	payload, next, err := cutTrailer(plain)
	if err != nil || string(payload) != "abc" || next != NextIPv6 || plain[258] != 255 {
		t.Fatalf("%q, %d, %v", payload, next, err)
	}
}

// FuzzOpen gives Open whatever bytes, first as a frame of a stranger, then as
// the content that a holder of the key sealed. What opens and is minimally
// padded seals again to the same bytes.
func FuzzOpen(f *testing.F) {
	for _, v := range readVectors(f, "testdata/golden.txt") {
		f.Add(v.bytes(f, "packet"), v.number(f, "counter"))
	}
	f.Add([]byte{}, uint64(0))
	f.Add([]byte{1, 2, 2, 4}, uint64(1))
	f.Add([]byte{9, 8, 1, 2, 3, 4, 4, 59}, uint64(1<<30))
	key := testKey(f)
	f.Fuzz(func(t *testing.T, data []byte, counter uint64) {
		out, in := pair(t, testSPI, key, DefaultLimits(), nil)
		if err := openErr(in, data); err == nil || in.window.Top() != 0 {
			t.Fatalf("a stranger's frame: %v, window at %d", err, in.window.Top())
		}
		frame := sealPlain(out, data, counter)
		payload, next, advanced, err := in.Open(bytes.Clone(frame))
		if err != nil {
			return
		}
		if !advanced || in.window.Top() != counter {
			t.Fatalf("window at %d after counter %d", in.window.Top(), counter)
		}
		if SealedLen(len(payload)) != len(frame) {
			return // more padding than Seal uses
		}
		if again := sealFrame(out, payload, next, counter); !bytes.Equal(again, frame) {
			t.Fatalf("sealed again\n%x, want\n%x", again, frame)
		}
	})
}
