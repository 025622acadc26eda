package gateway

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/crypto/esp"
)

// packetOf is a packet of an SA of node 2.
func packetOf(local uint32) []byte {
	b := packet(2, 100)
	binary.BigEndian.PutUint32(b, esp.MakeSPI(2, local))
	return b
}

// door is one source port of the host that n stands for; each has a /24 to itself.
func door(n, port int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 18, byte(n), 9}), uint16(port))
}

// begin has a client's first packet carried and answered, and reports whether both
// were done.
func (r *rig) begin(from netip.AddrPort, b []byte) bool {
	r.now.Add(int64(20 * time.Millisecond)) // within the ration of a prefix
	if !r.send(from, b, len(b)) {
		return false
	}
	row := r.row(from)
	before := len(r.outer.sent)
	r.answer(r.portOf(row), nodeAt(2), packet(0, 100))
	return len(r.outer.sent) == before+1 && r.outer.sent[before].path.Remote == from
}

func (r *rig) row(of netip.AddrPort) *row {
	return r.g.table.find(&key{client: of, local: netip.MustParseAddr("192.0.2.1"), node: 2})
}

func (r *rig) portOf(row *row) int {
	for n, p := range r.g.make.ports {
		if p == row.port {
			return n
		}
	}
	r.t.Fatal("a row without a port")
	return 0
}

// TestOneClientOfManyPorts: one host with as many source ports as there are rows of a
// node, under one SA or one for each, all answered by the node, leaves room for everybody
// else, and takes no row from them.
func TestOneClientOfManyPorts(t *testing.T) {
	const ports = 1024
	for name, c := range map[string]struct {
		spi  func(n int) uint32
		most int
	}{
		"one SA":         {func(int) uint32 { return 77 }, MaxRowsPerSA},
		"an SA for each": {func(n int) uint32 { return uint32(1000 + n) }, ports * PrefixShare / (PrefixShare + 1)},
	} {
		r := newRig(t, Config{MaxPorts: ports})
		if !r.begin(door(200, 1), packetOf(1)) {
			t.Fatal("the first client of all was refused")
		}
		for n := range ports {
			r.begin(door(0, 1000+n), packetOf(c.spi(n)))
		}
		if held := len(r.g.make.lanes[2].held[netip.MustParsePrefix("198.18.0.0/24")]); held != c.most {
			t.Errorf("%s: one prefix holds %d rows, want %d", name, held, c.most)
		}
		refused := 0
		for n := range 50 {
			if !r.begin(door(1+n, 1), packetOf(uint32(5000+n))) {
				refused++
			}
		}
		if refused > 0 {
			t.Errorf("%s: %d of 50 other clients refused", name, refused)
		}
		if r.row(door(200, 1)) == nil {
			t.Errorf("%s: the row of another prefix went", name)
		}
	}
}

// TestOneClientOfManyPrefixes: one SA that the node answers at any number of forged
// addresses, each of another prefix, leaves room for everybody else: half of few ports,
// and of many a small part.
func TestOneClientOfManyPrefixes(t *testing.T) {
	for ports, most := range map[int]int{512: 512 * SPIShare / (SPIShare + 1), 4096: MaxRowsPerSPI} {
		testOneClientOfManyPrefixes(t, ports, most)
	}
}

func testOneClientOfManyPrefixes(t *testing.T, ports, most int) {
	r := newRig(t, Config{MaxPorts: ports})
	far := func(n int) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{100, byte(n >> 8), byte(n), 9}), 1)
	}
	for n := range 2 * ports {
		if !r.begin(far(n), packetOf(77)) {
			t.Fatalf("row %d refused", n)
		}
	}
	lane := r.g.make.lanes[2]
	if held := len(lane.ofSPI[packetSPI(77)]); held != most {
		t.Errorf("one SPI holds %d rows, want %d", held, most)
	}
	for n := range 100 {
		if !r.begin(door(1+n, 1), packetOf(uint32(5000+n))) {
			t.Fatalf("client %d of 100 others refused", n)
		}
	}
	for n := range 100 { // whoever reads along writes the SPI of another
		r.send(far(n), packetOf(5000), 100)
	}
	for n := range 100 {
		if r.row(door(1+n, 1)) == nil {
			t.Errorf("client %d lost its row", n)
		}
	}
	if r.g.drop(r.row(door(1, 1)), r.now.Load()); len(lane.ofSPI[packetSPI(5000)].confirmed(true)) != 0 {
		t.Error("a row that went is counted")
	}
}

func packetSPI(local uint32) uint32 { return esp.MakeSPI(2, local) }

// TestManyClientsOfOneAddress: an office, or a carrier's NAT.
func TestManyClientsOfOneAddress(t *testing.T) {
	const clients = 500
	r := newRig(t, Config{})
	for n := range clients {
		if !r.begin(door(0, 1000+n), packetOf(uint32(1000+n))) {
			t.Fatalf("client %d refused", n)
		}
	}
	if s := r.g.Stats(); s.Rows != clients || s.Confirmed != clients {
		t.Errorf("%+v, want %d rows", s, clients)
	}
	for n := range clients { // their NAT forgets
		if !r.begin(door(0, 3000+n), packetOf(uint32(1000+n))) {
			t.Fatalf("client %d refused by its new port", n)
		}
	}
	for n := range clients {
		if r.row(door(0, 3000+n)) == nil {
			t.Errorf("client %d lost its row", n)
		}
	}
}

