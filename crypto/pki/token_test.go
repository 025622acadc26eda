package pki

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
)

func goldenToken(t testing.TB) (Token, []byte) {
	t.Helper()
	token, verifyKey, err := NewToken(seeded("token"), newMesh(t, "golden").Hash())
	if err != nil {
		t.Fatal(err)
	}
	return token, verifyKey
}

func TestTokenGolden(t *testing.T) {
	const (
		wantText   = "mct1.hls344maxhiv3pjhld435iizsqwfcgcu4xxrlyobdpbiikglyejq.hrdj5hlm.lb25g6sd6nj5j6eomh6pqewgn3xdiv2g"
		wantVerify = "32dff5d6940184ab57a4d3fbbf75ee70d7cc6783440ad7512f8966abcb2675ce"
		wantProof  = "1388e1b3216c6767d191216392f23b011ca56a8270e8b13cb2f2155232e0a90c"
	)
	token, verifyKey := goldenToken(t)
	if token.String() != wantText {
		t.Errorf("token %s\nwant  %s", token.String(), wantText)
	}
	if got := hex.EncodeToString(verifyKey); got != wantVerify {
		t.Errorf("verify key %s\nwant       %s", got, wantVerify)
	}
	proof := token.Proof(make([]byte, ExporterSize), []byte("request"))
	if got := hex.EncodeToString(proof); got != wantProof {
		t.Errorf("proof %s\nwant  %s", got, wantProof)
	}
}

func TestTokenParse(t *testing.T) {
	token, verifyKey := goldenToken(t)
	again, err := ParseToken(token.String())
	if err != nil {
		t.Fatal(err)
	}
	if again.CAHash != token.CAHash || again.ID != token.ID || again.String() != token.String() {
		t.Error("token reads back as another")
	}
	exporter := bytes.Repeat([]byte{7}, ExporterSize)
	if !CheckProof(verifyKey, exporter, []byte("csr"), again.Proof(exporter, []byte("csr"))) {
		t.Error("proof by the token as read is refused")
	}
	if _, _, err := NewToken(bytes.NewReader(make([]byte, 24)), token.CAHash); err == nil {
		t.Error("a token was made of too little randomness")
	}
}

func TestTokenRefused(t *testing.T) {
	token, _ := goldenToken(t)
	text := token.String()
	parts := strings.Split(text, ".")
	secret := parts[3]
	for what, bad := range map[string]string{
		"empty": "", "version alone": "mct1", "other version": "mct2" + text[4:], "upper case": strings.ToUpper(text),
		"three parts": strings.Join(parts[:3], "."), "five parts": text + ".a", "space": text + " ",
		"newline": text + "\n", "newline inside": text[:70] + "\n" + text[70:],
		"hash spare bits": "mct1." + parts[1][:51] + "b." + parts[2] + "." + secret,
		"hash short":      "mct1." + parts[1][1:] + "." + parts[2] + "." + secret,
		"id short":        "mct1." + parts[1] + "." + parts[2][1:] + "." + secret,
		"id empty":        "mct1." + parts[1] + ".." + secret,
		"secret short":    text[:len(text)-1], "secret long": text + "a", "digit 1": text[:len(text)-1] + "1",
	} {
		_, err := ParseToken(bad)
		wantError(t, what, err, ErrToken)
		if err != nil && strings.Contains(err.Error(), secret[:16]) {
			t.Errorf("%s: the error tells the secret: %v", what, err)
		}
	}
}

func FuzzParseToken(f *testing.F) {
	token, _ := goldenToken(f)
	f.Add(token.String())
	f.Add("mct1...")
	f.Fuzz(func(t *testing.T, text string) {
		if token, err := ParseToken(text); err == nil && token.String() != text {
			t.Errorf("%q reads as %q", text, token.String())
		}
	})
}

func TestProofBound(t *testing.T) {
	token, verifyKey := goldenToken(t)
	exporter, csr := bytes.Repeat([]byte{1}, ExporterSize), MakeRequest(keyOf(t, "golden"))
	proof := token.Proof(exporter, csr)
	if !CheckProof(verifyKey, exporter, csr, proof) {
		t.Fatal("a good proof is refused")
	}
	flipEach := func(what string, message []byte) {
		for bit := range len(message) * 8 {
			message[bit/8] ^= 1 << (bit % 8)
			if CheckProof(verifyKey, exporter, csr, proof) {
				t.Errorf("%s: bit %d flipped is accepted", what, bit)
			}
			message[bit/8] ^= 1 << (bit % 8)
		}
	}
	flipEach("proof", proof)
	flipEach("exporter", exporter)
	flipEach("request", csr)
	flipEach("verify key", verifyKey)
}

func TestProofRefused(t *testing.T) {
	token, verifyKey := goldenToken(t)
	exporter, csr := make([]byte, ExporterSize), []byte("csr")
	good := token.Proof(exporter, csr)
	for what, accepted := range map[string]bool{
		"no proof":        CheckProof(verifyKey, exporter, csr, nil),
		"short proof":     CheckProof(verifyKey, exporter, csr, good[:ProofSize-1]),
		"long proof":      CheckProof(verifyKey, exporter, csr, append(bytes.Clone(good), 0)),
		"no exporter":     CheckProof(verifyKey, nil, csr, proof(verifyKey, nil, csr)),
		"no verify key":   CheckProof(nil, exporter, csr, proof(nil, exporter, csr)),
		"moved border":    CheckProof(verifyKey, exporter, csr, proof(verifyKey, append(exporter, 'c'), []byte("sr"))),
		"secret as proof": CheckProof(verifyKey, exporter, csr, verifyKey),
	} {
		if accepted {
			t.Errorf("%s is accepted", what)
		}
	}
	other, otherKey, err := NewToken(seeded("other"), token.CAHash)
	if err != nil {
		t.Fatal(err)
	}
	if CheckProof(verifyKey, exporter, csr, other.Proof(exporter, csr)) || CheckProof(otherKey, exporter, csr, good) {
		t.Error("a proof by another token is accepted")
	}
}

func TestTokenRedacted(t *testing.T) {
	token, _ := goldenToken(t)
	secret := base32Lower.EncodeToString(token.secret[:])
	holder := struct{ inner Token }{token}
	text := fmt.Sprintf("%v %+v %#v %s %q %v %+v", token, token, token, token, token, holder, &holder)
	for _, leak := range []string{secret, fmt.Sprint(token.secret[:])[1:40], hex.EncodeToString(token.secret[:])} {
		if strings.Contains(text, leak) {
			t.Errorf("secret leaks: %s", text)
		}
	}
	if !strings.Contains(fmt.Sprint(token), token.ID) {
		t.Error("the id, which is no secret, is not shown")
	}
}

func TestHashText(t *testing.T) {
	hash := newMesh(t, "golden").Hash()
	text := FormatHash(hash)
	if got, err := ParseHash(text); err != nil || got != hash {
		t.Errorf("reads back as %x, %v", got, err)
	}
	for _, bad := range []string{"", text[1:], text + "a", strings.ToUpper(text), text[:51] + "b", "\n" + text} {
		_, err := ParseHash(bad)
		wantError(t, bad, err, ErrHash)
	}
}

func FuzzParseHash(f *testing.F) {
	f.Add(FormatHash([32]byte{1, 2, 3}))
	f.Fuzz(func(t *testing.T, text string) {
		if hash, err := ParseHash(text); err == nil && FormatHash(hash) != text {
			t.Errorf("%q reads as %q", text, FormatHash(hash))
		}
	})
}
