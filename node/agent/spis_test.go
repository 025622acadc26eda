package agent

import (
	"crypto/rand"
	"testing"

	"github.com/meshcrypt/meshcrypt/crypto/esp"
)

// TestSPIsComeOnceARound: the registry remembers the SPIs granted last, not all; so
// none may come again before all others did. And no process has another's order.
func TestSPIsComeOnceARound(t *testing.T) {
	o, other := newSPIOrder(rand.Reader, 0), newSPIOrder(rand.Reader, 0)
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

// TestSPIsAreNotOfTheLastStarts: clients go on under the SPIs that a process gave out which
// is no more. Of 10,000 in each of two starts some 95 were the same, and each packet that came
// under one looked forged.
func TestSPIsAreNotOfTheLastStarts(t *testing.T) {
	given := make(map[uint32]uint64)
	for start := range uint64(1 << startBits) {
		f := newFixture(t)
		f.prekeys.order = newSPIOrder(rand.Reader, start)
		for range 10_000 {
			spi := f.freshSPI(own)
			if earlier, same := given[spi]; same && earlier != start || esp.Index(spi) != own {
				t.Fatalf("start %d has SPI %#x, as start %d had, or it is none of this node", start, spi, earlier)
			}
			given[spi] = start
		}
	}
	if again := newSPIOrder(rand.Reader, 1<<startBits); again.start != 0 {
		t.Errorf("the next begins with %#x", again.start)
	}
}

// TestRoomForSPIs: what an agent may hold at once finds an SPI quickly, and one given out is
// not given out again while a client may use it, at the pace that rekeys set.
func TestRoomForSPIs(t *testing.T) {
	if held := 2*MaxSlices + 2*MaxPrekeys; held > localSPIs*3/4 {
		t.Errorf("%d of %d in use", held, localSPIs)
	}
	if round := RekeyAfter * localSPIs / MaxSlices; round < 2*KeysEnd {
		t.Errorf("one comes again after %v", round)
	}
}
