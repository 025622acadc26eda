package mka

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha512"
	"testing"

	"github.com/meshcrypt/meshcrypt/crypto/esp"
)

// TestScheduleAgainstTheText derives the traffic keys once more, by the text
// of DESIGN.md and RFC 5869 alone.
func TestScheduleAgainstTheText(t *testing.T) {
	share, kem := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, secretSize)
	transcript := [hashSize]byte{3}
	e, err := newEarly(share, [hashSize]byte{4})
	must(t, err)
	out, err := e.finish(esp.AES256GCM, bytes.Clone(kem), transcript, 0)
	must(t, err)

	prk0 := mac(make([]byte, hashSize), share)
	derived := expandOnce(prk0, "mka1 derived", transcript[:], 48)
	prk1 := mac(derived, kem)
	for label, got := range map[string]esp.Key{"mka1 esp c2a": out.toAgent, "mka1 esp a2c": out.toClient} {
		want, err := esp.NewKey(esp.AES256GCM, expandOnce(prk1, label, transcript[:], 36))
		must(t, err)
		if !sameKey(got, want) {
			t.Errorf("%s differs", label)
		}
	}
	if want := expandOnce(prk1, "mka1 rekey", transcript[:], 48); !bytes.Equal(out.next.secret[:], want) {
		t.Error("rekey secret differs")
	}
	if want := mac(expandOnce(prk1, "mka1 confirm", transcript[:], 48), transcript[:]); !bytes.Equal(out.mac[:], want) {
		t.Error("confirm differs")
	}
	context := [hashSize]byte{4}
	knock := mac(expandOnce(prk0, "mka1 knock", context[:], 48), []byte("accept"))[:16]
	if !bytes.Equal(e.tag([]byte("accept")), knock) {
		t.Error("knock differs")
	}
}

// TestEveryInputCounts: share, KEM secret and T each change every key.
func TestEveryInputCounts(t *testing.T) {
	derive := func(share, kem byte, transcript byte) outcome {
		e, err := newEarly(bytes.Repeat([]byte{share}, 32), [hashSize]byte{})
		must(t, err)
		out, err := e.finish(esp.AES256GCM, bytes.Repeat([]byte{kem}, secretSize), [hashSize]byte{transcript}, 0)
		must(t, err)
		return out
	}
	base := derive(1, 1, 1)
	for name, other := range map[string]outcome{
		"share": derive(2, 1, 1), "KEM secret": derive(1, 2, 1), "transcript": derive(1, 1, 2),
	} {
		if sameKey(base.toAgent, other.toAgent) || sameKey(base.toClient, other.toClient) ||
			base.mac == other.mac || base.next.secret == other.next.secret {
			t.Errorf("the %s does not count", name)
		}
	}
	if again := derive(1, 1, 1); !sameKey(base.toAgent, again.toAgent) {
		t.Error("the schedule is not a function of its inputs")
	}
}

func mac(key, message []byte) []byte {
	m := hmac.New(sha512.New384, key)
	m.Write(message)
	return m.Sum(nil)
}

// expandOnce is HKDF-Expand of at most one block.
func expandOnce(prk []byte, label string, context []byte, n int) []byte {
	info := append([]byte{0, 0, 0, byte(len(label))}, label...)
	info = append(append(info, 0, 0, 0, byte(len(context))), context...)
	info = append(info, 0, byte(n), 1) // the length asked for, then the block's number
	return mac(prk, info)[:n]
}
