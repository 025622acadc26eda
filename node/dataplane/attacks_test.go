package dataplane

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/crypto/esp"
	"github.com/meshcrypt/meshcrypt/crypto/replay"
	"github.com/meshcrypt/meshcrypt/mesh/link"
	"github.com/meshcrypt/meshcrypt/node/admit"
	"github.com/meshcrypt/meshcrypt/node/pages"
	"github.com/meshcrypt/meshcrypt/node/probe"
)

// agentSide is an engine that is agent of one slice, with the client's sealing end.
func agentSide(t *testing.T) (*inbound, *esp.Outbound, *Pair) {
	t.Helper()
	p, s, _ := testPair(t)
	spi := esp.MakeSPI(2, 1)
	pair := &Pair{In: opener(t, spi, 0), Leases: p.Leases, Agent: true, Socket: s}
	pair.SetRule(admit.Any())
	e := testEngine(t, Config{})
	e.Publish(&Table{
		Own: 2, In: pages.Numbered(map[uint32]*Pair{spi: pair}), DataPort: 6484,
		Nodes: map[netip.Addr]bool{netip.MustParseAddr("192.0.2.1"): true, netip.MustParseAddr("2001:db8::1"): true},
	})
	return inboundWorker(e, s), p.Out, pair
}

// wantOnly feeds a datagram that must be dropped for one reason and change nothing.
func wantOnly(t *testing.T, w *inbound, what string, want Reason, d []byte) {
	t.Helper()
	before := w.ledger.stats()
	feed(w, d)
	after := w.ledger.stats()
	if after.Dropped[want] != before.Dropped[want]+1 || after.Balance() != 0 || after.Delivered != before.Delivered {
		t.Errorf("%s: want %v: %+v", what, want, after)
	}
}

// TestAttackSPI: reserved SPIs, unknown ones, those of another agent and of a
// process that is gone open nothing, and a true packet under the SPI of
// another slice neither.
func TestAttackSPI(t *testing.T) {
	w, far, pair := agentSide(t)
	good := NewTCP("10.1.0.2:1", "10.9.0.1:2", 1, Pattern(100)).Bytes()
	frame := seal(t, far, good, esp.NextIPv4)
	as := func(spi uint32) []byte {
		d := append([]byte(nil), frame...)
		binary.BigEndian.PutUint32(d, spi)
		return d
	}
	wantOnly(t, w, "SPI 0", DropMalformed, as(0)) // is read as a marker, whose reserved bytes are not zero
	for spi := uint32(1); spi < 256; spi++ {
		wantOnly(t, w, "a reserved SPI", DropForeign, as(spi))
	}
	wantOnly(t, w, "an unknown SPI", DropUnknownSPI, as(esp.MakeSPI(2, 2)))
	wantOnly(t, w, "another agent's", DropForeign, as(esp.MakeSPI(3, 1)))
	other, _, _ := testPair(t)
	other.In = opener(t, esp.MakeSPI(2, 3), 9)
	w.engine.table.Load().In = pages.Numbered(map[uint32]*Pair{pair.In.SPI(): pair, esp.MakeSPI(2, 3): other})
	wantOnly(t, w, "another slice of this agent", DropAuth, as(esp.MakeSPI(2, 3)))
	if pair.LastHeard() != 0 || other.LastHeard() != 0 {
		t.Error("a forged packet was taken for a sign of life")
	}
	w.engine.Publish(&Table{Own: 2, DataPort: 6484}) // as after a restart
	wantOnly(t, w, "a dead boot's", DropUnknownSPI, frame)
}

// TestHeardIsProven: a source is known once it answered a question that was sent there,
// not by a packet that opened.
func TestHeardIsProven(t *testing.T) {
	w, far, pair := agentSide(t)
	client := addrPort("198.51.100.7:4500")
	w.path.Remote = client
	forged := seal(t, far, NewTCP("10.1.0.2:1", "10.9.0.1:2", 1, nil).Bytes(), esp.NextIPv4)
	good := append([]byte(nil), forged...)
	forged[20] ^= 1
	feed(w, forged)
	if heard := w.engine.Heard(nil, 100); slices.Contains(heard, client.Addr()) || len(heard) != 2 {
		t.Errorf("after a forged packet: %v", heard)
	}
	feed(w, good)
	if heard := w.engine.Heard(nil, 100); slices.Contains(heard, client.Addr()) || len(heard) != 2 {
		t.Errorf("after a true packet from anywhere: %v", heard)
	}
	var asked probe.Token
	for _, k := range pair.trail().ways {
		if k.unsure != nil && k.way.path.Remote == client {
			asked = k.token
		}
	}
	echo, ok := probe.EchoSeen(probe.Seen(asked))
	if !ok {
		t.Fatal("not asked")
	}
	feed(w, seal(t, far, echo, esp.NextDummy))
	if heard := w.engine.Heard(nil, 100); !slices.Contains(heard, client.Addr()) || len(heard) != 3 {
		t.Errorf("after its answer: %v", heard)
	}
	if heard := w.engine.Heard(nil, 2); heard != nil {
		t.Errorf("more than asked for: %v", heard)
	}
}

