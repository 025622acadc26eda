package mesh_test

import (
	"bytes"
	"compress/lzw"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"runtime"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/mesh"
	"github.com/meshcrypt/meshcrypt/mesh/meshtest"
)

// Numbers of the library's messages, as they stand on the wire.
const (
	wireSuspect  = 3
	wireAlive    = 4
	wireDead     = 5
	wirePushPull = 6
	wireCompress = 9
	wireEncrypt  = 10
	wireLabel    = 244
)

// liar is a member that was taken over: it has the key, and sends what it likes.
type liar struct {
	*testing.T
	host  *meshtest.Host
	key   []byte
	label string
}

func newLiar(t *testing.T, net *meshtest.Network, i int) *liar {
	return &liar{t, net.Host(addr(i)), gossipKey("k"), identity.ClusterID{1}.String()}
}

// sealed is a message as the library seals it, for the label's mesh.
func (l *liar) sealed(message []byte, more ...byte) []byte {
	block, err := aes.NewCipher(l.key)
	if err != nil {
		l.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		l.Fatal(err)
	}
	nonce := make([]byte, gcm.NonceSize())
	rand.Read(nonce)
	return gcm.Seal(append([]byte{1}, nonce...), nonce, message, append(append([]byte(nil), more...), l.label...))
}

func (l *liar) labelled(b []byte) []byte {
	return append(append([]byte{wireLabel, byte(len(l.label))}, l.label...), b...)
}

// say sends one gossip datagram.
func (l *liar) say(to int, message []byte) {
	if _, err := l.host.WriteTo(l.labelled(l.sealed(message)), addr(to).String()); err != nil {
		l.Fatal(err)
	}
}

// stream opens a gossip stream with a sealed message, or what is said to be one.
func (l *liar) stream(to int, message []byte, claim uint32) {
	conn, err := l.host.DialTimeout(addr(to).String(), time.Second)
	if err != nil {
		l.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		l.Fatal(err)
	}
	head := binary.BigEndian.AppendUint32([]byte{wireEncrypt}, claim)
	b := l.labelled(append(head, l.sealed(message, head...)...))
	_, _ = conn.Write(b) // the member may hang up first
}

// pack is msgpack for a map of a message's fields.
func pack(kind byte, fields ...any) []byte {
	b := []byte{kind, 0x80 | byte(len(fields)/2)}
	for _, f := range fields {
		switch v := f.(type) {
		case string:
			b = append(append(b, 0xd9, byte(len(v))), v...)
		case []byte:
			b = binary.BigEndian.AppendUint32(append(b, 0xc6), uint32(len(v)))
			b = append(b, v...)
		case int:
			b = binary.BigEndian.AppendUint32(append(b, 0xce), uint32(v))
		}
	}
	return b
}

// TestLiarWithTheKey: forged deaths, births and names, also with the highest
// incarnation there is, and replayed ones: hints change, members and their
// count do not, and an honest member is soon seen alive again.
func TestLiarWithTheKey(t *testing.T) {
	inBubble(t, func(t *testing.T, net *meshtest.Network) {
		nodes := three(t, net)
		defer closeAll(nodes)
		l := newLiar(t, net, 66)
		believed := 0
		state := func(i int) (s mesh.State) {
			for _, heard := range nodes[0].Hints() {
				if heard.Node == name(i) {
					s = heard.State
				}
			}
			return s
		}
		for _, incarnation := range []int{1, 7, 1 << 30} {
			for _, kind := range []byte{wireDead, wireSuspect} {
				message := pack(kind, "Incarnation", incarnation, "Node", name(2).String(), "From", name(3).String())
				for range 3 { // said, and replayed
					l.say(1, message)
					wait(time.Millisecond)
					if kind == wireDead && state(2) == mesh.Dead {
						believed++
					}
					wait(time.Second)
				}
			}
		}
		if believed == 0 {
			t.Error("no lie was believed, so nothing was attacked")
		}
		stranger := addr(99).Addr().As4()
		for _, who := range []identity.NodeID{name(2), name(9)} { // a conflict of names, and a stranger if the registry knows him
			l.say(1, pack(wireAlive, "Incarnation", 9, "Node", who.String(), "Addr", stranger[:], "Port", 1, "Meta", []byte("x"), "Vsn", []byte{1, 5, 2, 0, 0, 0}))
		}
		l.say(1, pack(wireAlive, "Incarnation", 9, "Node", "../../etc/passwd\n", "Addr", stranger[:], "Port", 1, "Vsn", []byte{1, 5, 2, 0, 0, 0}))
		wait(settle)
		for _, heard := range nodes[0].Hints() {
			if heard.Node == name(2) && (heard.State != mesh.Alive || heard.Address != addr(2)) {
				t.Errorf("an honest member is seen as %+v", heard)
			}
		}
		if n := len(nodes[0].Hints()); n > 4 {
			t.Errorf("%d members of 3 and one claimed", n)
		}
	})
}

