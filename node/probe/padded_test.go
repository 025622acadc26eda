package probe

import (
	"bytes"
	"encoding/hex"
	"testing"
)

// TestPaddedGolden holds the wire format: N and N-1 must understand each other.
func TestPaddedGolden(t *testing.T) {
	p := Padded{Size: 16, Token: 0x01020304, MTU: 1438, Limit: 1218}
	const golden = "08" + "00" + "0010" + "01020304" + "059e" + "04c2" + "00000000"
	if got := hex.EncodeToString(p.Marshal(KindPadded)); got != golden {
		t.Errorf("%s, want %s", got, golden)
	}
	if got := p.Marshal(KindPaddedReply); got[0] != 9 || !bytes.Equal(got[1:], p.Marshal(KindPadded)[1:]) {
		t.Errorf("an answer is %x", got)
	}
}

func TestParsePadded(t *testing.T) {
	for _, size := range []int{LenPadded, 1438, MaxPadded} {
		p := Padded{Size: size, Token: 7, MTU: 1280, Limit: 1000}
		if got, ok := ParsePadded(p.Marshal(KindPadded), KindPadded); !ok || got != p {
			t.Errorf("%+v, %v", got, ok)
		}
	}
	good := Padded{Size: 100}.Marshal(KindPadded)
	spoil := func(at int) []byte { b := bytes.Clone(good); b[at]++; return b }
	for name, b := range map[string][]byte{
		"kind": spoil(0), "zero": spoil(1), "size": spoil(3), "padding": spoil(99), "short": good[:LenPadded-1],
		"cut": good[:99], "long": make([]byte, MaxPadded+1), "nothing": nil,
	} {
		if _, ok := ParsePadded(b, KindPadded); ok {
			t.Errorf("wrong %s is taken", name)
		}
	}
}

func FuzzPadded(f *testing.F) {
	f.Add(Padded{Size: LenPadded}.Marshal(KindPadded))
	f.Add(Padded{Size: 100, Token: 1, MTU: 2, Limit: 3}.Marshal(KindPaddedReply))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, kind := range []byte{KindPadded, KindPaddedReply} {
			if p, ok := ParsePadded(b, kind); ok && !bytes.Equal(p.Marshal(kind), b) {
				t.Fatalf("%x came back as %x", b, p.Marshal(kind))
			}
		}
	})
}
