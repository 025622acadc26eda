package dataplane

import (
	"net/netip"
	"testing"

	"github.com/meshcrypt/meshcrypt/crypto/esp"
	"github.com/meshcrypt/meshcrypt/mesh/link"
	"github.com/meshcrypt/meshcrypt/node/admit"
	"github.com/meshcrypt/meshcrypt/node/pages"
)

// receive gives a worker one train from an address.
func receive(t *testing.T, w worker, s *fakeSocket, b []byte, segment int, from string) {
	t.Helper()
	go func() { s.trains <- fakeTrain{b, segment, addrPort(from)} }()
	if err := w.step(); err != nil {
		t.Fatal(err)
	}
}

// nodeTable is node 2, agent of one pair, with node 3 beside it.
func nodeTable(p *Pair) *Table {
	p.Agent = true
	p.SetRule(admit.Any())
	return &Table{
		Own: 2, Granted: pages.Numbered(map[uint32]*Pair{esp.MakeSPI(2, 1): p}), DataPort: 6484,
		Peers: map[netip.Addr]bool{netip.MustParseAddr("10.0.0.3"): true},
		Nodes: map[netip.Addr]bool{netip.MustParseAddr("192.0.2.3"): true},
	}
}

func TestHandOnComesFromPeersOnly(t *testing.T) {
	p, s, _ := testPair(t)
	e := testEngine(t, Config{})
	e.Publish(nodeTable(p))
	w := newHandOn(e, new(ledger), s, e.queues[0]).(*handOn)
	down := NewTCP("10.9.0.1:2", "10.1.0.2:1", 1, Pattern(1000)).Bytes()
	d := Marker{Type: MarkerHandOn, Hops: 1, SPI: esp.MakeSPI(2, 1)}.Append(nil, down)
	train := append(append([]byte(nil), d...), d...)
	receive(t, w, s, train, len(d), "10.0.0.4:6484")
	if got := w.ledger.stats(); got.Dropped[DropPeer] != 2 || got.Balance() != 0 || len(s.sent) != 0 {
		t.Errorf("from a stranger: %+v", got)
	}
	receive(t, w, s, train, len(d), "10.0.0.3:6484")
	if got := w.ledger.stats(); got.Delivered[PortOuter] != 2 || got.Balance() != 0 {
		t.Errorf("from a peer: %+v", got)
	}
	if len(s.sent) != 1 || s.sizes[0] != esp.SealedLen(len(down)) || len(s.sent[0]) != 2*s.sizes[0] {
		t.Errorf("a train of two did not stay one: %v", s.sizes)
	}
}

func TestHandOnReasons(t *testing.T) {
	p, s, _ := testPair(t)
	own := esp.MakeSPI(2, 1)
	good := NewTCP("10.9.0.1:2", "10.1.0.2:1", 1, Pattern(10)).Bytes()
	loop := NewUDP("192.0.2.3:6484", "10.1.0.2:1", Pattern(10)).Bytes()
	other := NewTCP("10.9.0.1:2", "10.1.0.3:1", 1, Pattern(10)).Bytes()
	mark := func(hops uint8, spi uint32, packet []byte) []byte {
		return Marker{Type: MarkerHandOn, Hops: hops, SPI: spi}.Append(nil, packet)
	}
	cases := []struct {
		want Reason
		d    []byte
	}{
		{DropHops, mark(2, own, good)},
		{DropHops, mark(0, own, good)},
		{DropUnknownSPI, mark(1, own+1, good)},
		{DropDestination, mark(1, own, other)},
		{DropSource, mark(1, esp.MakeSPI(3, 1), good)},
		{DropLoop, mark(1, own, loop)},
		{DropShort, mark(1, own, good[:8])},
		{DropUnknownSPI, good}, // ESP under no SA with a node, for all that is known
		{DropMalformed, good[:3]},
		{DropType, Marker{Type: MarkerAccept, SPI: own}.Append(nil, nil)}, // nobody listens
		{DropType, Marker{Type: MarkerProbe}.Append(nil, nil)},            // nobody listens
	}
	e := testEngine(t, Config{})
	e.Publish(nodeTable(p))
	w := newHandOn(e, new(ledger), s, e.queues[0]).(*handOn)
	for _, c := range cases {
		before := w.ledger.stats().Dropped[c.want]
		receive(t, w, s, c.d, len(c.d), "10.0.0.3:6484")
		if got := w.ledger.stats(); got.Dropped[c.want] != before+1 || got.Balance() != 0 {
			t.Errorf("%v: %+v", c.want, got)
		}
	}
	if len(s.sent) != 0 {
		t.Error("something was sealed")
	}
}

// TestMarkedDatagramsReachTheOwner: accepts of own SPIs, probes and verdicts of
// nodes at a node, confirms at a client; nothing else.
func TestMarkedDatagramsReachTheOwner(t *testing.T) {
	p, s, _ := testPair(t)
	var heard []Marker
	c := Config{Marked: func(_ link.Socket, _ link.Path, m Marker, _ []byte) { heard = append(heard, m) }}
	node, client := testEngine(t, c), testEngine(t, c)
	client.Publish(clientTable(p))
	node.Publish(nodeTable(p))
	outerNode, outerClient := inboundWorker(node, s), inboundWorker(client, s)
	insideNode := newHandOn(node, new(ledger), s, node.queues[0])
	own := esp.MakeSPI(2, 1)
	cases := []struct {
		w    worker
		m    Marker
		from string
		ok   bool
	}{
		{outerNode, Marker{Type: MarkerAccept, SPI: own}, "198.51.100.1:9", true},
		{outerNode, Marker{Type: MarkerAccept, SPI: esp.MakeSPI(3, 1)}, "198.51.100.1:9", false},
		{outerNode, Marker{Type: MarkerConfirm, SPI: 700}, "198.51.100.1:9", false},
		{outerNode, Marker{Type: MarkerProbe}, "192.0.2.3:6484", false},
		{outerNode, Marker{Type: MarkerPathTest}, "192.0.2.3:6484", false},
		{outerNode, Marker{Type: MarkerVerdict, SPI: own}, "192.0.2.3:6484", false},
		{outerNode, Marker{Type: MarkerHandOn, Hops: 1, SPI: own}, "192.0.2.3:6484", false},
		{outerClient, Marker{Type: MarkerConfirm, SPI: 700}, "192.0.2.1:6484", true},
		{outerClient, Marker{Type: MarkerAccept, SPI: 700}, "192.0.2.1:6484", false},
		{insideNode, Marker{Type: MarkerProbeReply}, "10.0.0.3:6484", true},
		{insideNode, Marker{Type: MarkerPathTest}, "10.0.0.3:6484", true},
		{insideNode, Marker{Type: MarkerVerdict, SPI: own}, "10.0.0.3:6484", true},
		{insideNode, Marker{Type: MarkerVerdict, SPI: own}, "10.0.0.4:6484", false},
		{outerClient, Marker{Type: MarkerVerdict, SPI: 700}, "192.0.2.1:6484", false},
		{insideNode, Marker{Type: MarkerClaim}, "10.0.0.3:6484", true},
		{outerNode, Marker{Type: MarkerClaim}, "192.0.2.3:6484", false},
	}
	for _, c := range cases {
		heard = nil
		d := c.m.Append(nil, []byte("body"))
		receive(t, c.w, s, d, len(d), c.from)
		if got := len(heard) == 1 && heard[0] == c.m; got != c.ok {
			t.Errorf("%+v from %s: heard %v, want %v", c.m, c.from, heard, c.ok)
		}
	}
}
