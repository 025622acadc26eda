package client

import (
	"slices"
	"testing"

	"github.com/meshcrypt/meshcrypt/crypto/esp"
)

// TestPreferredSuites: everything that is built is offered, whatever the CPU; only
// the order differs.
func TestPreferredSuites(t *testing.T) {
	first := map[bool]esp.Suite{true: esp.AES256GCM, false: esp.ChaCha20Poly1305}
	for hardware, want := range first {
		got := preferred(hardware)
		if got[0] != want {
			t.Errorf("with AES in hardware %t: %v first", hardware, got[0])
		}
		if slices.Sort(got); !slices.Equal(got, esp.Suites()) {
			t.Errorf("with AES in hardware %t: offers %v", hardware, got)
		}
	}
}