// gossipMemory is what one hostile message may cost: a buffer that doubles up to
// 64 MiB, each step twice under the race detector.
const gossipMemory = 320 << 20

// TestLiarWithBombs: lengths that lie, a state of 20 MiB and a message that
// inflates to 64 MiB are refused in bounded memory, and gossip goes on.
func TestLiarWithBombs(t *testing.T) {
	var deflated bytes.Buffer
	w := lzw.NewWriter(&deflated, lzw.LSB, 8)
	zeros := make([]byte, 1<<20)
	for range 64 {
		if _, err := w.Write(zeros); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	bomb := pack(wireCompress, "Algo", 0, "Buf", deflated.Bytes())
	inBubble(t, func(t *testing.T, net *meshtest.Network) {
		nodes := three(t, net)
		defer closeAll(nodes)
		l := newLiar(t, net, 66)
		for what, attack := range map[string]func(){
			"datagram that inflates":   func() { l.say(1, bomb) },
			"stream that inflates":     func() { l.stream(1, bomb, uint32(len(bomb)+29)) },
			"stream of 4 GiB":          func() { l.stream(1, bomb[:100], 1<<32-1) },
			"state of 2^31 nodes":      func() { l.stream(1, pack(wirePushPull, "Nodes", 1<<31, "UserStateLen", 0, "Join", 1), 200) },
			"user state of 2^31 bytes": func() { l.stream(1, pack(wirePushPull, "Nodes", 0, "UserStateLen", 1<<31, "Join", 1), 200) },
			"state of 20 MiB, all strange": func() {
				b := append(pack(wirePushPull, "Nodes", 1, "UserStateLen", 0, "Join", 1), make([]byte, 20<<20)...)
				l.stream(1, b, uint32(len(b)+29))
			},
			"a compound that counts itself": func() { l.say(1, append([]byte{7, 255}, bytes.Repeat([]byte{0xff}, 600)...)) },
			"msgpack that nests":            func() { l.say(1, append([]byte{wireAlive}, bytes.Repeat([]byte{0x81, 0xa1, 'a'}, 20_000)...)) },
			"msgpack of 2^32 entries":       func() { l.say(1, []byte{wireDead, 0xdf, 255, 255, 255, 255}) },
		} {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			attack()
			wait(15 * time.Second)
			runtime.ReadMemStats(&after)
			if cost := int64(after.TotalAlloc) - int64(before.TotalAlloc); cost > gossipMemory {
				t.Errorf("%s: cost %d MiB", what, cost>>20)
			}
		}
		wantMembers(t, nodes[0], "1 alive", "2 alive", "3 alive")
	})
}

// TestStrangerWithoutTheKey: whatever is not sealed under the mesh's key and
// label is dropped, sealed replays of another mesh included.
func TestStrangerWithoutTheKey(t *testing.T) {
	inBubble(t, func(t *testing.T, net *meshtest.Network) {
		nodes := three(t, net)
		defer closeAll(nodes)
		message := pack(wireDead, "Incarnation", 1<<30, "Node", name(2).String(), "From", name(3).String())
		keyless, foreign := newLiar(t, net, 66), newLiar(t, net, 67)
		keyless.key = gossipKey("x")
		foreign.label = identity.ClusterID{2}.String()
		for _, l := range []*liar{keyless, foreign} {
			l.say(1, message)
			l.stream(1, message, uint32(len(message)+29))
		}
		l := newLiar(t, net, 68)
		for _, b := range [][]byte{message, l.labelled(message), l.sealed(message), {wireLabel, 255}, {wireEncrypt}, {}} {
			if _, err := l.host.WriteTo(b, addr(1).String()); err != nil {
				t.Fatal(err)
			}
		}
		wait(time.Second)
		wantMembers(t, nodes[0], "1 alive", "2 alive", "3 alive")
	})
}
