package probe

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"net/netip"
	"testing"
	"time"
)

// TestRTT follows RFC 6298 2.2 and 2.3, and the rule of silence of design 8.
func TestRTT(t *testing.T) {
	const ms = time.Millisecond
	var r RTT
	if r.Smoothed() != 0 || r.Silence() != 300*ms {
		t.Errorf("before the first measurement: %v, %v", r.Smoothed(), r.Silence())
	}
	r.Observe(-ms)
	if r.Smoothed() != 0 {
		t.Error("a negative sample counts")
	}
	for _, c := range []struct{ sample, smoothed, silence time.Duration }{
		{80 * ms, 80 * ms, 340 * ms},                      // var 40
		{80 * ms, 80 * ms, 300 * ms},                      // var 30: 80 + 120 + 100
		{160 * ms, 90 * ms, 360*ms + 0*ms},                // var 42.5: 90 + 170 + 100
		{90 * ms, 90 * ms, 317*ms + 500*time.Microsecond}, // var 31.875
	} {
		r.Observe(c.sample)
		if r.Smoothed() != c.smoothed || r.Silence() != c.silence {
			t.Errorf("after %v: %v, silent after %v; want %v, %v", c.sample, r.Smoothed(), r.Silence(), c.smoothed, c.silence)
		}
	}
}

func TestProbeAndReply(t *testing.T) {
	reply, ok := Answer(Ask(7, time.Minute), PathBroken, LoadOf(0.5))
	if !ok {
		t.Fatal("a probe is not answered")
	}
	r, ok := ParseReply(reply)
	if !ok || r.Sequence != 7 || r.Sent != time.Minute || r.Verdict != PathBroken || r.Load != 127 {
		t.Errorf("%+v, %v", r, ok)
	}
	if _, ok := Answer(reply, PathGood, 0); ok {
		t.Error("a reply is answered: two agents could go on for ever")
	}
	reply[lenProbe] = byte(PathLost) + 1
	if _, ok := ParseReply(reply); ok {
		t.Error("an unknown verdict is taken")
	}
	for verdict, want := range map[Verdict]string{PathUnknown: "untested", PathGood: "ok", PathBroken: "broken", PathLost: "lost", 9: "untested"} {
		if verdict.String() != want {
			t.Errorf("verdict %d is %q", verdict, verdict)
		}
	}
}

func TestLoad(t *testing.T) {
	for share, want := range map[float64]Load{-1: 0, 0: 0, 0.5: 127, 1: 255, 7: 255, math.Inf(1): 255} {
		if got := LoadOf(share); got != want {
			t.Errorf("%v is %d, want %d", share, got, want)
		}
	}
	if got := LoadOf(math.NaN()); got != 255 {
		t.Errorf("no number is %d: it must count as full", got)
	}
	if Load(255).Share() != 1 || Load(0).Share() != 0 {
		t.Error("the ends are not 0 and 1")
	}
}

func TestVerdictBody(t *testing.T) {
	number, epoch, ok := ParseVerdict(VerdictBody(3, 1<<30))
	if !ok || number != 3 || epoch != 1<<30 {
		t.Errorf("%d %d %v", number, epoch, ok)
	}
	for _, size := range []int{0, 4, 6} {
		if _, _, ok := ParseVerdict(make([]byte, size)); ok {
			t.Errorf("%d bytes are a verdict", size)
		}
	}
}