// TestInsideIsOfFew: the inside addresses of nodes are told whole or not at all.
func TestInsideIsOfFew(t *testing.T) {
	var none *Table
	table := &Table{Peers: map[netip.Addr]bool{netip.MustParseAddr("10.0.0.2"): true, netip.MustParseAddr("10.0.0.3"): true}}
	for most, want := range []int{0, 0, 2, 2} {
		if got := table.Inside(most); len(got) != want || none.Inside(most) != nil {
			t.Errorf("%d at most: %v", most, got)
		}
	}
}

// TestFloodOfCopies: an SA at which packets are sent again is told, with what its
// window has passed, until FloodHeld after the last; one that is late is not.
func TestFloodOfCopies(t *testing.T) {
	w, far, pair := agentSide(t)
	first := seal(t, far, NewTCP("10.1.0.2:1", "10.9.0.1:2", 1, nil).Bytes(), esp.NextIPv4)
	copied := func(n int, now time.Duration) []link.Window {
		for range n {
			feed(w, append([]byte(nil), first...))
		}
		return w.engine.flooded(int64(now))
	}
	if got := copied(FloodTold, 0); len(got) != 0 { // the first of them is none
		t.Errorf("told of %d copies: %+v", FloodTold-1, got)
	}
	for range replay.Size {
		feed(w, seal(t, far, NewTCP("10.1.0.2:1", "10.9.0.1:2", 1, nil).Bytes(), esp.NextIPv4))
	}
	want := []link.Window{{SPI: pair.In.SPI(), From: 2, To: link.Unbounded}}
	if got := copied(FloodTold, time.Second); !slices.Equal(got, want) {
		t.Errorf("told %+v, want %+v", got, want)
	}
	if got := copied(FloodTold-1, time.Second+FloodHeld-1); !slices.Equal(got, want) {
		t.Errorf("told %+v while it is held, want %+v", got, want)
	}
	if got := copied(0, time.Second+FloodHeld); len(got) != 0 {
		t.Errorf("told when it was over: %+v", got)
	}
	if n := len(w.engine.noisy.pairs); n != 0 {
		t.Errorf("%d SAs are looked at still", n)
	}
	copied(1, 2*FloodHeld)
	if copied(0, 2*FloodHeld+1); len(w.engine.noisy.pairs) != 0 {
		t.Error("an SA with one copy is looked at for good")
	}
}

// TestLooksAtNoisyOnly: of many SAs those alone are looked at to which something came.
func TestLooksAtNoisyOnly(t *testing.T) {
	w, far, pair := agentSide(t)
	all := map[uint32]*Pair{pair.In.SPI(): pair}
	for n := range uint32(1000) {
		all[esp.MakeSPI(2, 100+n)] = &Pair{In: pair.In}
	}
	w.engine.table.Load().In = pages.Numbered(all)
	good := seal(t, far, NewTCP("10.1.0.2:1", "10.9.0.1:2", 1, nil).Bytes(), esp.NextIPv4)
	feed(w, append([]byte(nil), good...))
	if n := len(w.engine.noisy.pairs); n != 0 {
		t.Errorf("%d SAs are noisy of which all is well", n)
	}
	feed(w, good)
	if n := len(w.engine.noisy.pairs); n != 1 || !w.engine.noisy.pairs[pair] {
		t.Errorf("%d SAs are noisy, want the one with a copy", n)
	}
	w.engine.Publish(&Table{Own: 2})
	if w.engine.flooded(1); len(w.engine.noisy.pairs) != 0 {
		t.Error("an SA that ended is kept")
	}
}

