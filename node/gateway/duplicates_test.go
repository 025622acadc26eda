package gateway

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/crypto/esp"
	"github.com/meshcrypt/meshcrypt/mesh/link"
	"github.com/meshcrypt/meshcrypt/node/dataplane"
)

// TestCopiesAreNotCarriedAgain but once, whoever sends them; trains and Accepts pass,
// for a copy may stand beside new packets, and an Accept is repeated.
func TestCopiesAreNotCarriedAgain(t *testing.T) {
	r := newRig(t, Config{})
	first := packet(2, 100)
	if !r.send(client(1), first, 100) || !r.send(client(2), first, 100) || r.send(client(1), first, 100) || r.send(client(9), first, 100) {
		t.Error("not carried with one copy, and no more")
	}
	r.wantDropped(DropDuplicate, 2)
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
		remember(d, early[len(early)-1])
	}
	for range 20 * MaxDuplicates {
		remember(d, packet(2, 100))
	}
	for _, b := range early {
		if sum, known := d.copied(b); known || sum.whole != 0 {
			t.Error("a packet outlived twenty times as many as are remembered")
		}
	}
}

func remember(d *duplicates, b []byte) {
	for range 2 { // by its ends, and whole
		sum, _ := d.copied(b)
		d.carried(sum)
	}
}

// TestNobodyMakesACopyOfAnothersPacket: whoever sends something like it first,
// whichever byte is another, has the genuine packet carried all the same.
func TestNobodyMakesACopyOfAnothersPacket(t *testing.T) {
	r := newRig(t, Config{})
	r.send(client(1), packet(2, 100), 100)
	for place := 4; place < 36; place++ {
		genuine := packet(2, 36)
		other := append([]byte(nil), genuine...)
		other[place] ^= 0x80
		for range 3 {
			r.send(client(9), other, 36)
		}
		if !r.send(client(1), genuine, 36) {
			t.Errorf("byte %d changed: taken for a copy", place)
		}
	}
	r.wantDropped(DropDuplicate, 32) // the third of each
}

// TestWhatDidNotLeaveIsNoCopy: a packet that was refused from one address, or
// that the socket did not take, is carried when it comes again.
func TestWhatDidNotLeaveIsNoCopy(t *testing.T) {
	r := newRig(t, Config{})
	r.send(client(1), packet(2, 100), 100)
	r.answer(0, nodeAt(2), packet(0, 100))
	for n := range PrefixBurst { // the second one's prefix has used up its ration
		r.send(netip.AddrPortFrom(client(200).Addr(), uint16(1000+n)), packet(2, 100), 100)
	}
	genuine := packet(2, 100)
	if r.send(client(201), genuine, 100) {
		t.Fatal("the ration was not used up")
	}
	if !r.send(client(1), genuine, 100) {
		t.Error("refused from elsewhere, and taken for a copy")
	}
	genuine = packet(2, 100)
	r.send(client(1), genuine, 100)
	r.ports[0].fault = link.ErrQueue
	r.send(client(1), genuine, 100)
	r.ports[0].fault = nil
	if !r.send(client(1), genuine, 100) {
		t.Error("did not leave, and taken for a copy")
	}
}

// BenchmarkDuplicates is what one more datagram costs.
func BenchmarkDuplicates(b *testing.B) {
	for _, size := range []int{100, 1400} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			d, data := newDuplicates(), packet(2, size)
			b.ReportAllocs()
			for n := range b.N {
				binary.BigEndian.PutUint32(data[4:], uint32(n))
				if sum, known := d.copied(data); !known {
					d.carried(sum)
				}
			}
		})
	}
}

// TestMaxUnconfirmed: of a flood of first packets so many wait for a node and no
// more; rows that were answered in between stay (I10).
func TestMaxUnconfirmed(t *testing.T) {
	r := newRig(t, Config{})
	for n := range 3 * MaxUnconfirmed {
		if !r.send(client(n), packetOf(uint32(n)), 100) {
			t.Fatalf("client %d not forwarded", n)
		}
		if n == 10 {
			r.answer(10, nodeAt(2), packet(0, 100))
		}
		r.now.Add(int64(10 * time.Millisecond))
	}
	if known, _ := r.g.Confirmed(nil, 10); len(known) != 1 || known[0] != client(10).Addr() {
		t.Errorf("known for an answer: %v", known)
	}
	s := r.g.Stats()
	if most := MaxUnconfirmed + 1 + int(PortRestLeast/(10*time.Millisecond)) + 1; s.Rows != MaxUnconfirmed+1 || s.Ports > most || s.Confirmed != 1 {
		t.Errorf("%+v, at most %d ports", s, most)
	}
}