func TestNodeDatagram(t *testing.T) {
	key := []byte("a key of the term")
	for _, n := range []Node{
		{Type: TypeNode, From: 1, Sequence: 1}, {Type: TypePath, From: 4095, Sequence: math.MaxUint64},
		{Type: TypeReply, From: 77, Asked: TypePath, Load: 200, Sequence: 9}, {Type: TypeNode, From: 2, Size: NodeLen + 1},
		{Type: TypeReply, From: 3, Asked: TypeNode, Size: 1472},
	} {
		b := n.Marshal(key)
		if got, ok := ParseNode(b, key); !ok || got != n || len(b) != max(NodeLen, n.Size) {
			t.Errorf("%+v came back as %+v, %v", n, got, ok)
		}
		for i := range b {
			b[i]++
			if _, ok := ParseNode(b, key); ok {
				t.Errorf("byte %d does not count", i)
			}
			b[i]--
		}
		if _, ok := ParseNode(b, []byte("the key before")); ok {
			t.Error("another term's key is good")
		}
	}
	b := Node{Type: TypeNode, From: 1, Sequence: 1}.Marshal(key)
	if beside := testing.AllocsPerRun(10, func() { mac(key, b) }); testing.AllocsPerRun(10, func() { ParseNode(b, key) }) > beside {
		t.Error("to read one takes memory beside what its MAC does: nodes at rest hear some all the time")
	}
	long := Node{Type: TypeNode, Size: MaxPadded + 1}.Marshal(key) // I10
	if _, ok := ParseNode(long, key); ok {
		t.Errorf("%d bytes are taken", len(long))
	}
	for _, head := range [][]byte{ // which says another size than it has
		append(Node{Type: TypeNode}.body(nil), 0), Node{Type: TypeNode, Size: 100}.body(nil)[:NodeLen-macLen], append(Node{Type: TypeNode, Size: 100}.body(nil), 0),
	} {
		if _, ok := ParseNode(append(head, mac(key, head)...), key); ok {
			t.Errorf("%d bytes that say another size are taken", len(head))
		}
	}
	if _, ok := ParseNode(Node{Type: 3}.Marshal(key), key); ok {
		t.Error("an unknown type is taken")
	}
}

func TestPacket(t *testing.T) {
	from, to := netip.MustParseAddrPort("10.77.0.1:6486"), netip.MustParseAddrPort("10.0.0.2:6486")
	b, err := Packet(from, to, []byte("hello"))
	if err != nil || len(b) != 33 || string(b[28:]) != "hello" {
		t.Fatalf("%x, %v", b, err)
	}
	if binary.BigEndian.Uint16(b[2:]) != 33 || binary.BigEndian.Uint16(b[24:]) != 13 || fold(sum(b[:20])) != 0xffff {
		t.Errorf("lengths or checksum are wrong: %x", b)
	}
	six := netip.MustParseAddrPort("[2001:db8::1]:1")
	for _, pair := range [][2]netip.AddrPort{{six, to}, {from, six}} {
		if _, err := Packet(pair[0], pair[1], nil); !errors.Is(err, ErrFamily) {
			t.Errorf("%v: %v", pair, err)
		}
	}
}

// The checksum of IPv6 is made over a pseudo header (RFC 8200, 8.1).
func TestPacketIPv6(t *testing.T) {
	from, to := netip.MustParseAddrPort("[fd77::1]:6486"), netip.MustParseAddrPort("[fd20::2]:6486")
	for _, payload := range []string{"hello", "even", ""} {
		b, err := Packet(from, to, []byte(payload))
		if err != nil || len(b) != 48+len(payload) || string(b[48:]) != payload {
			t.Fatalf("%x, %v", b, err)
		}
		if b[0] != 0x60 || b[6] != 17 || int(binary.BigEndian.Uint16(b[4:])) != 8+len(payload) {
			t.Errorf("the header is wrong: %x", b)
		}
		if got := fold(sum(b[8:]) + 17 + uint32(8+len(payload))); got != 0xffff {
			t.Errorf("%q: the checksum adds up to %x", payload, got)
		}
	}
}

// FuzzNode: what is understood is written the same, byte for byte. The MAC is
// made here, for a fuzzer cannot.
func FuzzNode(f *testing.F) {
	key := []byte("a key")
	f.Add(Node{Type: TypeReply, From: 3, Asked: TypeNode, Load: 7, Sequence: 5}.Marshal(key)[:NodeLen-macLen])
	f.Add(make([]byte, NodeLen-macLen))
	f.Add(Node{Type: TypeNode, From: 3, Size: 77}.body(nil))
	f.Fuzz(func(t *testing.T, head []byte) {
		ParseNode(head, key)
		b := append(append([]byte(nil), head...), mac(key, head)...)
		if n, ok := ParseNode(b, key); ok && !bytes.Equal(n.Marshal(key), b) {
			t.Fatalf("%x came back as %x", b, n.Marshal(key))
		}
	})
}

