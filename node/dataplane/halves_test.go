package dataplane

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/meshcrypt/meshcrypt/crypto/esp"
	"github.com/meshcrypt/meshcrypt/node/tun"
)

// TestHalves: between what one datagram carries and the MTU a packet goes in
// two, of consecutive numbers and no larger than they may be, and arrives whole
// in whatever order.
func TestHalves(t *testing.T) {
	for _, c := range []struct {
		limit int
		order []int
	}{{1218, nil}, {1218, []int{1, 0}}, {700, nil}} {
		r := newSizesRig(t, 1280, c.limit)
		s := NewUDP("10.1.0.2:1", "10.9.0.1:2", Pattern(1280-28))
		carry(r.outbound, s, 0)
		if len(r.socket.sent) != 1 || r.socket.sizes[0] > esp.SealedLen(c.limit) || len(r.socket.sent[0]) <= esp.SealedLen(c.limit) {
			t.Errorf("limit %d: %d trains of %v", c.limit, len(r.socket.sent), r.socket.sizes)
		}
		if got := r.deliver(c.order...); len(got) != 1 || !bytes.Equal(got[0], s.Bytes()) {
			t.Errorf("limit %d, order %v: %d packets arrived", c.limit, c.order, len(got))
		}
		if r.refused() != nil {
			t.Error("refused")
		}
		r.balanced()
	}
}

// TestHalvesOfARun: each packet of a super-packet goes in two, and IPv6 as well.
func TestHalvesOfARun(t *testing.T) {
	r := newSizesRig(t, 1280, 1218)
	carry(r.outbound, NewTCP("10.1.0.2:1", "10.9.0.1:2", 5, Pattern(5000)), 1228)
	got := r.deliver()
	bytes := 0
	for _, p := range got {
		bytes += len(p) - 52
		if !Sound(p) {
			t.Error("a packet with a wrong checksum")
		}
	}
	if bytes != 5000 {
		t.Errorf("%d bytes in %d packets", bytes, len(got))
	}
	r.balanced()
}

// TestLostHalves: what waits in vain is bounded, for a pair and for all, and is
// counted as incomplete.
func TestLostHalves(t *testing.T) {
	h := &halves{ledger: new(ledger)}
	part := append([]byte{0, 0, 0, 0}, 0x45, 0)
	pairs := make([]*Pair, MaxHalves)
	for i := range pairs {
		pairs[i] = new(Pair)
	}
	keep := func(p *Pair, counter uint64, now int64) {
		t.Helper()
		h.ledger.take(PortOuter, 1)
		if packet, _, reason := h.join(p, counter, part, 0, now); packet != nil || reason != Pass {
			t.Fatal(packet, reason)
		}
	}
	for i := range 3 * MaxHalvesPerPair {
		keep(pairs[0], uint64(1+2*i), 1)
	}
	if got := h.ledger.stats(); got.Dropped[DropIncomplete] != 2*MaxHalvesPerPair || got.Balance() != 0 {
		t.Errorf("one pair: %+v", got)
	}
	for i := range 2 * MaxHalves {
		keep(pairs[i%len(pairs)], uint64(1001+2*i), 2)
	}
	if got := h.ledger.stats(); got.Dropped[DropIncomplete] != 2*MaxHalvesPerPair+2*MaxHalves+MaxHalvesPerPair-MaxHalves || got.Balance() != 0 {
		t.Errorf("all pairs: %+v", got)
	}
	before := h.ledger.stats().Dropped[DropIncomplete]
	keep(pairs[0], 5001, int64(2*HalfLife))
	if got := h.ledger.stats().Dropped[DropIncomplete]; got != before+MaxHalves {
		t.Errorf("%d gave way after their time", got-before)
	}
}

// TestBadHalves: what is no half is dropped as part, a violation: only the holder
// of the key can have made it.
func TestBadHalves(t *testing.T) {
	h := &halves{ledger: new(ledger)}
	for name, b := range map[string][]byte{
		"nothing": nil, "header only": {0, 0, 0, 0}, "congestion control": {1, 0, 0, 0, 0x45},
		"reserved": {0, 1, 0, 0, 0x45}, "more than the rest": {0, 0, 0, 1, 0x45, 0}, "less": {0, 0, 0, 3, 0x45, 0},
	} {
		if packet, _, reason := h.join(new(Pair), 9, b, 0, 1); packet != nil || reason != DropPart || !violates(reason) {
			t.Errorf("%s: %v", name, reason)
		}
	}
	p := new(Pair)
	h.ledger.take(PortOuter, 1)
	h.join(p, 9, []byte{0, 0, 0, 0, 0x45}, 0, 1)
	if packet, _, _ := h.join(p, 11, []byte{0, 0, 0, 1, 0}, 0, 1); packet != nil {
		t.Error("halves whose numbers do not follow were joined")
	}
	most := tun.MaxPacket / 2
	long := make([]byte, partHeader+most+1)
	h.join(p, 20, long, 0, 1)
	binary.BigEndian.PutUint16(long[2:], uint16(most+1))
	if packet, _, reason := h.join(p, 21, long, 0, 1); packet != nil || reason != DropPart {
		t.Errorf("halves of %d bytes: %v", len(packet), reason)
	}
}

// TestHalvesOfTwoPairs: two clients' numbers are the same ones. What the one sent
// never becomes part of a packet of the other's.
func TestHalvesOfTwoPairs(t *testing.T) {
	h := &halves{ledger: new(ledger)}
	one, other := new(Pair), new(Pair)
	h.join(one, 9, []byte{0, 0, 0, 0, 0x45}, 0, 1)
	if packet, _, reason := h.join(other, 10, []byte{0, 0, 0, 1, 7}, 0, 1); packet != nil || reason != Pass {
		t.Errorf("with another's half: %x, %v", packet, reason)
	}
	if packet, _, _ := h.join(one, 10, []byte{0, 0, 0, 1, 8}, 0, 1); !bytes.Equal(packet, []byte{0x45, 8}) {
		t.Errorf("with its own: %x", packet)
	}
}

// TestHalvesKeepTheMark: a mark of congestion on either half is the packet's.
func TestHalvesKeepTheMark(t *testing.T) {
	for _, c := range [][3]uint8{{2, 2, 2}, {3, 2, 3}, {2, 3, 3}} {
		h := &halves{ledger: new(ledger)}
		p := new(Pair)
		h.join(p, 1, []byte{0, 0, 0, 0, 0x45}, c[0], 1)
		if packet, tos, _ := h.join(p, 2, []byte{0, 0, 0, 1, 7}, c[1], 1); !bytes.Equal(packet, []byte{0x45, 7}) || tos != c[2] {
			t.Errorf("%v: %x, %d", c, packet, tos)
		}
	}
}

// FuzzHalves: no payload panics, and what is put together is what was given.
func FuzzHalves(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 0x45, 1, 2}, []byte{0, 0, 0, 2, 3, 4})
	f.Fuzz(func(t *testing.T, a, b []byte) {
		h := &halves{ledger: new(ledger)}
		p := new(Pair)
		if _, _, reason := h.join(p, 1, a, 0, 1); reason != Pass {
			return
		}
		packet, _, reason := h.join(p, 2, b, 0, 1)
		if packet != nil && (reason != Pass || !bytes.Equal(packet, append(bytes.Clone(a[partHeader:]), b[partHeader:]...))) {
			t.Fatalf("%x and %x became %x", a, b, packet)
		}
	})
}
