package dataplane

import (
	"bytes"
	"testing"

	"github.com/meshcrypt/meshcrypt/crypto/esp"
)

// waiting gives the worker's TUN packets that wait together, and runs the worker
// until it would wait itself.
func (r *sizesRig) waiting(segments ...Segment) {
	r.Helper()
	for _, s := range segments {
		h, p := s.Super(0)
		if !r.device.Inject(h, p) {
			r.Fatal("device full")
		}
	}
	for range segments {
		if err := r.step(); err != nil {
			r.Fatal(err)
		}
	}
	if r.small.count > 0 {
		if err := r.step(); err != nil {
			r.Fatal(err)
		}
	}
}

// TestSmallPacketsTravelTogether: what waits together leaves as one train of one
// size, arrives as it was, and has waited for nothing.
func TestSmallPacketsTravelTogether(t *testing.T) {
	r := newSizesRig(t, 1438, 1438)
	var segments []Segment
	for i, size := range []int{0, 12, 70, 3, 74} {
		segments = append(segments, NewUDP("10.1.0.2:1", "10.9.0.1:2", Pattern(size)), NewTCP("10.1.0.2:3", "10.9.0.1:4", uint32(i), nil))
	}
	r.waiting(segments...)
	if len(r.socket.sent) != 1 || r.socket.sizes[0] > smallFrame || r.socket.sizes[0] != esp.SealedLen(102) || len(r.socket.sent[0]) != len(segments)*r.socket.sizes[0] {
		t.Errorf("%d trains of datagrams of %v", len(r.socket.sent), r.socket.sizes)
	}
	got := r.deliver()
	for i, s := range segments {
		if i >= len(got) || !bytes.Equal(got[i], s.Bytes()) {
			t.Errorf("packet %d of %d arrived as another", i, len(got))
		}
	}
	r.balanced()
}

// TestSmallAlone: one packet is not padded, and the largest small one fits.
func TestSmallAlone(t *testing.T) {
	r := newSizesRig(t, 1438, 1438)
	for _, size := range []int{0, smallMost - 28} {
		r.waiting(NewUDP("10.1.0.2:1", "10.9.0.1:2", Pattern(size)))
		if len(r.socket.sent) != 1 || len(r.socket.sent[0]) != esp.SealedLen(size+28) {
			t.Errorf("%d bytes left in %d trains of %v", size, len(r.socket.sent), r.socket.sizes)
		}
		r.deliver()
	}
	if esp.SealedLen(smallMost) != smallFrame || esp.SealedLen(smallMost+1) <= smallFrame {
		t.Errorf("a frame of %d does not go with a packet of %d", smallFrame, smallMost)
	}
	r.balanced()
}

// TestSmallStaysInOrder: a packet that is not small, another class, and a full
// train send what is held first.
func TestSmallStaysInOrder(t *testing.T) {
	r := newSizesRig(t, 1438, 1438)
	little := NewUDP("10.1.0.2:1", "10.9.0.1:2", Pattern(10))
	marked := little
	marked.TOS = 2
	r.waiting(little, little, NewUDP("10.1.0.2:1", "10.9.0.1:2", Pattern(1000)), little, marked)
	if want := []int{2, 1, 1, 1}; len(r.socket.sent) != len(want) {
		t.Errorf("%d trains of %v", len(r.socket.sent), r.socket.sizes)
	} else {
		for i, n := range want {
			if len(r.socket.sent[i]) != n*r.socket.sizes[i] {
				t.Errorf("train %d has %d bytes of %d", i, len(r.socket.sent[i]), r.socket.sizes[i])
			}
		}
	}
	if r.socket.paths[3].TOS != 2 {
		t.Error("the mark was lost")
	}
	r.deliver()
	many := make([]Segment, MaxSmallTrain+1)
	for i := range many {
		many[i] = little
	}
	r.waiting(many...)
	if len(r.socket.sent) != 2 || len(r.socket.sent[0]) != MaxSmallTrain*r.socket.sizes[0] {
		t.Errorf("%d trains", len(r.socket.sent))
	}
	r.balanced()
}

// TestSmallBeforeLarge: one that has to be cut sends what is held first, too.
func TestSmallBeforeLarge(t *testing.T) {
	r := newSizesRig(t, 1280, 700)
	little, large := NewUDP("10.1.0.2:1", "10.9.0.1:2", Pattern(10)), NewUDP("10.1.0.2:1", "10.9.0.1:2", Pattern(1000))
	r.waiting(little, large)
	if got := r.deliver(); len(got) != 2 || !bytes.Equal(got[0], little.Bytes()) || !bytes.Equal(got[1], large.Bytes()) {
		t.Errorf("%d packets, not in their order", len(got))
	}
	r.balanced()
}

// TestSmallDoesNotWaitForOthers: packets that are dropped or handed on, however
// many wait, hold up nobody's.
func TestSmallDoesNotWaitForOthers(t *testing.T) {
	r := newSizesRig(t, 1438, 1438)
	little, other := NewUDP("10.1.0.2:1", "10.9.0.1:2", Pattern(10)), NewUDP("10.1.0.9:1", "10.9.0.1:2", Pattern(10))
	for _, s := range []Segment{little, little, other, other, other} {
		h, p := s.Super(0)
		r.device.Inject(h, p)
	}
	for range 3 {
		if err := r.step(); err != nil {
			t.Fatal(err)
		}
	}
	if len(r.socket.sent) != 1 || r.ledger.stats().Dropped[DropSource] != 1 {
		t.Errorf("%d trains: %+v", len(r.socket.sent), r.ledger.stats())
	}
	r.balanced()
}

// TestHeldWhenItEnds: what is held when the device closes, the keys end or the
// process stood still is accounted for, and sealed in the first case only.
func TestHeldWhenItEnds(t *testing.T) {
	little := NewUDP("10.1.0.2:1", "10.9.0.1:2", Pattern(10))
	for name, c := range map[string]struct {
		end  func(*sizesRig)
		want Reason
	}{
		"closed":  {func(r *sizesRig) { r.device.Close() }, Pass},
		"expired": {func(r *sizesRig) { r.pair.Ends = 1 }, DropExhausted},
		"stalled": {func(r *sizesRig) { r.engine.Tick(); r.clock += 2 * int64(StallLimit) }, DropStalled},
	} {
		r := newSizesRig(t, 1438, 1438)
		h, p := little.Super(0)
		r.device.Inject(h, p)
		if err := r.step(); err != nil || r.small.count != 1 {
			t.Fatal(name, err)
		}
		c.end(r)
		if err := r.step(); (err != nil) != (c.want == Pass) {
			t.Errorf("%s: %v", name, err)
		}
		if sent := len(r.socket.sent); sent != map[bool]int{true: 1}[c.want == Pass] {
			t.Errorf("%s: %d trains", name, sent)
		}
		if c.want != Pass && r.ledger.stats().Dropped[c.want] != 1 {
			t.Errorf("%s: %+v", name, r.ledger.stats())
		}
		r.balanced()
	}
}
