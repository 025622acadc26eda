package dataplane

import (
	"net/netip"
	"testing"

	"github.com/meshcrypt/meshcrypt/crypto/esp"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/mesh/link"
	"github.com/meshcrypt/meshcrypt/node/admit"
	"github.com/meshcrypt/meshcrypt/node/pages"
	"github.com/meshcrypt/meshcrypt/node/tun"
)

// linkTo gives a table an SA with node 3, and returns node 3's half.
func linkTo(t testing.TB, table *Table) (far *esp.Outbound, near *Pair) {
	t.Helper()
	spi := esp.MakeSPI(2, 900)
	near = &Pair{Node: 3, In: opener(t, spi, 40), Out: sealer(t, spi, 41)}
	table.Sealed, table.Links = true, map[uint32]*Pair{spi: near}
	return sealer(t, spi, 40), near
}

// TestSealedHandOnReasons: what is sealed is admitted as strictly as what is not, and
// where sealing is asked for nothing else counts.
func TestSealedHandOnReasons(t *testing.T) {
	p, s, _ := testPair(t)
	e := testEngine(t, Config{})
	table := nodeTable(p)
	far, near := linkTo(t, table)
	var said []byte
	near.Control = func(b []byte) { said = append(said, b...) }
	e.Publish(table)
	w := newHandOn(e, new(ledger), s, e.queues[0]).(*handOn)
	packet := NewTCP("10.9.0.1:2", "10.1.0.2:1", 1, Pattern(1000)).Bytes()
	marked := func(hops uint8, spi uint32) []byte {
		return Marker{Type: MarkerHandOn, Hops: hops, SPI: spi}.Append(nil, packet)
	}
	own := esp.MakeSPI(2, 1)
	good := seal(t, far, marked(1, own), nextHandOn)
	again := append([]byte(nil), good...)
	forged := seal(t, far, marked(1, own), nextHandOn)
	forged[60] ^= 1
	receive(t, w, s, good, len(good), "10.0.0.3:6486")
	receive(t, w, s, seal(t, far, []byte("rekey"), esp.NextDummy), 1500, "10.0.0.3:6486")
	if got := w.ledger.stats(); got.Delivered[PortOuter] != 1 || got.Balance() != 0 || string(said) != "rekey" || near.LastHeard() == 0 {
		t.Fatalf("good: %+v, said %q", got, said)
	}
	for _, c := range []struct {
		want Reason
		d    []byte
	}{
		{DropClear, marked(1, own)},
		{DropReplay, again},
		{DropAuth, forged},
		{DropShort, good[:8]},
		{DropUnknownSPI, append([]byte{0, 0x30, 0, 1}, good[4:]...)},
		{DropNextHeader, seal(t, far, packet, esp.NextIPv4)},
		{DropNextHeader, seal(t, far, packet, nextHandOn)},
		{DropNextHeader, seal(t, far, Marker{Type: MarkerVerdict, Hops: 1}.Append(nil, packet), nextHandOn)},
		{DropHops, seal(t, far, marked(2, own), nextHandOn)},
		{DropUnknownSPI, seal(t, far, marked(1, own+1), nextHandOn)},
		{DropSource, seal(t, far, marked(1, esp.MakeSPI(3, 1)), nextHandOn)},
	} {
		before := w.ledger.stats().Dropped[c.want]
		receive(t, w, s, c.d, len(c.d), "10.0.0.3:6486")
		if got := w.ledger.stats(); got.Dropped[c.want] != before+1 || got.Balance() != 0 {
			t.Errorf("%v: %+v", c.want, got)
		}
	}
	receive(t, w, s, seal(t, far, marked(1, own), nextHandOn), 1500, "10.0.0.4:6486")
	if got := w.ledger.stats(); got.Dropped[DropPeer] != 1 || got.Delivered[PortOuter] != 1 {
		t.Errorf("from a stranger: %+v", got)
	}
	near.Ends = 1
	receive(t, w, s, seal(t, far, marked(1, own), nextHandOn), 1500, "10.0.0.3:6486")
	if got := w.ledger.stats(); got.Dropped[DropExhausted] != 1 {
		t.Errorf("keys whose time is over: %+v", got)
	}
}

