package esp

import (
	"runtime"
	"testing"
)

// mostAtRest is how many bytes of the heap an SA in each direction may take, of a client
// that does no more than answer probes.
const mostAtRest = 320

// TestBytesAtRest: a gateway's and an agent's memory is mostly that of clients at rest.
func TestBytesAtRest(t *testing.T) {
	for _, suite := range Suites() {
		const pairs, probes = 200, 60
		var held [pairs]struct {
			out *Outbound
			in  *Inbound
		}
		frame := make([]byte, SealedLen(64))
		before := living()
		for i := range held {
			held[i].out, held[i].in = suitePair(t, suite)
			for c := range uint64(probes) {
				if _, _, _, err := held[i].in.Open(held[i].out.Seal(frame, 64, NextDummy, c+1)); err != nil {
					t.Fatal(err)
				}
			}
		}
		each := (living() - before) / pairs
		t.Logf("%v: %d bytes", suite, each)
		if each > mostAtRest {
			t.Errorf("%v: %d bytes for an SA pair at rest, at most %d", suite, each, mostAtRest)
		}
		runtime.KeepAlive(&held)
	}
}

func living() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestKeysGetWarm: a key that carries traffic makes nothing for a packet, whatever it made
// before, and seals the same.
func TestKeysGetWarm(t *testing.T) {
	for _, suite := range Suites() {
		out, in := suitePair(t, suite)
		frame, cold := make([]byte, SealedLen(64)), []byte(nil)
		for c := range uint64(warmAfter) {
			if out.tr.warm.Load() != nil || in.tr.warm.Load() != nil {
				t.Fatalf("%v: keeps its cipher after %d packets", suite, c)
			}
			sealed := out.Seal(frame, 64, NextDummy, c+1)
			if c == 0 {
				cold = append(cold, sealed...)
			}
			if _, _, _, err := in.Open(sealed); err != nil {
				t.Fatal(err)
			}
		}
		if out.tr.warm.Load() == nil || in.tr.warm.Load() == nil {
			t.Fatalf("%v: makes a cipher for each of many packets", suite)
		}
		clear(frame)
		if sealed := out.Seal(frame, 64, NextDummy, 1); string(sealed) != string(cold) {
			t.Errorf("%v: a warm key seals otherwise", suite)
		}
	}
}
