package vault

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// seeded gives the same bytes for the same seed, for ever.
func seeded(seed string) *bytes.Reader {
	var out []byte
	for block := sha256.Sum256([]byte(seed)); len(out) < 1024; block = sha256.Sum256(block[:]) {
		out = append(out, block[:]...)
	}
	return bytes.NewReader(out)
}

func clusterOf(seed string) identity.ClusterID {
	digest := sha256.Sum256([]byte(seed))
	return identity.ClusterID(digest[:16])
}

func dataKeyOf(t testing.TB, seed string, generation uint64) DataKey {
	t.Helper()
	k, err := NewDataKey(seeded(seed), generation)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func recipientOf(t testing.TB, seed string) Recipient {
	t.Helper()
	r, err := NewRecipient(seeded(seed))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func wantError(t *testing.T, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("%s: got error %v, want %v", what, got, want)
	}
}

func TestBoxGolden(t *testing.T) {
	const want = "0178377b525757b494427f8901bce520a2ed5e6276f81cf3e91eadd97f1f22bb9ec857"
	k := dataKeyOf(t, "golden", 3)
	box, err := k.Seal(seeded("nonce"), clusterOf("golden"), "gossip", []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	if got := hex.EncodeToString(box); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	if len(box) != len("secret")+BoxOverhead {
		t.Errorf("box of %d bytes", len(box))
	}
}

func TestBoxOpensInItsPlaceOnly(t *testing.T) {
	k, cluster := dataKeyOf(t, "a", 3), clusterOf("a")
	box, err := k.Seal(seeded("nonce"), cluster, "gossip", []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	secret, err := k.Open(cluster, "gossip", box)
	if err != nil || string(secret) != "secret" {
		t.Fatalf("opened %q, %v", secret, err)
	}
	later := DataKey{generation: 4, key: k.key}
	for what, open := range map[string]func() ([]byte, error){
		"other mesh":       func() ([]byte, error) { return k.Open(clusterOf("b"), "gossip", box) },
		"other name":       func() ([]byte, error) { return k.Open(cluster, "ca", box) },
		"name too long":    func() ([]byte, error) { return k.Open(cluster, strings.Repeat("n", MaxName+1), box) },
		"other generation": func() ([]byte, error) { return later.Open(cluster, "gossip", box) },
		"other key":        func() ([]byte, error) { return dataKeyOf(t, "b", 3).Open(cluster, "gossip", box) },
		"empty box":        func() ([]byte, error) { return k.Open(cluster, "gossip", nil) },
		"short box":        func() ([]byte, error) { return k.Open(cluster, "gossip", box[:BoxOverhead-1]) },
	} {
		_, err := open()
		wantError(t, what, err, ErrSealed)
	}
	for bit := range len(box) * 8 {
		bad := bytes.Clone(box)
		bad[bit/8] ^= 1 << (bit % 8)
		_, err := k.Open(cluster, "gossip", bad)
		wantError(t, fmt.Sprintf("bit %d flipped", bit), err, ErrSealed)
	}
}

// I10: at the limits a box is made and opened, one byte beyond is refused.
func TestBoxLimits(t *testing.T) {
	k, cluster := dataKeyOf(t, "a", 1), clusterOf("a")
	name, secret := strings.Repeat("n", MaxName), make([]byte, MaxSecret)
	box, err := k.Seal(seeded("nonce"), cluster, name, secret)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := k.Open(cluster, name, box); err != nil || !bytes.Equal(got, secret) {
		t.Errorf("largest secret: %v", err)
	}
	_, err = k.Open(cluster, name, append(box, 0))
	wantError(t, "larger box", err, ErrSealed)
	_, err = k.Seal(seeded("nonce"), cluster, name+"n", nil)
	wantError(t, "longer name", err, ErrTooLarge)
	_, err = k.Seal(seeded("nonce"), cluster, name, append(secret, 0))
	wantError(t, "larger secret", err, ErrTooLarge)
}

func TestDataKeyGenerations(t *testing.T) {
	_, err := NewDataKey(seeded("a"), 0)
	wantError(t, "generation 0", err, ErrGeneration)
	_, err = DataKey{}.Seal(seeded("a"), clusterOf("a"), "n", nil)
	wantError(t, "zero key seals", err, ErrGeneration)
	_, err = DataKey{}.Open(clusterOf("a"), "n", append([]byte{boxVersion}, make([]byte, BoxOverhead)...))
	wantError(t, "zero key opens", err, ErrGeneration)
	k := dataKeyOf(t, "a", 1)
	next, err := k.Next(seeded("b"))
	if err != nil || next.Generation() != 2 || *next.key == *k.key {
		t.Errorf("next: generation %d, %v", next.Generation(), err)
	}
	if _, err := NewDataKey(bytes.NewReader(make([]byte, 31)), 1); err == nil {
		t.Error("a data key was made of too little randomness")
	}
	if _, err := k.Seal(bytes.NewReader(nil), clusterOf("a"), "n", nil); err == nil {
		t.Error("a box was made without randomness")
	}
}

// A change of voters: the next key goes to those who stay, and the one who
// left cannot follow.
func TestRotationShutsOut(t *testing.T) {
	cluster, stays, leaves := clusterOf("a"), recipientOf(t, "stays"), recipientOf(t, "leaves")
	first := dataKeyOf(t, "first", 1)
	second, err := first.Next(seeded("second"))
	if err != nil {
		t.Fatal(err)
	}
	wrapped, err := Wrap(second, stays.Public(), cluster)
	if err != nil {
		t.Fatal(err)
	}
	box, err := second.Seal(seeded("nonce"), cluster, "ca", []byte("seed"))
	if err != nil {
		t.Fatal(err)
	}
	opened, err := stays.Unwrap(wrapped, cluster, 2)
	if err != nil {
		t.Fatal(err)
	}
	if secret, err := opened.Open(cluster, "ca", box); err != nil || string(secret) != "seed" {
		t.Errorf("opened %q, %v", secret, err)
	}
	_, err = leaves.Unwrap(wrapped, cluster, 2)
	wantError(t, "unwrapped by who left", err, ErrSealed)
	_, err = first.Open(cluster, "ca", box)
	wantError(t, "opened by the old key", err, ErrSealed)
}

func FuzzOpen(f *testing.F) {
	k, cluster := dataKeyOf(f, "a", 1), clusterOf("a")
	box, err := k.Seal(seeded("nonce"), cluster, "n", []byte("secret"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(box)
	f.Add(box[:BoxOverhead])
	f.Add([]byte{boxVersion})
	f.Fuzz(func(t *testing.T, given []byte) {
		if _, err := k.Open(cluster, "n", given); (err == nil) != slices.Equal(given, box) {
			t.Errorf("%x: %v", given, err)
		}
	})
}

func TestRedacted(t *testing.T) {
	k, r := dataKeyOf(t, "a", 7), recipientOf(t, "b")
	holder := struct {
		k DataKey
		r Recipient
	}{k, r}
	text := fmt.Sprintf("%v %+v %#v %s %x %d %q", k, k, k, k, k, k, &k) +
		fmt.Sprintf("%v %+v %#v %s %x %d %q", r, r, r, r, r, r, &r) +
		fmt.Sprintf("%v %+v %#v %x %d %v", holder, holder, holder, holder, holder, &holder)
	for _, secret := range [][]byte{k.key[:], r.seed[:]} {
		for _, leak := range []string{hex.EncodeToString(secret), fmt.Sprint(secret)[1:40], string(secret)} {
			if strings.Contains(text, leak) {
				t.Errorf("secret leaks: %s", text)
			}
		}
	}
	if !strings.Contains(fmt.Sprint(k), "generation 7") {
		t.Error("the generation, which is no secret, is not shown")
	}
}
