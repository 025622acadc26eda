package esp

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestNewKey(t *testing.T) {
	for _, c := range []struct {
		suite Suite
		size  int
		want  error
	}{
		{AES256GCM, 36, nil}, {AES256GCM, 35, ErrSuite}, {AES256GCM, 37, ErrSuite}, {AES256GCM, 0, ErrSuite},
		{ChaCha20Poly1305, 36, nil}, {ChaCha20Poly1305, 20, ErrSuite}, {AES128GCM, 20, nil}, {AES128GCM, 36, ErrSuite},
		{0, 0, ErrSuite}, {77, 36, ErrSuite},
	} {
		if _, err := NewKey(c.suite, make([]byte, c.size)); !errors.Is(err, c.want) {
			t.Errorf("%v with %d bytes: %v, want %v", c.suite, c.size, err, c.want)
		}
	}
}

func TestKeyCopiesItsMaterial(t *testing.T) {
	material := testMaterial()
	k, err := NewKey(AES256GCM, material)
	if err != nil {
		t.Fatal(err)
	}
	before := k.secret().oracleHash()
	clear(material)
	if k.secret().oracleHash() != before {
		t.Fatal("the caller's buffer is the key")
	}
}

// TestWipe: the material is gone from memory, in every copy of the key; the SA
// made of it goes on.
func TestWipe(t *testing.T) {
	k := testKey(t)
	other, material := k, k.secret().material
	out, err := NewOutbound(300, k, DefaultLimits(), nil)
	if err != nil {
		t.Fatal(err)
	}
	in, err := NewInbound(300, k, DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	k.Wipe()
	if !bytes.Equal(material, make([]byte, len(material))) {
		t.Error("the material is still there")
	}
	if k.Wipe(); !other.Equal(Key{}) || k.Equal(testKey(t)) {
		t.Error("a copy of a wiped key is not empty")
	}
	if _, err := NewOutbound(301, other, DefaultLimits(), nil); !errors.Is(err, ErrSuite) {
		t.Errorf("a wiped key makes an SA: %v", err)
	}
	Key{}.Wipe()
	first, err := out.Reserve(1, 5)
	if err != nil {
		t.Fatal(err)
	}
	frame := make([]byte, SealedLen(5))
	copy(frame[PayloadOffset:], "hello")
	if payload, _, _, err := in.Open(out.Seal(frame, 5, NextDummy, first)); err != nil || string(payload) != "hello" {
		t.Errorf("opened %q, %v", payload, err)
	}
}

func TestKeyEqual(t *testing.T) {
	k := testKey(t)
	if !k.Equal(testKey(t)) || !(Key{}).Equal(Key{}) || k.Equal(Key{}) || (Key{}).Equal(k) {
		t.Fatal("equality wrong")
	}
	for i := range testMaterial() {
		m := testMaterial()
		m[i] ^= 1
		if other, err := NewKey(AES256GCM, m); err != nil || k.Equal(other) {
			t.Fatalf("a key that differs in byte %d: %v", i, err)
		}
	}
}

// I1: nothing that prints or marshals a key, or anything around it, tells it.
func TestKeyIsNeverPrinted(t *testing.T) {
	k := testKey(t)
	out, in := testPair(t)
	type outer struct {
		Exported   Key
		unexported Key
		pointer    *Key
		out        *Outbound
		in         *Inbound
	}
	o := outer{k, k, &k, out, in}
	values := []any{k, &k, o, &o, []Key{k}, []outer{o}, map[string]Key{"k": k}, out, in}
	leaks := leakForms()
	for _, v := range values {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%b", "%c"} {
			checkNoLeak(t, leaks, verb, fmt.Sprintf(verb, v))
		}
	}
	text, err := json.Marshal(outer{Exported: k})
	if err != nil {
		t.Fatal(err)
	}
	checkNoLeak(t, leaks, "json", string(text))
	if fmt.Sprintf("%v %#v", k, k) != redacted+" "+redacted || k.String() != redacted || k.GoString() != redacted {
		t.Error("a key does not say that it is redacted")
	}
}

// leakForms are ways in which three bytes in a row of the material could show.
func leakForms() []string {
	m := testMaterial()
	forms := []string{string(m[:3])}
	for i := 0; i+3 <= len(m); i += 3 {
		w := m[i : i+3]
		forms = append(forms, hex.EncodeToString(w), strings.ToUpper(hex.EncodeToString(w)),
			fmt.Sprintf("%d %d %d", w[0], w[1], w[2]), fmt.Sprintf("%#x, %#x, %#x", w[0], w[1], w[2]),
			fmt.Sprintf("%x %x %x", w[0], w[1], w[2]))
	}
	return forms
}

func checkNoLeak(t *testing.T, leaks []string, verb, text string) {
	t.Helper()
	for _, leak := range leaks {
		if strings.Contains(text, leak) {
			t.Fatalf("%s shows %q in %.200q", verb, leak, text)
		}
	}
}
