package probe

import (
	"bytes"
	"encoding/hex"
	"testing"
)

func verdict() SliceVerdict {
	return SliceVerdict{Over: 0x00300007, Session: [16]byte{1, 2, 3, 15: 16}, Number: 4, Epoch: 0x01020304}
}

// TestSliceVerdictGolden holds the wire format: N and N-1 must understand
// each other.
func TestSliceVerdictGolden(t *testing.T) {
	const golden = "00000000" + "07" + "01" + "0000" + "00300007" + // marker, type, hops, zero, SPI
		"01020300000000000000000000000010" + "04" + "000000" + "01020304" + // session, number, zero, epoch
		"e29a14669eae2abd575d1a8b89a369cb" // HMAC-SHA-256, its first half
	if got := hex.EncodeToString(verdict().Marshal([]byte("a key of the term"))); got != golden {
		t.Errorf("wire format changed:\n%s", got)
	}
}

func TestSliceVerdict(t *testing.T) {
	key := []byte("a key of the term")
	b := verdict().Marshal(key)
	if got, ok := ParseSliceVerdict(b, key); !ok || got != verdict() || len(b) != SliceVerdictLen {
		t.Errorf("came back as %+v, %v", got, ok)
	}
	for i := range b {
		b[i]++
		if _, ok := ParseSliceVerdict(b, key); ok {
			t.Errorf("byte %d does not count", i)
		}
		b[i]--
	}
	for _, short := range [][]byte{nil, b[:len(b)-1], append(bytes.Clone(b), 0)} {
		if _, ok := ParseSliceVerdict(short, key); ok {
			t.Errorf("%d bytes are a verdict", len(short))
		}
	}
	if _, ok := ParseSliceVerdict(b, []byte("the key before")); ok {
		t.Error("another term's key is good")
	}
	if _, ok := ParseNode(b, key); ok {
		t.Error("a verdict is a probe")
	}
}

// FuzzSliceVerdict: what is understood is written the same, byte for byte. The
// MAC is made here, for a fuzzer cannot.
func FuzzSliceVerdict(f *testing.F) {
	key := []byte("a key")
	f.Add(verdict().Marshal(key)[:SliceVerdictLen-macLen])
	f.Add(make([]byte, SliceVerdictLen-macLen))
	f.Fuzz(func(t *testing.T, head []byte) {
		ParseSliceVerdict(head, key)
		b := append(bytes.Clone(head), mac(key, head)...)
		if v, ok := ParseSliceVerdict(b, key); ok && !bytes.Equal(v.Marshal(key), b) {
			t.Fatalf("%x came back as %x", b, v.Marshal(key))
		}
	})
}