// TestFloodOfForged: an SA at which packets are forged is told with how far ahead
// they may be, from where its window is then, and at last once without.
func TestFloodOfForged(t *testing.T) {
	w, far, pair := agentSide(t)
	good := func() []byte { return seal(t, far, NewTCP("10.1.0.2:1", "10.9.0.1:2", 1, nil).Bytes(), esp.NextIPv4) }
	forged := good()
	forged[20] ^= 1
	forge := func(n int, now time.Duration) []link.Window {
		for range n {
			feed(w, append([]byte(nil), forged...))
		}
		return w.engine.flooded(int64(now))
	}
	want := func(from, to uint32) []link.Window { return []link.Window{{SPI: pair.In.SPI(), From: from, To: to}} }
	if got := forge(FloodTold-1, 0); len(got) != 0 {
		t.Errorf("told of %d: %+v", FloodTold-1, got)
	}
	if got := forge(FloodTold, 0); !slices.Equal(got, want(1, 1+AheadMost)) {
		t.Errorf("told %+v, want %+v", got, want(1, 1+AheadMost))
	}
	for range replay.Size {
		feed(w, good())
	}
	if got := forge(0, FloodHeld-1); !slices.Equal(got, want(2, 2+AheadMost)) {
		t.Errorf("told %+v when the window moved, want %+v", got, want(2, 2+AheadMost))
	}
	if got := forge(0, FloodHeld); !slices.Equal(got, want(2, link.Unbounded)) {
		t.Errorf("told %+v when it was over, want %+v", got, want(2, link.Unbounded))
	}
	if got := forge(0, FloodHeld+1); len(got) != 0 {
		t.Errorf("told again: %+v", got)
	}
}

// ipv6 is a packet whose header names any next header.
func ipv6(src, dst string, next byte, payload []byte) []byte {
	b := make([]byte, 40, 40+len(payload))
	b[0], b[6], b[7] = 0x60, next, 64
	binary.BigEndian.PutUint16(b[4:], uint16(len(payload)))
	s, d := netip.MustParseAddr(src).As16(), netip.MustParseAddr(dst).As16()
	copy(b[8:], s[:])
	copy(b[24:], d[:])
	return append(b, payload...)
}

// TestAttackInnerSource: only the lease is admitted, in its own family and form.
func TestAttackInnerSource(t *testing.T) {
	w, far, pair := agentSide(t)
	pair.Leases = append(pair.Leases, netip.MustParseAddr("fd00::2"))
	v4 := func(src string) []byte { return NewTCP(src, "10.9.0.1:2", 1, Pattern(100)).Bytes() }
	for _, source := range []string{"10.1.0.3:1", "127.0.0.1:1", "0.0.0.0:1", "255.255.255.255:1", "224.0.0.1:1", "10.9.0.1:1"} {
		wantOnly(t, w, source, DropSource, seal(t, far, v4(source), esp.NextIPv4))
	}
	for _, source := range []string{"::ffff:10.1.0.2", "::10.1.0.2", "64:ff9b::10.1.0.2", "::1", "::", "fe80::2", "ff02::1", "fd00::3"} {
		wantOnly(t, w, source, DropSource, seal(t, far, ipv6(source, "fd00::9", protoTCP, Pattern(60)), esp.NextIPv6))
	}
	feed(w, seal(t, far, v4("10.1.0.2:1"), esp.NextIPv4))
	feed(w, seal(t, far, ipv6("fd00::2", "fd00::9", protoTCP, Pattern(60)), esp.NextIPv6))
	if s := w.ledger.stats(); s.Delivered[PortTUN] != 2 {
		t.Errorf("the leases themselves: %+v", s)
	}
}

// TestAttackInnerHeaders: fragments, extension headers and unknown protocols
// are admitted by their addresses alone, so what they hide must not matter:
// nothing of it is for this mesh's own data port, or is joined or cut.
func TestAttackInnerHeaders(t *testing.T) {
	w, far, pair := agentSide(t)
	pair.Leases = append(pair.Leases, netip.MustParseAddr("fd00::2"))
	fragment := func(dst string, flags uint16) []byte {
		b := NewUDP("10.1.0.2:6484", dst, Pattern(200)).Bytes()
		binary.BigEndian.PutUint16(b[6:], flags)
		return b
	}
	for _, flags := range []uint16{0x2000, 0x2001, 0x0001, 0x1fff} { // first, overlapping, last, farthest
		wantOnly(t, w, "a fragment to a node", DropLoop, seal(t, far, fragment("192.0.2.1:6484", flags), esp.NextIPv4))
	}
	for _, next := range []byte{0, 43, 44, 51, 60, 135, 139, 140} {
		chain := append([]byte{protoUDP, 0, 0, 0, 0, 0, 0, 0}, NewUDP("10.0.0.1:1", "10.0.0.2:6484", Pattern(40)).transport()...)
		wantOnly(t, w, "an extension header to a node", DropLoop,
			seal(t, far, ipv6("fd00::2", "2001:db8::1", next, chain), esp.NextIPv6))
	}
	before := w.ledger.stats().Delivered[PortTUN]
	hostile := [][]byte{
		fragment("10.9.0.1:2", 0x2000), fragment("10.9.0.1:2", 0x2000), fragment("10.9.0.1:2", 0x1fff),
		ipv6("fd00::2", "fd00::9", 44, Pattern(8)), ipv6("fd00::2", "fd00::9", 0, []byte{0xff, 0xff}),
		ipv6("fd00::2", "fd00::9", 132, Pattern(12)), ipv6("fd00::2", "fd00::9", 47, nil), ipv6("fd00::2", "fd00::9", 59, nil),
	}
	for _, b := range hostile {
		next := byte(esp.NextIPv4)
		if b[0]>>4 == 6 {
			next = esp.NextIPv6
		}
		feed(w, seal(t, far, b, next))
	}
	if s := w.ledger.stats(); s.Delivered[PortTUN] != before+uint64(len(hostile)) || s.Balance() != 0 {
		t.Errorf("%+v", s)
	}
}