// FuzzControl: no control message inside an SA panics, and each has one text.
func FuzzControl(f *testing.F) {
	f.Add(Ask(1, time.Second))
	reply, _ := Answer(Ask(1, time.Second), PathGood, 9)
	f.Add(reply)
	f.Add(VerdictBody(1, 2))
	challenge := Seen(Token{1, 17: 18})
	echo, _ := EchoSeen(challenge)
	f.Add(challenge)
	f.Add(echo)
	word, _, _ := AnswerParked(AskParked(1, time.Second, 3), PathGood, 9, time.Minute)
	f.Add(AskParked(1, time.Second, 3))
	f.Add(word)
	f.Add(Leaving([]netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:6484"), netip.MustParseAddrPort("[2001:db8::1]:443")}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if at, ok := ParseLeaving(b); ok && !bytes.Equal(Leaving(at), b) {
			t.Fatalf("%x came back as %x", b, Leaving(at))
		}
		if reply, ok := Answer(b, PathGood, 9); ok {
			if r, ok := ParseReply(reply); !ok || !bytes.Equal(Ask(r.Sequence, r.Sent), b) {
				t.Fatalf("%x was answered with %x", b, reply)
			}
		}
		if r, ok := ParseReply(b); ok {
			if again, ok := Answer(Ask(r.Sequence, r.Sent), r.Verdict, r.Load); !ok || !bytes.Equal(again, b) {
				t.Fatalf("%x came back as %x", b, again)
			}
		}
		if r, age, ok := ParseWord(b); ok {
			if again, _, ok := AnswerParked(AskParked(r.Sequence, r.Sent, 1), r.Verdict, r.Load, age); !ok || !bytes.Equal(again, b) {
				t.Fatalf("%x came back as %x", b, again)
			}
		}
		if word, mark, ok := AnswerParked(b, PathGood, 9, 0); ok {
			if r, _, ok := ParseWord(word); !ok || !bytes.Equal(AskParked(r.Sequence, r.Sent, mark), b) {
				t.Fatalf("%x was answered with %x", b, word)
			}
		}
		if number, epoch, ok := ParseVerdict(b); ok && !bytes.Equal(VerdictBody(number, epoch), b) {
			t.Fatalf("%x", b)
		}
		if token, ok := ParseSeenEcho(b); ok {
			if again, ok := EchoSeen(Seen(token)); !ok || !bytes.Equal(again, b) {
				t.Fatalf("%x came back as %x", b, again)
			}
		}
	})
}

// TestSeen: a question comes back with the token that was in it, also one of a
// build that put an address there.
func TestSeen(t *testing.T) {
	for _, token := range []Token{{1, 2, 17: 3}, {10: 0xff, 11: 0xff, 12: 198, 13: 51, 14: 100, 15: 7, 16: 0x9c, 17: 0x40}} {
		echo, ok := EchoSeen(Seen(token))
		if got, read := ParseSeenEcho(echo); !ok || !read || got != token {
			t.Errorf("%v became %v, %v, %v", token, got, ok, read)
		}
		if _, ok := ParseSeenEcho(Seen(token)); ok {
			t.Error("a question counts as its echo")
		}
		if _, ok := EchoSeen(echo); ok {
			t.Error("an echo is echoed")
		}
		if len(echo) != 19 || echo[0] != 17 || [18]byte(echo[1:]) != token {
			t.Errorf("the echo is %x: no older build reads it", echo)
		}
	}
}

// TestSaysIsUnseenByOlderNodes: what a node says of itself leaves the rest as it
// was, and a build that knows nothing of it reads an answer to a plain probe.
func TestSaysIsUnseenByOlderNodes(t *testing.T) {
	key := []byte("0123456789abcdef0123456789abcdef")
	for _, says := range []Says{0, SaysAiling, SaysAiling | SaysBroken, SaysTaken} {
		n := Node{Type: TypeReply, From: 3, Asked: TypeNode, Says: says, Load: 7, Sequence: 9}
		b := n.Marshal(key)
		if got, ok := ParseNode(b, key); !ok || got != n {
			t.Errorf("%+v, %v", got, ok)
		}
		if b[headerLen] == TypePath {
			t.Errorf("says %x looks like the answer to a path test", says)
		}
	}
}
