package mka

import (
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/meshcrypt/meshcrypt/crypto/esp"
)

const goldenFile = "testdata/golden.hex"

// TestGolden holds the wire format and the key schedule to bytes written down
// once. Everything but the KEM's coins comes of a fixed reader; those are in
// the recorded accepts, so the agent's side is replayed whole: two agreements,
// ending in a sealed frame each way.
func TestGolden(t *testing.T) {
	if *rewrite {
		must(t, os.WriteFile(goldenFile, []byte(recordGolden(t)), 0o644))
	}
	g := readGolden(t)
	s := newScene(t)
	for name, got := range map[string][]byte{"hello": s.hello, "prekey": s.prekey, "grant": s.signed} {
		check(t, name, got, g[name])
	}
	must(t, s.newAgent())
	confirm, keys, err := s.agent.Accept(g["accept"])
	must(t, err)
	check(t, "confirm", confirm, g["confirm"])
	checkFrames(t, g, "slice", *keys)
	offer := s.offerParts(2)
	for i, p := range offer {
		check(t, "offer part", p, g[fmt.Sprintf("offer-%d", i)])
	}
	confirm, keys = s.acceptParts([][]byte{g["answer-0"], g["answer-1"]})
	check(t, "rekey confirm", confirm, g["rekey-confirm"])
	checkFrames(t, g, "rekey", *keys)
}

// recordGolden plays the scene of TestGolden with the client's part live. The
// scene's reader serves prekeys in the same order as there.
func recordGolden(t *testing.T) string {
	s := newScene(t)
	must(t, s.newAgent())
	coins := newScene(t).random // the client's nonces must not take from the agent's reader
	var err error
	s.client, s.acceptData, _, err = NewClient(coins, s.session, s.signed, s.arbiter.Public(), s.prekey, s.given(), s.hello, s.spiC)
	must(t, err)
	confirm, keys, err := s.agent.Accept(s.acceptData)
	must(t, err)
	must(t, s.client.Confirm(confirm))
	var b strings.Builder
	line := func(name string, v []byte) { fmt.Fprintf(&b, "%s %x\n", name, v) }
	line("hello", s.hello)
	line("prekey", s.prekey)
	line("grant", s.signed)
	line("accept", s.acceptData)
	line("confirm", confirm)
	lineFrames(line, t, "slice", *keys)
	offer := s.offerParts(2)
	s.random = coins
	answer, clientKeys := s.answerParts(offer, 0x2000)
	confirm, keys = s.acceptParts(answer)
	agree(t, *keys, *clientKeys)
	for i := range offer {
		line(fmt.Sprintf("offer-%d", i), offer[i])
		line(fmt.Sprintf("answer-%d", i), answer[i])
	}
	line("rekey-confirm", confirm)
	lineFrames(line, t, "rekey", *keys)
	return b.String()
}

// firstFrame is counter 1 of an SA over a fixed payload: it depends on every
// bit of the key and salt without showing them.
func firstFrame(t *testing.T, spi uint32, k esp.Key) []byte {
	t.Helper()
	out, err := esp.NewOutbound(spi, k, esp.DefaultLimits(), nil)
	must(t, err)
	return sealFirst(t, out, "golden")
}

func lineFrames(line func(string, []byte), t *testing.T, name string, k Keys) {
	t.Helper()
	line(name+"-up", firstFrame(t, k.SPIIn, k.In))
	line(name+"-down", firstFrame(t, k.SPIOut, k.Out))
}

func checkFrames(t *testing.T, g map[string][]byte, name string, k Keys) {
	t.Helper()
	lineFrames(func(name string, frame []byte) { check(t, name, frame, g[name]) }, t, name, k)
}

func readGolden(t testing.TB) map[string][]byte {
	t.Helper()
	text, err := os.ReadFile(goldenFile)
	must(t, err)
	g := map[string][]byte{}
	for line := range strings.Lines(string(text)) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), " ")
		b, err := hex.DecodeString(value)
		if !ok || err != nil {
			t.Fatalf("%s: %q", goldenFile, line)
		}
		g[name] = b
	}
	return g
}

func check(t *testing.T, name string, got, want []byte) {
	t.Helper()
	if string(got) != string(want) {
		t.Errorf("%s is\n%x, want\n%x", name, got, want)
	}
}
