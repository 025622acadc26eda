package agent

import (
	"crypto/rand"
	"testing"

	"github.com/meshcrypt/meshcrypt/crypto/esp"
)

// TestSPIsComeOnceARound: the registry remembers the SPIs granted last, not all; so
// none may come again before all others did. And no process has another's order.
func TestSPIsComeOnceARound(t *testing.T) {
	o, other := newSPIOrder(rand.Reader), newSPIOrder(rand.Reader)
	seen := make([]bool, localSPIs)
	same, steps := 0, 0
	last := uint32(0)
	for range localSPIs {
		spi := o.take()
		if spi >= localSPIs || seen[spi] {
			t.Fatalf("SPI %#x came twice, or is none", spi)
		}
		seen[spi] = true
		if spi == other.take() {
			same++
		}
		if spi == last+1 {
			steps++
		}
		last = spi
	}
	// Of a random order one is expected of each, and 20 practically never.
	if same > 20 || steps > 20 {
		t.Errorf("%d as in another boot, %d after their neighbour", same, steps)
	}
	if spi := o.take(); !seen[spi] || o.next != 1 {
		t.Errorf("the second round begins with %#x", spi)
	}
}

// TestSPIsAreNotReused: neither of a pooled prekey nor of a slice, also when
// the counter has gone round.
func TestSPIsAreNotReused(t *testing.T) {
	f := newFixture(t)
	f.prekeys.order.next = localSPIs - 1
	used := f.freshSPI(own)
	f.slices.bySPI[used] = &slice{}
	first := esp.MakeSPI(own, f.prekeys.order.permuted(0))
	f.prekeys.secrets[first] = pooledPrekey{}
	f.prekeys.order.next = localSPIs - 1
	if spi := f.freshSPI(own); spi != esp.MakeSPI(own, f.prekeys.order.permuted(1)) {
		t.Errorf("SPI %#x", spi)
	}
}
