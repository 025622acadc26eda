package gateway

import (
	"testing"

	"github.com/meshcrypt/meshcrypt/crypto/esp"
	"github.com/meshcrypt/meshcrypt/node/dataplane"
)

// TestCopiesAreNotCarriedAgain, whoever sends them; trains and Accepts pass,
// for a copy may stand beside new packets, and an Accept is repeated.
func TestCopiesAreNotCarriedAgain(t *testing.T) {
	r := newRig(t, Config{})
	first := packet(2, 100)
	if !r.send(client(1), first, 100) || r.send(client(1), first, 100) || r.send(client(9), first, 100) {
		t.Error("not carried once and once only")
	}
	r.wantDropped(DropDuplicate, 2)
	for place := range first { // head, or ICV: another packet
		other := append([]byte(nil), first...)
		other[place] ^= 1
		inside := place >= esp.PayloadOffset && place < len(first)-icvSize
		if place > 3 && r.send(client(1), other, 100) == inside {
			t.Errorf("byte %d changed: taken for a copy %v", place, !inside)
		}
	}
	accept := dataplane.Marker{Type: dataplane.MarkerAccept, SPI: esp.MakeSPI(2, 5)}.Append(nil, make([]byte, minAccept))
	train := packet(2, 1400)
	for range 3 {
		if !r.send(client(1), accept, len(accept)) || !r.send(client(1), train, 700) {
			t.Error("a repeated Accept or a train was not carried")
		}
	}
}

// TestMaxDuplicates: what is remembered is bounded, so the oldest is pushed out
// and would be carried again (I10).
func TestMaxDuplicates(t *testing.T) {
	d := newDuplicates()
	var early [][]byte
	for range 64 {
		early = append(early, packet(2, 100))
		d.known(early[len(early)-1])
	}
	for range 20 * MaxDuplicates {
		d.known(packet(2, 100))
	}
	for _, b := range early {
		if d.known(b) {
			t.Error("a packet outlived twenty times as many as are remembered")
		}
	}
}

// TestMaxUnconfirmed: a flood of first packets opens so many ports for a node
// and no more; rows that were answered in between stay (I10).
func TestMaxUnconfirmed(t *testing.T) {
	r := newRig(t, Config{})
	for n := range 3 * MaxUnconfirmed {
		if !r.send(client(n), packet(2, 100), 100) {
			t.Fatalf("client %d not forwarded", n)
		}
		if n == 10 {
			r.answer(10, nodeAt(2), packet(0, 100))
		}
	}
	if known := r.g.Confirmed(); len(known) != 1 || known[0] != client(10).Addr() {
		t.Errorf("known for an answer: %v", known)
	}
	if s := r.g.Stats(); s.Rows != MaxUnconfirmed+1 || s.Ports != MaxUnconfirmed+1 || s.Confirmed != 1 {
		t.Errorf("%+v", s)
	}
}
