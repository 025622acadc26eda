package auth

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

const goodSecret = "k3Zr8vQ1mXo7Tq2sYw9LfB4nHd6JcPgE"

func sharedKey(t testing.TB, secret, cluster, user string) SharedKey {
	t.Helper()
	k, err := DeriveSharedKey([]byte(secret), clusterOf(cluster), user, cheap())
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestSharedKeyLogin: the right key on the right connection, and nothing else, both
// ways.
func TestSharedKeyLogin(t *testing.T) {
	k, b := sharedKey(t, goodSecret, "a", "alice"), bindingOf("1")
	v, proof := k.Verifier(), k.Prove(bindingOf("1"), "alice")
	got, answer, err := VerifySharedKey(v, b, "alice", proof)
	if err != nil || got != (Principal{User: "alice", Method: MethodSharedKey}) {
		t.Fatalf("got %+v, %v", got, err)
	}
	wantError(t, "the mesh's answer", k.Confirm(b, "alice", answer), nil)
	otherHello, otherExporter := b, b
	otherHello.Hello[31] ^= 1
	otherExporter.Exporter[0] ^= 1
	wrong := sharedKey(t, goodSecret+"x", "a", "alice")
	for what, try := range map[string]struct {
		v     Verifier
		b     Binding
		user  string
		proof []byte
	}{
		"wrong key":           {v, b, "alice", wrong.Prove(b, "alice")},
		"other connection":    {v, otherExporter, "alice", proof},
		"other hello":         {v, otherHello, "alice", proof},
		"other user":          {v, b, "bob", proof},
		"unknown user":        {Verifier{}, b, "alice", proof},
		"other mesh's key":    {v, b, "alice", sharedKey(t, goodSecret, "b", "alice").Prove(b, "alice")},
		"no proof":            {v, b, "alice", nil},
		"proof cut":           {v, b, "alice", proof[:31]},
		"proof and more":      {v, b, "alice", append(slices.Clone(proof), 0)},
		"the verifier itself": {v, b, "alice", v.Stored},
	} {
		_, answer, err := VerifySharedKey(try.v, try.b, try.user, try.proof)
		wantError(t, what, err, ErrDenied)
		if answer != nil {
			t.Errorf("%s: the mesh proves itself to a stranger", what)
		}
	}
	for what, try := range map[string]struct {
		b      Binding
		answer []byte
	}{
		"none": {b, nil}, "of another connection": {otherExporter, answer}, "the client's own proof": {b, proof},
		"by a mesh with another key": {b, answerOf(t, wrong, b)},
	} {
		wantError(t, "an answer, "+what, k.Confirm(try.b, "alice", try.answer), ErrMesh)
	}
}

func answerOf(t *testing.T, k SharedKey, b Binding) []byte {
	t.Helper()
	_, answer, err := VerifySharedKey(k.Verifier(), b, "alice", k.Prove(b, "alice"))
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

// TestVerifierIsNoLogin: whoever reads the registry finds nothing to log in with.
func TestVerifierIsNoLogin(t *testing.T) {
	k, b := sharedKey(t, goodSecret, "a", "alice"), bindingOf("1")
	v := k.Verifier()
	for name, secret := range map[string][]byte{"stored": v.Stored, "server": v.Server} {
		if bytes.Equal(secret, k.secret[:]) {
			t.Errorf("%s is the key", name)
		}
		stolen := SharedKey{[32]byte(secret)}
		_, _, err := VerifySharedKey(v, b, "alice", stolen.Prove(b, "alice"))
		wantError(t, name, err, ErrDenied)
	}
}

func TestSharedKeyRefuses(t *testing.T) {
	derive := func(secret, user string) error {
		_, err := DeriveSharedKey([]byte(secret), clusterOf("a"), user, cheap())
		return err
	}
	wantError(t, "bad user", derive(goodSecret, "a b"), ErrUser)
	wantError(t, "at the limit (I10)", derive(strings.Repeat(goodSecret, MaxSharedKey/len(goodSecret)), "alice"), nil)
	wantError(t, "beyond it", derive(strings.Repeat(goodSecret, MaxSharedKey/len(goodSecret))+"x", "alice"), ErrPassword)
	for _, weak := range []string{
		"", "a", "secret", "Tr0ub4dor&3", "correct horse battery staple", strings.Repeat("a", 500), strings.Repeat("ab", 20),
		"12345678901234567890", "abcdefghijklmnopqrstuvwxyz",
	} {
		wantError(t, fmt.Sprintf("%q", weak), derive(weak, "alice"), ErrWeakKey)
	}
	for range 50 { // what generators print is never refused
		raw := make([]byte, 32)
		rand.Read(raw)
		for _, good := range []string{string(raw), hex.EncodeToString(raw), base64.StdEncoding.EncodeToString(raw), rand.Text()} {
			wantError(t, fmt.Sprintf("%q", good), derive(good, "alice"), nil)
		}
	}
}

// TestUnknownUserTakesAsLong: an unknown user costs what a wrong key does. The two
// are timed in turn, so that a busy machine hits both.
func TestUnknownUserTakesAsLong(t *testing.T) {
	const rounds, each = 41, 50
	k, b := sharedKey(t, goodSecret, "a", "alice"), bindingOf("1")
	known, proof := k.Verifier(), sharedKey(t, goodSecret+"x", "a", "alice").Prove(b, "alice")
	measure := func(v Verifier) time.Duration {
		start := time.Now()
		for range each {
			_, _, _ = VerifySharedKey(v, b, "alice", proof)
		}
		return time.Since(start)
	}
	var wrong, unknown []time.Duration
	for range rounds {
		wrong, unknown = append(wrong, measure(known)), append(unknown, measure(Verifier{}))
	}
	slices.Sort(wrong)
	slices.Sort(unknown)
	if w, u := wrong[rounds/4], unknown[rounds/4]; u > 2*w || w > 2*u {
		t.Errorf("a wrong key takes %v, an unknown user %v", w/each, u/each)
	}
}

func TestSharedKeyIsNotPrinted(t *testing.T) {
	k := sharedKey(t, goodSecret, "a", "alice")
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
		if text := fmt.Sprintf(verb, k); text != "auth.SharedKey(redacted)" {
			t.Errorf("%s prints %s", verb, text)
		}
	}
}

// FuzzVerifySharedKey: one proof is right, for one user and connection.
func FuzzVerifySharedKey(f *testing.F) {
	k, b := sharedKey(f, goodSecret, "a", "alice"), bindingOf("1")
	proof := k.Prove(b, "alice")
	f.Add("alice", proof)
	f.Add("", []byte{})
	f.Add("alice\x00", append([]byte{0}, proof...))
	f.Fuzz(func(t *testing.T, user string, given []byte) {
		_, _, err := VerifySharedKey(k.Verifier(), b, user, given)
		if (err == nil) != (user == "alice" && string(given) == string(proof)) {
			t.Errorf("%q with %x: %v", user, given, err)
		}
	})
}
