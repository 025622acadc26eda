package gateway

import (
	"net/netip"
	"testing"
)

// TestConfirmedHosts: each host once, however many clients are behind it; and when they are
// more than are asked for that is said, and no more is listed than was asked for.
func TestConfirmedHosts(t *testing.T) {
	r := newRig(t, Config{})
	const hosts, most = 40, 10
	answered := func(from netip.AddrPort, n uint32) {
		t.Helper()
		if !r.send(from, packetOf(n), 100) {
			t.Fatal("not forwarded")
		}
		r.answer(int(n), nodeAt(2), packet(0, 100))
	}
	n := uint32(0)
	for range 3 * most { // of one host
		answered(netip.AddrPortFrom(client(0).Addr(), uint16(5000+n)), n)
		n++
	}
	if known, fit := r.g.Confirmed(nil, most); !fit || len(known) != 1 {
		t.Errorf("of one host: %v, %v", known, fit)
	}
	for i := 1; i < hosts; i++ {
		answered(client(i), n)
		n++
	}
	beside := make([]netip.Addr, 1, 100)
	if known, fit := r.g.Confirmed(beside, hosts); !fit || len(known) != hosts+1 || &known[0] != &beside[0] {
		t.Errorf("%d hosts, of %d, %v", len(known)-1, hosts, fit)
	}
	if known, fit := r.g.Confirmed(nil, most); fit || len(known) > 2*most+1 {
		t.Errorf("more than are asked for: %d, %v", len(known), fit)
	}
}