// TestOldestOfItsOwnPrefix: at its limit a prefix gives up the row that waits, then
// the one whose answer is the longest ago.
func TestOldestOfItsOwnPrefix(t *testing.T) {
	r := newRig(t, Config{})
	for n := range MaxRowsPerSA {
		if n == 3 {
			r.send(door(0, n+1), packetOf(77), 100) // not answered
			continue
		}
		r.begin(door(0, n+1), packetOf(77))
	}
	r.now.Add(int64(2 * AnswerStep))
	r.answer(r.portOf(r.row(door(0, 1))), nodeAt(2), packet(0, 100))
	for _, gone := range []int{4, 2, 3} {
		if r.row(door(0, gone)) == nil {
			t.Fatalf("row %d went too early", gone)
		}
		if !r.begin(door(0, 100+gone), packetOf(77)) {
			t.Fatal("refused")
		}
		if r.row(door(0, gone)) != nil {
			t.Errorf("row %d stayed", gone)
		}
	}
	if r.row(door(0, 1)) == nil {
		t.Error("the row that was answered last went")
	}
}

// TestPortRests: what the node still answers to a client that is gone reaches
// nobody, while there are other ports.
func TestPortRests(t *testing.T) {
	r := newRig(t, Config{MaxPorts: 12})
	for n := range MaxRowsPerSA + 1 {
		r.begin(door(0, n+1), packetOf(77))
	}
	r.begin(door(1, 1), packetOf(1)) // the first one's port is free now
	before := len(r.outer.sent)
	r.answer(0, nodeAt(2), packet(0, 100))
	if len(r.outer.sent) != before {
		t.Errorf("the answer reached %v", r.outer.sent[before].path.Remote)
	}
	r.wantDropped(DropNoRow, 1)
	r.now.Add(int64(PortRest))
	if r.begin(door(2, 1), packetOf(2)); r.portOf(r.row(door(2, 1))) != 0 {
		t.Error("a rested port is not used again")
	}
}

// TestPortRestLeast: where no other port is left, one that rested for a second is
// given away, and before that none.
func TestPortRestLeast(t *testing.T) {
	r := newRig(t, Config{MaxPorts: 2})
	r.begin(door(0, 1), packetOf(1))
	r.begin(door(1, 1), packetOf(2))
	r.g.mu.Lock()
	r.g.drop(r.row(door(0, 1)), r.now.Load())
	r.g.mu.Unlock()
	if r.send(door(2, 1), packetOf(3), 100) {
		t.Error("a port was given to another client at once")
	}
	r.wantDropped(DropFull, 1)
	r.now.Add(int64(PortRestLeast))
	if !r.send(door(2, 1), packetOf(3), 100) {
		t.Error("refused though a port has rested")
	}
}

// TestFloodOfFirstPacketsHarmsItsOwn: what waits from other prefixes goes on waiting.
func TestFloodOfFirstPacketsHarmsItsOwn(t *testing.T) {
	r := newRig(t, Config{})
	r.send(door(1, 1), packetOf(1), 100)
	for n := range 4 * MaxUnconfirmed {
		r.now.Add(int64(20 * time.Millisecond))
		r.send(door(0, 1000+n), packetOf(uint32(2000+n)), 100)
	}
	if r.row(door(1, 1)) == nil {
		t.Error("another prefix's row went")
	}
}

// TestForgedRowsAreNotOfTheSA: on rows that wait for the node anybody can have written an
// SPI, from any number of prefixes. They take no share of its client's, who has just
// moved and waits as well.
func TestForgedRowsAreNotOfTheSA(t *testing.T) {
	const ports, forged = 32, 20
	r := newRig(t, Config{MaxPorts: ports})
	r.send(door(1, 1), packetOf(77), 100)
	for n := range forged {
		r.send(door(2+n, 1), packetOf(77), 100)
	}
	if rows := r.g.Stats().Rows; r.row(door(1, 1)) == nil || rows != forged+1 {
		t.Errorf("%d rows; the client's is there: %t", rows, r.row(door(1, 1)) != nil)
	}
}

// TestRowsOfAPrefixAreCounted: as many as there are, and a prefix without any takes no
// memory (I10).
func TestRowsOfAPrefixAreCounted(t *testing.T) {
	r := newRig(t, Config{})
	of := netip.MustParsePrefix("198.18.0.0/24")
	held := func(want int) {
		t.Helper()
		if got, there := r.g.make.held[of]; got != want || there != (want > 0) {
			t.Errorf("%d rows are counted, want %d; an entry: %v", got, want, there)
		}
	}
	gone := func(n int) {
		r.g.mu.Lock()
		defer r.g.mu.Unlock()
		r.g.drop(r.row(door(0, n)), r.now.Load())
	}
	for n := range 3 {
		r.begin(door(0, n+1), packetOf(uint32(n+1)))
	}
	held(3)
	gone(1)
	held(2)
	gone(2)
	gone(3)
	held(0)
}

// TestTwoWorkersOneRow: both found none for a client's first packets; the second
// takes what the first one made.
func TestTwoWorkersOneRow(t *testing.T) {
	r := newRig(t, Config{})
	k := key{client: door(0, 1), local: netip.MustParseAddr("192.0.2.1"), node: 2}
	first, reason := r.g.create(k, esp.MakeSPI(2, 1), r.outer)
	again, reasonAgain := r.g.create(k, esp.MakeSPI(2, 1), r.outer)
	if first == nil || first != again || reason != Pass || reasonAgain != Pass || r.g.Stats().Rows != 1 {
		t.Errorf("%v and %v, %d rows", reason, reasonAgain, r.g.Stats().Rows)
	}
}
