package probe

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// TestParkedGolden holds the wire format: N and N-1 must understand each other.
func TestParkedGolden(t *testing.T) {
	asked := AskParked(7, 0x0102030405060708, 0x1112131415161718)
	if got := hex.EncodeToString(asked); got != "0b"+"00000007"+"0102030405060708"+"1112131415161718" {
		t.Errorf("probe: %s", got)
	}
	reply, mark, ok := AnswerParked(asked, PathGood, 127, 2500*time.Millisecond)
	if got := hex.EncodeToString(reply); !ok || mark != 0x1112131415161718 || got != "0c"+"00000007"+"0102030405060708"+"01"+"7f"+"0003" {
		t.Errorf("answer: %s, mark %x, %v", got, mark, ok)
	}
	if r, age, ok := ParseWord(reply); !ok || age != 3*time.Second || r != (Reply{7, 0x0102030405060708, PathGood, 127}) {
		t.Errorf("%+v, %v, %v", r, age, ok)
	}
}

// TestWordHasAnAge: none is younger than it is, and one too old to be told counts as none.
func TestWordHasAnAge(t *testing.T) {
	for said, read := range map[time.Duration]time.Duration{-time.Second: 0, 0: 0, 1: time.Second, time.Hour: time.Hour, NoWord: NoWord, 100 * time.Hour: NoWord} {
		reply, _, _ := AnswerParked(AskParked(1, 0, 1), PathGood, 0, said)
		if _, age, ok := ParseWord(reply); !ok || age != read {
			t.Errorf("%v was read as %v, %v", said, age, ok)
		}
	}
}

// TestParkedIsApart: what one kind of probe says is no answer to another, and no mark is
// no probe of who is parked.
func TestParkedIsApart(t *testing.T) {
	asked := AskParked(1, 0, 1)
	word, _, _ := AnswerParked(asked, PathGood, 0, 0)
	reply, _ := Answer(Ask(1, 0), PathGood, 0)
	for _, b := range [][]byte{nil, Ask(1, 0), reply, word, asked[:len(asked)-1], append(bytes.Clone(asked), 0), AskParked(1, 0, 0)} {
		if _, _, ok := AnswerParked(b, PathGood, 0, 0); ok {
			t.Errorf("%x is answered", b)
		}
	}
	for _, b := range [][]byte{nil, asked, reply, word[:len(word)-1], append(bytes.Clone(word), 0)} {
		if _, _, ok := ParseWord(b); ok {
			t.Errorf("%x is a word", b)
		}
	}
	if _, ok := Answer(asked, PathGood, 0); ok {
		t.Error("a plain answer to a parked client")
	}
	word[lenProbe] = byte(PathLost) + 1
	if _, _, ok := ParseWord(word); ok {
		t.Error("an unknown verdict is taken")
	}
}

// TestLeaving holds the wire format, and that nothing else is read as that.
func TestLeaving(t *testing.T) {
	at := []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:6484"), netip.MustParseAddrPort("[2001:db8::1]:443")}
	said := Leaving(at)
	if got := hex.EncodeToString(said); got != "0e"+"00000000000000000000ffffc0000201"+"1954"+"20010db8000000000000000000000001"+"01bb" {
		t.Errorf("said: %s", got)
	}
	for n := 1; n <= MaxLeaving; n++ {
		if got, ok := ParseLeaving(Leaving(at[:n])); !ok || !slices.Equal(got, at[:n]) {
			t.Errorf("%v was read as %v, %v", at[:n], got, ok)
		}
	}
	if got, ok := ParseLeaving(Leaving(append(at, at...))); !ok || len(got) != MaxLeaving {
		t.Errorf("more than a gateway has: %v", got)
	}
	for _, b := range [][]byte{nil, {KindLeaving}, {KindCall}, said[:len(said)-1], append(bytes.Clone(said), said[1:]...), AskParked(1, 0, 1)} {
		if got, ok := ParseLeaving(b); ok {
			t.Errorf("%x was read as %v", b, got)
		}
	}
}
