package identity

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func sample(t testing.TB) Key {
	k, err := KeyFromSeed(bytes.Repeat([]byte{7}, SeedSize))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestKeyIsNeverPrinted: not by any verb, nor from inside another value, nor
// by a structured logger.
func TestKeyIsNeverPrinted(t *testing.T) {
	k := sample(t)
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "key", k)
	texts := []string{log.String(), fmt.Sprint(Key{})}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%q", "%d"} {
		texts = append(texts, fmt.Sprintf(verb, k), fmt.Sprintf(verb, &k), fmt.Sprintf(verb, struct{ K Key }{k}))
	}
	for _, text := range texts {
		for _, leak := range []string{"7 7 7", "0x7, 0x7", "070707", "\\a\\a\\a", "BwcHBw"} {
			if bytes.Contains([]byte(text), []byte(leak)) {
				t.Errorf("I1: %q gives the private half away", text)
			}
		}
	}
}

func TestKeySignsUnderItsContext(t *testing.T) {
	k := sample(t)
	sig := k.Sign("ab", []byte("c"))
	p := k.Public()
	if !p.Verify("ab", []byte("c"), sig) || p.ID() != k.ID() {
		t.Fatal("a key does not verify its own signature")
	}
	if p.Verify("a", []byte("bc"), sig) || p.Verify("ab", []byte("d"), sig) || p.Verify("ab", []byte("c"), sig[1:]) {
		t.Error("another context, message or length is good too")
	}
	restored, err := KeyFromSeed(k.Seed())
	if err != nil || restored.ID() != k.ID() {
		t.Errorf("not restored: %v", err)
	}
	if _, err := KeyFromSeed(make([]byte, SeedSize-1)); !errors.Is(err, ErrMalformed) {
		t.Errorf("a short seed: %v", err)
	}
	if _, err := NewKey(bytes.NewReader(nil)); err == nil {
		t.Error("a key without randomness")
	}
}

// TestNodeIDHasOneText: the last character's spare bits count.
func TestNodeIDHasOneText(t *testing.T) {
	id := sample(t).ID()
	text := id.String()
	var back NodeID
	if err := back.UnmarshalText([]byte(text)); err != nil || back != id || len(text) != 52 || id.Short() != text[:8] {
		t.Fatalf("%s came back as %s, %v", text, back, err)
	}
	if appended, err := id.AppendText([]byte("id ")); err != nil || string(appended) != "id "+text {
		t.Errorf("appended as %q, %v", appended, err)
	}
	good := 0
	for _, last := range "abcdefghijklmnopqrstuvwxyz234567" {
		if back.UnmarshalText([]byte(text[:51]+string(last))) == nil {
			good++
		}
	}
	if good != 2 { // one bit of the last character is the identifier's
		t.Errorf("%d texts end differently and are taken", good)
	}
}

// TestContextFitsItsLengthByte: one byte longer, and two labels could give the same
// signed bytes.
func TestContextFitsItsLengthByte(t *testing.T) {
	longest := strings.Repeat("x", 255)
	if n := len(contextual(longest, []byte{1})); n != 257 {
		t.Errorf("%d bytes", n)
	}
	defer func() {
		if recover() == nil {
			t.Error("a label of 256 bytes is signed under")
		}
	}()
	contextual(longest+"x", nil)
}

func FuzzIdentifiers(f *testing.F) {
	f.Add(sample(f).ID().String())
	f.Add(ClusterID{1}.String())
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		var id NodeID
		if id.UnmarshalText([]byte(text)) == nil && id.String() != text {
			t.Errorf("node id %q came back as %q", text, id)
		}
		var c ClusterID
		if c.UnmarshalText([]byte(text)) == nil && c.String() != text {
			t.Errorf("cluster id %q came back as %q", text, c)
		}
		var p PublicKey
		if p.UnmarshalText([]byte(text)) == nil {
			if again, _ := p.MarshalText(); string(again) != text {
				t.Errorf("key %q came back as %q", text, again)
			}
		}
	})
}
