package slots

import "testing"

// TestOnlyWhatWasPaidComesBack: who proves itself while its handshake goes on, or after
// it, gets back what it cost; who has had none gets nothing.
func TestOnlyWhatWasPaidComesBack(t *testing.T) {
	for when, more := range map[string]int{"before its handshake": 0, "in it": 1, "after it": 1} {
		t.Run(when, func(t *testing.T) {
			a := strangers(Rule{Slots: 100, PerSource: 100, Room: 1000, EachRate: 0.001, EachBurst: 1})
			arrive(a, 3, source4(1))
			one := slots(t, a, 0, 1, 0)[0]
			switch when {
			case "before its handshake":
				one = one.part.queue.Front().Value.(*Ticket)
			case "after it":
				a.Done(one)
			}
			a.Prove(one, at(10))
			slots(t, a, 10, more, 0)
		})
	}
}

// TestNothingIsLeft of a source when its last connection has left.
func TestNothingIsLeft(t *testing.T) {
	a := strangers(Rule{Slots: 1, PerSource: 1, Room: 100})
	all := append(arrive(a, 2, source6("2001:db8:1:100::1")), arrive(a, 1, source6("2001:db8:1:200::1"))...)
	slots(t, a, 0, 1, 0)
	source := all[0].source
	for i, one := range all {
		a.Leave(one)
		if p := &a.pools[Stranger]; i == 1 && len(source.parts) != 1 || (len(p.sources) == 0) != (i == 2) || (len(p.doors) == 0) != (i == 2) {
			t.Errorf("after %d: %d parts, %d sources, %d doors", i+1, len(source.parts), len(p.sources), len(p.doors))
		}
	}
}
