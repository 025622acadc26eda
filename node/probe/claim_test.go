package probe

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"testing"
)

func claim() Claim {
	return Claim{From: 3, Address: netip.MustParseAddr("10.20.0.201"), Kind: ClaimHolds, Right: Right{2, 0x0102030405060708, true}}
}

// TestClaimGolden holds the wire format: N and N-1 must understand each other.
func TestClaimGolden(t *testing.T) {
	const golden = "00000000" + "08" + "01" + "0000" + "00300000" + // marker, type, hops, zero, sender
		"00000000000000000000ffff0a1400c9" + "0000000000000002" + "0102030405060708" + // address, incarnation, epoch
		"02" + "01" + "000000000000" + // kind, right, zero
		"f14ee5b255bc6f4ad161a83973f2e47b" // HMAC-SHA-256, its first half
	if got := hex.EncodeToString(claim().Marshal([]byte("a key"))); got != golden {
		t.Errorf("wire format changed:\n%s", got)
	}
}

func TestClaim(t *testing.T) {
	key := []byte("a key")
	b := claim().Marshal(key)
	if got, ok := ParseClaim(b, key); !ok || got != claim() || len(b) != ClaimLen {
		t.Errorf("came back as %+v, %v", got, ok)
	}
	for i := range b {
		b[i]++
		if _, ok := ParseClaim(b, key); ok {
			t.Errorf("byte %d does not count", i)
		}
		b[i]--
	}
	for _, short := range [][]byte{nil, b[:len(b)-1], append(bytes.Clone(b), 0)} {
		if _, ok := ParseClaim(short, key); ok {
			t.Errorf("%d bytes are a claim", len(short))
		}
	}
	if _, ok := ParseClaim(b, []byte("another")); ok {
		t.Error("another key is good")
	}
	for _, kind := range []ClaimKind{0, 3} {
		c := claim()
		c.Kind = kind
		if _, ok := ParseClaim(c.Marshal(key), key); ok {
			t.Errorf("kind %d is known", kind)
		}
	}
}

// TestRightsAreOrdered: of two different ones exactly one is below the other.
func TestRightsAreOrdered(t *testing.T) {
	rising := []Right{{1, 5, true}, {1, 6, false}, {1, 6, true}, {1, 7, false}, {2, 1, false}, {2, 1, true}}
	for i, r := range rising {
		for j, other := range rising {
			if r.Below(other) != (i < j) {
				t.Errorf("%+v below %+v: %v", r, other, i >= j)
			}
		}
	}
}

// FuzzClaim: what is understood is written the same, byte for byte. The MAC is
// made here, for a fuzzer cannot.
func FuzzClaim(f *testing.F) {
	key := []byte("a key")
	f.Add(claim().Marshal(key)[:ClaimLen-macLen])
	f.Add(make([]byte, ClaimLen-macLen))
	f.Fuzz(func(t *testing.T, head []byte) {
		ParseClaim(head, key)
		b := append(bytes.Clone(head), mac(key, head)...)
		if c, ok := ParseClaim(b, key); ok && !bytes.Equal(c.Marshal(key), b) {
			t.Fatalf("%x came back as %x", b, c.Marshal(key))
		}
	})
}

// TestClaimHasOneMeaning: a member cannot say one thing in two ways, nor what later
// builds may mean by what is zero now.
func TestClaimHasOneMeaning(t *testing.T) {
	key := []byte("a key")
	for i := range ClaimLen - macLen {
		b := claim().body()
		b[i] |= 0x08
		if got, ok := ParseClaim(append(b, mac(key, b)...), key); ok && !bytes.Equal(got.body(), b) {
			t.Errorf("byte %d: %x is taken for %+v", i, b, got)
		}
	}
}