// TestTryIsAnsweredWhereItWasAsked: by the very socket and from the very address; what
// comes over the stream of another gateway says nothing of the way by UDP.
func TestTryIsAnsweredWhereItWasAsked(t *testing.T) {
	p, s, _ := testPair(t)
	e := testEngine(t, Config{})
	e.Publish(clientTable(p))
	asked := addrPort("192.0.2.9:6484")
	if err := p.Try(link.Path{Remote: asked}, 1); err != nil {
		t.Fatal(err)
	}
	var token probe.Token
	for _, k := range p.trail().ways {
		if k.way.path.Remote == asked {
			token = k.token
		}
	}
	for _, c := range []struct {
		by    *fakeSocket
		from  netip.AddrPort
		token probe.Token
		want  bool
	}{
		{newFakeSocket(), asked, token, false},
		{s, addrPort("192.0.2.1:6484"), token, false},
		{s, asked, probe.Token{1}, false},
		{s, asked, token, true},
	} {
		w := inboundWorker(e, c.by)
		w.path, w.now = link.Path{Remote: c.from}, 2
		w.echoed(p, c.token, true)
		if got := p.Tried(asked) != 0; got != c.want {
			t.Errorf("from %v by the socket that asked, %v, with its token, %v: counts %v", c.from, c.by == s, c.token == token, got)
		}
	}
}

// TestInsidePortIsForNodes: what an egress masquerades comes from its own inside
// address, which other nodes believe. So no client speaks to their inside port there,
// in fragments neither, which the kernel joins; in a routed mesh it comes from its lease.
func TestInsidePortIsForNodes(t *testing.T) {
	node := netip.MustParseAddr("10.0.0.3")
	fragment := NewUDP("10.1.0.2:1", "10.0.0.3:6486", Pattern(60)).Bytes()
	binary.BigEndian.PutUint16(fragment[6:], 0x2000)
	forged := [][]byte{NewUDP("10.1.0.2:1", "10.0.0.3:6486", Pattern(60)).Bytes(), fragment}
	honest := [][]byte{
		NewUDP("10.1.0.2:1", "10.0.0.4:6486", Pattern(60)).Bytes(), NewUDP("10.1.0.2:6486", "10.0.0.3:53", Pattern(60)).Bytes(),
		NewTCP("10.1.0.2:1", "10.0.0.3:6486", 1, Pattern(60)).Bytes(),
	}
	t.Run("here", func(t *testing.T) {
		w, far, _ := agentSide(t)
		table := w.engine.table.Load()
		table.Peers, table.InsidePort = map[netip.Addr]bool{node: true}, 6486
		for _, b := range forged {
			wantOnly(t, w, "to a node's inside port", DropLoop, seal(t, far, b, esp.NextIPv4))
		}
		passed := func(all [][]byte) {
			t.Helper()
			before := w.ledger.stats().Delivered[PortTUN]
			for _, b := range all {
				feed(w, seal(t, far, b, esp.NextIPv4))
			}
			if got := w.ledger.stats().Delivered[PortTUN] - before; got != uint64(len(all)) {
				t.Errorf("%d of %d passed: %+v", got, len(all), w.ledger.stats())
			}
		}
		passed(honest)
		table.InsidePort = 0
		passed(forged)
	})
	t.Run("handed on", func(t *testing.T) {
		p, s, _ := testPair(t)
		table, spi := nodeTable(p), esp.MakeSPI(3, 1)
		table.InsidePort = 6486
		table.Routes = pages.At(map[netip.Addr]*Route{p.Leases[0]: {Upward: []uint32{spi}, Rule: admit.Any()}})
		e := testEngine(t, Config{})
		e.Publish(table)
		w := newHandOn(e, new(ledger), s, e.queues[0]).(*handOn)
		for _, b := range append(forged, honest...) {
			d := Marker{Type: MarkerHandOn, Hops: 1, SPI: spi}.Append(nil, b)
			receive(t, w, s, d, len(d), "10.0.0.3:6486")
		}
		got := w.ledger.stats()
		if got.Dropped[DropLoop] != uint64(len(forged)) || got.Delivered[PortTUN] != uint64(len(honest)) || got.Balance() != 0 {
			t.Errorf("%+v", got)
		}
	})
}
