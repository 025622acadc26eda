package dataplane

import (
	"testing"

	"github.com/meshcrypt/meshcrypt/crypto/esp"
	"github.com/meshcrypt/meshcrypt/node/tun/tuntest"
)

// TestECN is the table of RFC 6040 4.2: rows by the inner mark, columns by the
// outer one; DSCP stays the inner one.
func TestECN(t *testing.T) {
	const drop = 0xff
	table := [4][4]uint8{
		ecnNot:  {ecnNot: ecnNot, ecnECT1: ecnNot, ecnECT0: ecnNot, ecnCE: drop},
		ecnECT1: {ecnNot: ecnECT1, ecnECT1: ecnECT1, ecnECT0: ecnECT1, ecnCE: ecnCE},
		ecnECT0: {ecnNot: ecnECT0, ecnECT1: ecnECT1, ecnECT0: ecnECT0, ecnCE: ecnCE},
		ecnCE:   {ecnNot: ecnCE, ecnECT1: ecnCE, ecnECT0: ecnCE, ecnCE: ecnCE},
	}
	for _, ends := range [][2]string{{"10.1.0.2:1", "10.9.0.1:2"}, {"[2001:db8::2]:1", "[2001:db8::9]:2"}} {
		for own := range uint8(4) {
			for outer := range uint8(4) {
				s := NewUDP(ends[0], ends[1], Pattern(100))
				s.TOS = 0xb8 | own
				p := s.Bytes()
				var in inner
				in.parse(p)
				reason, want := in.congest(p, outer), table[own][outer]
				if want == drop {
					if reason != DropECN {
						t.Errorf("inner %d, outer %d: %v", own, outer, reason)
					}
					continue
				}
				var again inner
				if reason != Pass || again.parse(p) != Pass || again.tos != 0xb8|want || in.tos != again.tos || !Sound(p) {
					t.Errorf("%s, inner %d, outer %d: %#x, want mark %d", ends[0], own, outer, again.tos, want)
				}
			}
		}
	}
}

// TestMarksCrossTheTunnel: the outer packets of a run carry its TOS, what a
// router marks there arrives inside, and packets of two classes share no train.
func TestMarksCrossTheTunnel(t *testing.T) {
	r := newSizesRig(t, 1438, 1438)
	s := NewTCP("10.1.0.2:1", "10.9.0.1:2", 5, Pattern(3000))
	s.TOS = 0x28 | ecnECT0
	carry(r.outbound, s, 1300)
	if len(r.socket.paths) != 1 || r.socket.paths[0].TOS != s.TOS {
		t.Fatalf("sent along %+v", r.socket.paths)
	}
	r.far.tos = 0x28 | ecnCE
	for _, p := range r.deliver() {
		if p[1] != 0x28|ecnCE || NaiveSum(p[:20], 0) != 0xffff {
			t.Errorf("TOS %#x", p[1])
		}
	}
	s.TOS = 0
	carry(r.outbound, s, 1300)
	if got := r.deliver(); len(got) != 0 || r.far.ledger.stats().Dropped[DropECN] != 3 {
		t.Errorf("%d packets that cannot be marked arrived", len(got))
	}
	r.balanced()
}

// TestHandOnKeepsTheMark: what the inside network marked counts too, and trains
// hold packets of one class.
func TestHandOnKeepsTheMark(t *testing.T) {
	p, s, _ := testPair(t)
	e := testEngine(t, Config{})
	e.Publish(nodeTable(p))
	w := newHandOn(e, new(ledger), s, e.queues[0]).(*handOn)
	var train []byte
	size := 0
	for _, tos := range []uint8{2, 2, 0x2a, 0x2a} {
		down := NewTCP("10.9.0.1:2", "10.1.0.2:1", 1, Pattern(1000))
		down.TOS = tos
		d := Marker{Type: MarkerHandOn, Hops: 1, SPI: esp.MakeSPI(2, 1)}.Append(nil, down.Bytes())
		train, size = append(train, d...), len(d)
	}
	receive(t, w, s, train, size, "10.0.0.3:6484")
	if len(s.paths) != 2 || s.paths[0].TOS != 2 || s.paths[1].TOS != 0x2a {
		t.Errorf("sent along %+v", s.paths)
	}
	w.tos, w.table = ecnCE, e.table.Load()
	not := NewTCP("10.9.0.1:2", "10.1.0.2:1", 1, Pattern(10)).Bytes()
	if reason := w.admit(Marker{Hops: 1, SPI: esp.MakeSPI(2, 1)}, not); reason != DropECN {
		t.Errorf("%v", reason)
	}
	if _, ok := e.config.Device.(*tuntest.Device).Take(); ok {
		t.Error("something was delivered")
	}
}
