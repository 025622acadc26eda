package slots

import (
	"math"
	"net/netip"
	"runtime"
	"testing"
)

// TestSettledTakesNothing: a connection that counts no more may stay for days, and there
// are thousands of them, each from an address of its own.
func TestSettledTakesNothing(t *testing.T) {
	const connections, most = 2_000, 16
	living := func() int64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	a := strangers(Rule{Slots: 10, PerSource: 10, Room: 10})
	all := make([]Ticket, connections)
	before := living()
	for i := range all {
		one := &all[i]
		a.Enter(one, Stranger, SourceOf(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})))
		a.Ready(one, Stranger)
		if granted, _ := a.Next(at(i), math.MaxInt); len(granted) != 1 {
			t.Fatalf("%d have a slot", len(granted))
		}
		a.Done(one)
		a.Settle(one) // to prove it would note what its source has left, which has a bound of its own
	}
	if each := (living() - before) / connections; each > most {
		t.Errorf("%d bytes for each connection beside its ticket, at most %d", each, most)
	}
	runtime.KeepAlive(a)
	runtime.KeepAlive(&all)
}