// TestSealedHandOnIsOfItsSender: what comes up under the SA with one node is of that
// node's own slices, not of another's that has the session too.
func TestSealedHandOnIsOfItsSender(t *testing.T) {
	p, s, _ := testPair(t)
	e := testEngine(t, Config{})
	table := nodeTable(p)
	far, _ := linkTo(t, table)
	table.Routes = pages.At(map[netip.Addr]*Route{p.Leases[0]: {
		Upward: []uint32{esp.MakeSPI(3, 1), esp.MakeSPI(4, 1)}, Rule: admit.Any(),
	}})
	e.Publish(table)
	w := newHandOn(e, new(ledger), s, e.queues[0]).(*handOn)
	packet := NewTCP("10.1.0.2:1", "10.9.0.1:2", 1, Pattern(1000)).Bytes()
	for index, want := range map[identity.Index]Reason{3: Pass, 4: DropSource} {
		before := w.ledger.stats()
		d := seal(t, far, Marker{Type: MarkerHandOn, Hops: 1, SPI: esp.MakeSPI(index, 1)}.Append(nil, packet), nextHandOn)
		receive(t, w, s, d, len(d), "10.0.0.3:6486")
		got := w.ledger.stats()
		passed := got.Delivered[PortTUN] - before.Delivered[PortTUN]
		if passed == 1 != (want == Pass) || want != Pass && got.Dropped[want] != before.Dropped[want]+1 || got.Balance() != 0 {
			t.Errorf("of node %d: want %v, got %+v", index, want, got)
		}
	}
}

// TestRefusalsAreSealed: a refusal quotes a packet, so it passes as that would have;
// sent in clear it would be dropped there, and the sender would never hear.
func TestRefusalsAreSealed(t *testing.T) {
	p, _, _ := testPair(t)
	p.SetSizes(1438, 1438)
	w := newHandOn(testEngine(t, Config{}), new(ledger), newFakeSocket(), nil).(*handOn)
	_, near := linkTo(t, new(Table))
	egress := newFakeSocket()
	p.SetOnward(false, &Onward{SPI: 77, Socket: egress, Sealed: true, Link: near})
	large := NewUDP("10.9.0.1:2", "10.1.0.2:1", Pattern(1440)).Bytes()
	refuse := func() {
		if w.inner.parse(large) != Pass || w.large.send(p, nil, large, &w.inner, 1) != DropTooBig {
			t.Fatal("not refused")
		}
	}
	refuse()
	if len(egress.sent) != 1 {
		t.Fatalf("%d datagrams", len(egress.sent))
	}
	opened, next, _, err := opener(t, near.Out.SPI(), 41).Open(egress.sent[0])
	if m, ok := ParseMarker(opened); err != nil || next != nextHandOn || !ok || m.SPI != 77 || opened[MarkerLen+9] != protoICMP {
		t.Errorf("%x, next %d, %v", egress.sent[0], next, err)
	}
	near.Ends = 1
	if refuse(); len(egress.sent) != 1 {
		t.Errorf("%x was sent without keys", egress.sent[1:])
	}
}

// TestNothingIsHandedOnInClear: without an SA, or with one that is over, packets that
// should be sealed are dropped.
func TestNothingIsHandedOnInClear(t *testing.T) {
	o, h, load := handOnRig(t, true)
	slice := &o.engine.table.Load().Default.Slices[0]
	for want, pair := range map[Reason]*Pair{DropNoPath: nil, DropExhausted: {Ends: 1}} {
		slice.Link = pair
		o.carry(h, load())
		if got := o.ledger.stats(); got.Dropped[want] == 0 || got.Delivered[PortInside] != 0 || got.Balance() != 0 {
			t.Errorf("down, %v: %+v", want, got)
		}
		up := onward{ledger: new(ledger)}
		up.ledger.take(PortOuter, 1)
		up.ledger.decide(1)
		up.add(&Onward{Sealed: true, Link: pair, Socket: nowhere{}}, Pattern(500), 0, 2)
		up.flush()
		if got := up.ledger.stats(); got.Dropped[want] != 1 || got.Balance() != 0 {
			t.Errorf("up, %v: %+v", want, got)
		}
	}
}

