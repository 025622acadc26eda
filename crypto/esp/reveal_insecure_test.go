//go:build meshcrypt_insecure

package esp

import (
	"bytes"
	"testing"
)

func TestReveal(t *testing.T) {
	k := testKey(t)
	clear(k.Reveal())
	if !bytes.Equal(k.Reveal(), testMaterial()) {
		t.Fatal("not a copy of the material")
	}
}
