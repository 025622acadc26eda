package vault

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestRecipientGolden(t *testing.T) {
	const want = "b4d0585fc1af0d51d4c555f56e4befe1caa7696f87dedf814bbd6d40b92edfee" // SHA-256 of the public key
	r := recipientOf(t, "golden")
	digest := sha256.Sum256(r.Public())
	if got := hex.EncodeToString(digest[:]); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	again, err := RecipientFromSeed(r.Seed())
	if err != nil || !bytes.Equal(again.Public(), r.Public()) {
		t.Errorf("restored from its seed: %v", err)
	}
	if len(r.Public()) != PublicSize {
		t.Errorf("public key of %d bytes, want %d", len(r.Public()), PublicSize)
	}
}

//go:embed testdata/wrap.hex
var goldenWrap string

// A wrap made once must open for ever: the format is fixed by this one.
func TestUnwrapGolden(t *testing.T) {
	wrapped, err := hex.DecodeString(strings.Join(strings.Fields(goldenWrap), ""))
	if err != nil {
		t.Fatal(err)
	}
	k, err := recipientOf(t, "golden").Unwrap(wrapped, clusterOf("golden"), 3)
	if err != nil || *k.key != *dataKeyOf(t, "golden", 3).key {
		t.Errorf("golden wrap: %v", err)
	}
}

func TestWrapOpensInItsPlaceOnly(t *testing.T) {
	k, r, cluster := dataKeyOf(t, "a", 3), recipientOf(t, "a"), clusterOf("a")
	wrapped, err := Wrap(k, r.Public(), cluster)
	if err != nil {
		t.Fatal(err)
	}
	if len(wrapped) != WrappedSize {
		t.Errorf("wrap of %d bytes, want %d", len(wrapped), WrappedSize)
	}
	got, err := r.Unwrap(wrapped, cluster, 3)
	if err != nil || *got.key != *k.key || got.Generation() != 3 {
		t.Fatalf("unwrapped generation %d, %v", got.Generation(), err)
	}
	for what, unwrap := range map[string]func() (DataKey, error){
		"other mesh":       func() (DataKey, error) { return r.Unwrap(wrapped, clusterOf("b"), 3) },
		"other generation": func() (DataKey, error) { return r.Unwrap(wrapped, cluster, 4) },
		"other recipient":  func() (DataKey, error) { return recipientOf(t, "b").Unwrap(wrapped, cluster, 3) },
		"empty":            func() (DataKey, error) { return r.Unwrap(nil, cluster, 3) },
		"short":            func() (DataKey, error) { return r.Unwrap(wrapped[:WrappedSize-1], cluster, 3) },
		"long":             func() (DataKey, error) { return r.Unwrap(append(bytes.Clone(wrapped), 0), cluster, 3) },
	} {
		_, err := unwrap()
		wantError(t, what, err, ErrSealed)
	}
	_, err = r.Unwrap(wrapped, cluster, 0)
	wantError(t, "generation 0", err, ErrGeneration)
	for at := range wrapped {
		bad := bytes.Clone(wrapped)
		bad[at] ^= 1 << (at % 8)
		_, err := r.Unwrap(bad, cluster, 3)
		wantError(t, fmt.Sprintf("byte %d changed", at), err, ErrSealed)
	}
}

func TestWrapRefuses(t *testing.T) {
	k, r, cluster := dataKeyOf(t, "a", 1), recipientOf(t, "a"), clusterOf("a")
	_, err := Wrap(DataKey{}, r.Public(), cluster)
	wantError(t, "zero data key", err, ErrGeneration)
	unreduced := bytes.Repeat([]byte{0xff}, PublicSize) // ML-KEM coefficients above the modulus
	for what, public := range map[string][]byte{
		"empty": nil, "short": r.Public()[1:], "long": append(r.Public(), 0), "unreduced": unreduced,
	} {
		_, err := Wrap(k, public, cluster)
		wantError(t, what, err, ErrRecipient)
		wantError(t, what, CheckPublic(public), ErrRecipient)
	}
	// A low-order X25519 half is well-formed, and found at the encapsulation.
	lowOrder := append(bytes.Clone(r.Public()[:PublicSize-32]), make([]byte, 32)...)
	if _, err := Wrap(k, lowOrder, cluster); err == nil {
		t.Error("a low-order recipient was wrapped to")
	}
	if err := CheckPublic(r.Public()); err != nil {
		t.Error(err)
	}
	_, err = RecipientFromSeed(make([]byte, SeedSize-1))
	wantError(t, "short seed", err, ErrRecipient)
	if _, err := NewRecipient(bytes.NewReader(nil)); err == nil {
		t.Error("a recipient was made without randomness")
	}
}

func FuzzUnwrap(f *testing.F) {
	k, r, cluster := dataKeyOf(f, "a", 1), recipientOf(f, "a"), clusterOf("a")
	wrapped, err := Wrap(k, r.Public(), cluster)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(wrapped)
	f.Add(make([]byte, WrappedSize))
	f.Fuzz(func(t *testing.T, given []byte) {
		// The seed of another process is another wrap of the same key.
		if got, err := r.Unwrap(given, cluster, 1); err == nil && *got.key != *k.key {
			t.Errorf("%x opens to another key", given)
		}
	})
}

func FuzzWrapRecipient(f *testing.F) {
	f.Add(recipientOf(f, "a").Public())
	f.Add(make([]byte, PublicSize))
	f.Fuzz(func(t *testing.T, public []byte) {
		key, err := parsePublic(public)
		if err == nil && !slices.Equal(key.Bytes(), public) {
			t.Errorf("%x reads as %x", public, key.Bytes())
		}
	})
}
