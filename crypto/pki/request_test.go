package pki

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"testing"
)

func TestRequestGolden(t *testing.T) {
	const want = "307f30330201003000302a300506032b657003210066d1440bf47c23f83a97762da35aa5891d80734947dfbac2" +
		"f7bc1694a4611690a000300506032b65700341005c4ef50c8dcd9c76e9aea178088d416c88b421e05021805331" +
		"0f774ff37dadff29a58d953432c4b7b2db68bb3d0e6c5d24964cf659c55fcc5c32dc16d3517d0b"
	if got := hex.EncodeToString(MakeRequest(keyOf(t, "golden"))); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}

// The bytes written by hand are those of crypto/x509 for the same key.
func TestRequestIsPKCS10(t *testing.T) {
	key := keyOf(t, "golden")
	want, err := x509.CreateCertificateRequest(nil, &x509.CertificateRequest{}, key.Ed25519())
	if err != nil {
		t.Fatal(err)
	}
	if got := MakeRequest(key); !bytes.Equal(got, want) {
		t.Errorf("got  %x\nwant %x", got, want)
	}
	public, err := ParseRequest(want)
	if err != nil || public != key.Public() {
		t.Errorf("read back: %x, %v", public, err)
	}
}

func TestRequestRefused(t *testing.T) {
	key := keyOf(t, "golden")
	named, err := x509.CreateCertificateRequest(nil,
		&x509.CertificateRequest{Subject: pkix.Name{CommonName: "mesh"}}, key.Ed25519())
	if err != nil {
		t.Fatal(err)
	}
	good := MakeRequest(key)
	for what, der := range map[string][]byte{
		"empty": nil, "subject": named, "short": good[:RequestSize-1], "long": append(bytes.Clone(good), 0),
	} {
		_, err := ParseRequest(der)
		wantError(t, what, err, ErrRequest)
	}
}

func TestRequestEveryBit(t *testing.T) {
	good := MakeRequest(keyOf(t, "golden"))
	for bit := range len(good) * 8 {
		bad := bytes.Clone(good)
		bad[bit/8] ^= 1 << (bit % 8)
		if _, err := ParseRequest(bad); err == nil {
			t.Errorf("bit %d flipped was accepted", bit)
		}
	}
}

// What is accepted is exactly what the shape and its key dictate.
func FuzzParseRequest(f *testing.F) {
	f.Add(MakeRequest(keyOf(f, "golden")))
	f.Add([]byte(requestHead))
	f.Add(make([]byte, RequestSize))
	f.Fuzz(func(t *testing.T, der []byte) {
		public, err := ParseRequest(der)
		if err != nil {
			return
		}
		signature := string(der[RequestSize-64:])
		if again := requestHead + string(public[:]) + requestTail + signature; again != string(der) {
			t.Errorf("%x reads as %x", der, again)
		}
		if parsed, err := x509.ParseCertificateRequest(der); err != nil || parsed.CheckSignature() != nil {
			t.Errorf("crypto/x509 refuses %x: %v", der, err)
		}
	})
}
