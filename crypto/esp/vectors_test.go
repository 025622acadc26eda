package esp

import (
	"bytes"
	"encoding/hex"
	"os"
	"strconv"
	"strings"
	"testing"
)

// vector is one block of "name = value" lines of a file in testdata.
type vector map[string]string

func readVectors(t testing.TB, file string) []vector {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var all []vector
	for block := range strings.SplitSeq(string(text), "\n\n") {
		v := make(vector)
		for line := range strings.SplitSeq(block, "\n") {
			if name, value, ok := strings.Cut(line, " = "); ok {
				v[name] = strings.TrimSpace(value)
			}
		}
		if v["name"] != "" {
			all = append(all, v)
		}
	}
	return all
}

func (v vector) bytes(t testing.TB, name string) []byte {
	t.Helper()
	b, err := hex.DecodeString(v[name])
	if err != nil {
		t.Fatalf("%s: %s: %v", v["name"], name, err)
	}
	return b
}

func (v vector) number(t testing.TB, name string) uint64 {
	t.Helper()
	n, err := strconv.ParseUint(v[name], 16, 64)
	if err != nil {
		t.Fatalf("%s: %s: %v", v["name"], name, err)
	}
	return n
}

// The published vectors have IVs that are no counters and AES keys of every size,
// so they enter below Seal, with header and trailer as they stand.
func TestPublishedVectors(t *testing.T) {
	for _, file := range []struct {
		name  string
		suite Suite
		count int
	}{
		{"testdata/rfc4106.txt", AES256GCM, 8}, // newGCM, whatever the size
		{"testdata/rfc7634.txt", ChaCha20Poly1305, 2},
	} {
		vectors := readVectors(t, file.name)
		if len(vectors) != file.count {
			t.Fatalf("%s: %d vectors, want %d", file.name, len(vectors), file.count)
		}
		for _, v := range vectors {
			t.Run(v["name"], func(t *testing.T) {
				tr := new(transform)
				if err := tr.take(file.suite, v.bytes(t, "material")); err != nil {
					t.Fatal(err)
				}
				if v["aad"] != "" {
					checkNonce(t, tr, v)
					return
				}
				checkPacket(t, tr, v)
			})
		}
	}
}

func checkPacket(t *testing.T, tr *transform, v vector) {
	t.Helper()
	plain, packet := v.bytes(t, "plain"), v.bytes(t, "packet")
	payload, next, err := cutTrailer(bytes.Clone(plain))
	if err != nil || SealedLen(len(payload)) != len(packet) {
		t.Fatalf("trailer: %v, payload of %d bytes", err, len(payload))
	}
	frame := make([]byte, len(packet))
	copy(frame, packet[:PayloadOffset])
	copy(frame[PayloadOffset:], payload)
	putTrailer(frame[PayloadOffset:len(frame)-icvSize], len(payload), next)
	tr.seal(frame)
	if !bytes.Equal(frame, packet) {
		t.Fatalf("sealed\n%x, want\n%x", frame, packet)
	}
	opened, err := tr.open(frame)
	if err != nil || !bytes.Equal(opened, plain) {
		t.Fatalf("opened %x, %v", opened, err)
	}
}

func checkNonce(t *testing.T, tr *transform, v vector) {
	t.Helper()
	plain, packet := v.bytes(t, "plain"), v.bytes(t, "packet")
	aead, s := tr.cipherFor(packet)
	nonce := s.nonce[:]
	sealed := aead.Seal(nil, nonce, plain, v.bytes(t, "aad"))
	if !bytes.Equal(sealed, packet[PayloadOffset:]) {
		t.Fatalf("sealed\n%x, want\n%x", sealed, packet[PayloadOffset:])
	}
}

func TestGoldenFrames(t *testing.T) {
	vectors := readVectors(t, "testdata/golden.txt")
	if len(vectors) != 9 {
		t.Fatalf("%d frames, want 9", len(vectors))
	}
	for _, v := range vectors {
		t.Run(v["name"], func(t *testing.T) {
			suite, err := ParseSuite(v["suite"])
			if err != nil {
				t.Fatal(err)
			}
			key, err := NewKey(suite, v.bytes(t, "material"))
			if err != nil {
				t.Fatal(err)
			}
			out, in := pair(t, uint32(v.number(t, "spi")), key, DefaultLimits(), nil)
			payload, next := v.bytes(t, "plain"), byte(v.number(t, "next"))
			frame := sealFrame(out, payload, next, v.number(t, "counter"))
			if want := v.bytes(t, "packet"); !bytes.Equal(frame, want) {
				t.Fatalf("sealed\n%x, want\n%x", frame, want)
			}
			got, gotNext, advanced, err := in.Open(frame)
			if err != nil || !bytes.Equal(got, payload) || gotNext != next || !advanced {
				t.Fatalf("opened %x, %d, %v, %v", got, gotNext, advanced, err)
			}
		})
	}
}
