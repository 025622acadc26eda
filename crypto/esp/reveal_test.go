//go:build !meshcrypt_insecure

package esp

import "testing"

// I1: without the build tag there is no way to take a key apart.
func TestKeyHasNoReveal(t *testing.T) {
	if _, ok := any(testKey(t)).(interface{ Reveal() []byte }); ok {
		t.Fatal("a release build can reveal keys")
	}
}