// TestStoppedLinkHandsOnNothing: keys that stopped between two tables are an ended SA,
// in each of the three ways that a packet is handed on.
func TestStoppedLinkHandsOnNothing(t *testing.T) {
	o, h, load := handOnRig(t, true)
	link := o.engine.table.Load().Default.Slices[0].Link
	link.Out.Stop()
	o.carry(h, load())
	if got := o.ledger.stats(); got.Dropped[DropExhausted] == 0 || got.Delivered[PortInside] != 0 || got.Balance() != 0 {
		t.Errorf("down: %+v", got)
	}
	to := &Onward{Sealed: true, Link: link, Socket: nowhere{}}
	up := onward{ledger: new(ledger)}
	up.ledger.take(PortOuter, 1)
	up.ledger.decide(1)
	up.add(to, Pattern(500), 0, 2)
	up.flush()
	if got := up.ledger.stats(); got.Dropped[DropExhausted] != 1 || got.Balance() != 0 {
		t.Errorf("up: %+v", got)
	}
	if d := to.datagram(Pattern(500), 2); d != nil {
		t.Errorf("alone: %d bytes", len(d))
	}
}

// handOnRig is a TUN worker whose only slice is another node's.
func handOnRig(t testing.TB, sealed bool) (*outbound, tun.VnetHeader, func() []byte) {
	o, h, load := outRig(t)
	table := *o.engine.table.Load()
	route := *table.Default
	route.Slices = []RouteSlice{{SPI: esp.MakeSPI(3, 1), HandOn: &link.Path{Remote: addrPort("10.0.0.3:6486")}, Sealed: sealed}}
	_, route.Slices[0].Link = linkTo(t, &table)
	table.Default = &route
	o.engine.config.Inside = []link.Socket{nowhere{}}
	o.engine.Publish(&table)
	return o, h, load
}

func TestHandOnDoesNotAllocate(t *testing.T) {
	for _, sealed := range []bool{false, true} {
		o, h, load := handOnRig(t, sealed)
		if n := testing.AllocsPerRun(20, settled(func() { o.carry(h, load()) })); n != 0 {
			t.Errorf("sealed %t: %v allocations for a run", sealed, n)
		}
		if got := o.ledger.stats(); got.Delivered[PortInside] == 0 {
			t.Errorf("sealed %t: %+v", sealed, got)
		}
	}
}

// BenchmarkHandOn64K is what sealing costs an egress for a run that it hands on.
func BenchmarkHandOn64K(b *testing.B) {
	for name, sealed := range map[string]bool{"clear": false, "sealed": true} {
		b.Run(name, func(b *testing.B) {
			o, h, load := handOnRig(b, sealed)
			b.SetBytes(64000)
			b.ReportAllocs()
			for b.Loop() {
				o.carry(h, load())
			}
		})
	}
}

// TestHandOnCarriesTheMark: the outer packet of a hand-on carries what the inner one says, and
// the way, which is that of all sessions by this agent, is not changed for it.
func TestHandOnCarriesTheMark(t *testing.T) {
	for _, sealed := range []bool{false, true} {
		o, _, _ := handOnRig(t, sealed)
		s := &fakeSocket{}
		o.engine.config.Inside = []link.Socket{s}
		for _, tos := range []uint8{0x2a, 0} {
			down := NewTCP("10.1.0.2:4000", "10.9.0.1:80", 5, Pattern(1000))
			down.TOS = tos
			n := copy(o.buffer[headroom:], down.Bytes())
			o.carry(tun.VnetHeader{}, o.buffer[headroom:headroom+n])
			if n := len(s.paths); n == 0 || s.paths[n-1].TOS != tos {
				t.Errorf("sealed %t, mark %#x: sent along %+v", sealed, tos, s.paths)
			}
		}
		if way := o.engine.table.Load().Default.Slices[0].HandOn; way.TOS != 0 || len(s.paths) != 2 {
			t.Errorf("sealed %t: the way is %+v now, %d were sent", sealed, *way, len(s.paths))
		}
	}
}
