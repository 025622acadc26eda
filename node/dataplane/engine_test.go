package dataplane

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"github.com/meshcrypt/meshcrypt/crypto/esp"
	"github.com/meshcrypt/meshcrypt/mesh/link"
	"github.com/meshcrypt/meshcrypt/node/pages"
	"github.com/meshcrypt/meshcrypt/node/tun/tuntest"
	"github.com/meshcrypt/meshcrypt/slicing"
)

// fakeSocket records what is sent. Receive is fed by a channel.
type fakeSocket struct {
	trains chan fakeTrain
	sent   [][]byte
	sizes  []int
	paths  []link.Path
	fault  error
	closed chan struct{}
}

type fakeTrain struct {
	b       []byte
	segment int
	from    netip.AddrPort
}

func newFakeSocket() *fakeSocket {
	return &fakeSocket{trains: make(chan fakeTrain), closed: make(chan struct{})}
}

func (f *fakeSocket) Receive(b []byte) (link.Train, error) {
	if f.fault != nil {
		return link.Train{}, f.fault
	}
	select {
	case t := <-f.trains:
		n := copy(b, t.b)
		return link.Train{Path: link.Path{Remote: t.from}, Len: n, Segment: t.segment}, nil
	case <-f.closed:
		return link.Train{}, link.ErrClosed
	}
}

func (f *fakeSocket) Send(b []byte, segment int, path link.Path) error {
	f.sent = append(f.sent, append([]byte(nil), b...))
	f.sizes = append(f.sizes, segment)
	f.paths = append(f.paths, path)
	return f.fault
}

func (f *fakeSocket) LocalAddr() netip.AddrPort { return netip.AddrPort{} }
func (f *fakeSocket) Lost() uint64              { return 3 }
func (f *fakeSocket) Close() error {
	select {
	case <-f.closed:
	default:
		close(f.closed)
	}
	return nil
}

// opener opens what is sealed under a key of zeros but for its last byte.
func opener(t testing.TB, spi uint32, last byte) *esp.Inbound {
	t.Helper()
	in, err := esp.NewInbound(spi, testKey(t, last), esp.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	return in
}

// sealer seals for it.
func sealer(t testing.TB, spi uint32, last byte) *esp.Outbound {
	t.Helper()
	out, err := esp.NewOutbound(spi, testKey(t, last), esp.DefaultLimits(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func testKey(t testing.TB, last byte) esp.Key {
	t.Helper()
	key, err := esp.NewKey(esp.AES256GCM, append(make([]byte, 35), last))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// testPair is a client's pair on a fake socket, and the agent's half of it.
func testPair(t testing.TB) (*Pair, *fakeSocket, *esp.Outbound) {
	s := newFakeSocket()
	p := &Pair{
		Out: sealer(t, esp.MakeSPI(2, 1), 0), In: opener(t, 700, 1),
		Socket: s, Leases: []netip.Addr{netip.MustParseAddr("10.1.0.2")},
	}
	p.SetPath(link.Path{Remote: addrPort("192.0.2.1:6484")})
	return p, s, sealer(t, 700, 1)
}

func clientTable(p *Pair) *Table {
	return &Table{
		In: pages.Numbered(map[uint32]*Pair{700: p}), DataPort: 6484,
		Nodes:   map[netip.Addr]bool{netip.MustParseAddr("192.0.2.1"): true},
		Default: &Route{Slices: []RouteSlice{{Pair: p}}, Set: &slicing.Set{Weights: []uint32{1}}, Spread: NewSpread(1)},
	}
}

func testEngine(t testing.TB, c Config) *Engine {
	c.Device = tuntest.New(1)
	if c.Clock == nil {
		c.Clock = func() int64 { return 1 }
	}
	e, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// outboundWorker is a worker without its goroutine.
func outboundWorker(e *Engine) *outbound {
	return newOutbound(e, new(ledger), 0, e.queues[0]).(*outbound)
}

func inboundWorker(e *Engine, s link.Socket) *inbound {
	return newInbound(e, new(ledger), s, e.queues[0]).(*inbound)
}

func carry(o *outbound, s Segment, size int) {
	h, p := s.Super(size)
	o.carry(h, o.buffer[headroom:headroom+copy(o.buffer[headroom:], p)])
}

func TestTrainsKeepTheLinkLimits(t *testing.T) {
	p, s, _ := testPair(t)
	e := testEngine(t, Config{})
	e.Publish(clientTable(p))
	for _, size := range []int{100, 1, 1360, 20000, 65000} {
		carry(outboundWorker(e), NewTCP("10.1.0.2:1", "10.9.0.1:2", 1, Pattern(65000)), size)
	}
	for i, b := range s.sent {
		n := (len(b) + s.sizes[i] - 1) / s.sizes[i]
		if len(b) > link.MaxTrain || n > link.MaxSegments {
			t.Fatalf("train of %d bytes, %d datagrams", len(b), n)
		}
	}
	if len(s.sent) < 65000/64 {
		t.Errorf("only %d trains", len(s.sent))
	}
	before := len(s.sent)
	o := outboundWorker(e)
	carry(o, NewUDP("10.1.0.2:1", "10.9.0.1:2", Pattern(64990)), 0)
	if got := o.ledger.stats(); got.Dropped[DropTooBig] != 1 || got.Balance() != 0 || len(s.sent) != before {
		t.Errorf("a packet above a train: %+v", got)
	}
}

func TestOutboundReasons(t *testing.T) {
	p, s, _ := testPair(t)
	good := func() Segment { return NewTCP("10.1.0.2:1", "10.9.0.1:2", 1, Pattern(100)) }
	noPath := *clientTable(&Pair{Out: p.Out, Socket: s, Leases: p.Leases})
	noSlice := *clientTable(p)
	noSlice.Default = &Route{Slices: noSlice.Default.Slices, Set: &slicing.Set{Weights: []uint32{0}}, Spread: NewSpread(1)}
	handOn := *clientTable(p)
	handOn.Default = &Route{Slices: []RouteSlice{{SPI: 9}}, Set: &slicing.Set{Weights: []uint32{1}}, Spread: NewSpread(1)}
	stopped, _, _ := testPair(t)
	stopped.Out.Stop()
	foreign := good()
	foreign.Src = addrPort("10.1.0.3:1")
	loop := NewUDP("10.1.0.2:1", "192.0.2.1:6484", Pattern(100))
	cases := []struct {
		want  Reason
		table *Table
		s     Segment
	}{
		{DropNoRoute, &Table{}, good()},
		{DropNoRoute, nil, good()},
		{DropNoSlice, &noSlice, good()},
		{DropNoPath, &noPath, good()},
		{DropNoPath, &handOn, good()},
		{DropSource, clientTable(p), foreign},
		{DropLoop, clientTable(p), loop},
		{DropExhausted, clientTable(stopped), good()},
	}
	for _, c := range cases {
		e := testEngine(t, Config{})
		e.Publish(c.table)
		o := outboundWorker(e)
		carry(o, c.s, 0)
		if got := o.ledger.stats(); got.Dropped[c.want] != 1 || got.Balance() != 0 {
			t.Errorf("%v: %+v", c.want, got)
		}
	}
}

// TestSendReasons: whatever sends, a train that would wait too long is told from
// one that cannot be sent.
func TestSendReasons(t *testing.T) {
	up, down := NewTCP("10.1.0.2:1", "10.9.0.1:2", 1, nil), NewTCP("10.9.0.1:2", "10.1.0.2:1", 1, nil)
	for want, fault := range map[Reason]error{
		DropSend: errors.New("no buffer"), DropQueue: fmt.Errorf("stream: %w", link.ErrQueue),
	} {
		for name, send := range map[string]func(e *Engine, p *Pair, s *fakeSocket) *ledger{
			"a run": func(e *Engine, _ *Pair, _ *fakeSocket) *ledger {
				o, long := outboundWorker(e), up
				long.Payload = Pattern(200)
				carry(o, long, 0)
				return o.ledger
			},
			"small ones": func(e *Engine, _ *Pair, _ *fakeSocket) *ledger {
				o := outboundWorker(e)
				carry(o, up, 0)
				o.small.flush()
				return o.ledger
			},
			"for others": func(e *Engine, p *Pair, s *fakeSocket) *ledger {
				e.Publish(nodeTable(p))
				w := newHandOn(e, new(ledger), s, e.queues[0]).(*handOn)
				d := Marker{Type: MarkerHandOn, Hops: 1, SPI: esp.MakeSPI(2, 1)}.Append(nil, down.Bytes())
				w.table = e.table.Load()
				w.ledger.take(PortInside, 1)
				w.train(d, len(d))
				return w.ledger
			},
			"to the egress": func(_ *Engine, _ *Pair, s *fakeSocket) *ledger {
				o := onward{ledger: new(ledger)}
				o.ledger.take(PortOuter, 1)
				o.ledger.decide(1)
				o.add(&Onward{Socket: s}, up.Bytes(), 0, 1)
				o.flush()
				return o.ledger
			},
		} {
			p, s, _ := testPair(t)
			s.fault = fault
			e := testEngine(t, Config{})
			e.Publish(clientTable(p))
			if got := send(e, p, s).stats(); got.Dropped[want] != 1 || got.Balance() != 0 {
				t.Errorf("%s, %v: %+v", name, want, got)
			}
		}
	}
}

// seal makes an ESP datagram as the far end would.
func seal(t testing.TB, out *esp.Outbound, payload []byte, next byte) []byte {
	counter, err := out.Reserve(1, len(payload))
	if err != nil {
		t.Fatal(err)
	}
	frame := make([]byte, esp.SealedLen(len(payload)))
	copy(frame[esp.PayloadOffset:], payload)
	return out.Seal(frame, len(payload), next, counter)
}

func TestInboundReasons(t *testing.T) {
	p, s, far := testPair(t)
	mine := NewTCP("10.9.0.1:2", "10.1.0.2:1", 1, Pattern(100)).Bytes()
	other := NewTCP("10.9.0.1:2", "10.1.0.3:1", 1, Pattern(100)).Bytes()
	loop := NewUDP("192.0.2.1:6484", "10.1.0.2:1", Pattern(100)).Bytes()
	good := seal(t, far, mine, esp.NextIPv4)
	forged := seal(t, far, mine, esp.NextIPv4)
	forged[30] ^= 1
	table := clientTable(p)
	table.In = pages.Numbered(map[uint32]*Pair{700: p, 701: {}})
	early := append([]byte(nil), good...)
	early[3]++
	unknown := append([]byte(nil), good...)
	unknown[3] = 0
	cases := []struct {
		want Reason
		d    []byte
	}{
		{DropReplay, append([]byte(nil), good...)}, // the good one was opened before
		{DropAuth, forged},
		{DropDestination, seal(t, far, other, esp.NextIPv4)},
		{DropNextHeader, seal(t, far, mine, esp.NextIPv6)},
		{DropShort, seal(t, far, mine[:10], esp.NextIPv4)},
		{DropMalformed, seal(t, far, mine[:100], esp.NextIPv4)},
		{DropLoop, seal(t, far, loop, esp.NextIPv4)},
		{DropEarly, early},
		{DropUnknownSPI, unknown},
		{DropShort, []byte{0xfe}},
		{DropShort, good[:20]},
		{DropMalformed, []byte{0, 0, 0, 0, 1}},
		{DropType, Marker{Type: MarkerAccept}.Append(nil, nil)},
		{DropType, Marker{Type: 99}.Append(nil, nil)},
	}
	var raised [reasonCount]int
	e := testEngine(t, Config{Violation: func(r Reason, _ uint64, _ link.Path) { raised[r]++ }})
	e.Publish(table)
	w := inboundWorker(e, s)
	feed(w, good)
	if got := w.ledger.stats(); got.Delivered[PortTUN] != 1 {
		t.Fatalf("good packet: %+v", got)
	}
	for _, c := range cases {
		before := w.ledger.stats().Dropped[c.want]
		feed(w, c.d)
		if got := w.ledger.stats(); got.Dropped[c.want] != before+1 || got.Balance() != 0 {
			t.Errorf("%v: %+v", c.want, got)
		}
	}
	feed(w, []byte{KeepAlive})
	if got := w.ledger.stats(); got.Delivered[PortControl] != 1 || got.Balance() != 0 {
		t.Errorf("what keeps a NAT's mapping: %+v", got)
	}
	feed(w, append([]byte(nil), forged...))
	if raised[DropAuth] != 1 || raised[DropReplay] != 0 {
		t.Errorf("violations %v: want auth once, replay never", raised)
	}
}

// feed gives an inbound worker one datagram.
func feed(w *inbound, d []byte) {
	w.table, w.now = w.engine.table.Load(), w.engine.config.Clock()
	w.ledger.take(PortOuter, 1)
	w.train(append([]byte(nil), d...), len(d))
}

// FuzzInbound: whatever comes from outside, nothing panics and every datagram
// is accounted for (I8, I11).
func FuzzInbound(f *testing.F) {
	p, s, far := testPair(f)
	f.Add(seal(f, far, NewTCP("10.9.0.1:2", "10.1.0.2:1", 1, Pattern(100)).Bytes(), esp.NextIPv4), 140)
	f.Add(Marker{Type: MarkerConfirm, SPI: 700}.Append(nil, []byte("mac")), 15)
	f.Add([]byte{0, 0, 2, 0xbc, 0, 0, 0, 1}, 4)
	e := testEngine(f, Config{})
	e.Publish(clientTable(p))
	node := testEngine(f, Config{})
	node.Publish(&Table{Own: 2, In: pages.Numbered(map[uint32]*Pair{esp.MakeSPI(2, 1): p}), DataPort: 6484})
	f.Fuzz(func(t *testing.T, b []byte, segment int) {
		if segment <= 0 || len(b) == 0 || len(b) > link.MaxTrain {
			return
		}
		for _, e := range []*Engine{e, node} {
			e.config.Device.(*tuntest.Device).TakeAll()
			in, on := inboundWorker(e, s), newHandOn(e, new(ledger), s, e.queues[0]).(*handOn)
			n := (len(b) + segment - 1) / segment
			in.table, on.table = e.table.Load(), e.table.Load()
			in.ledger.take(PortOuter, n)
			in.train(append([]byte(nil), b...), segment)
			on.ledger.take(PortInside, n)
			on.train(append([]byte(nil), b...), segment)
			if in.ledger.stats().Balance() != 0 || on.ledger.stats().Balance() != 0 {
				t.Fatal("I8 broken")
			}
		}
	})
}

func TestMarkerRoundTrip(t *testing.T) {
	m := Marker{Type: MarkerHandOn, Hops: 1, SPI: 0x12345678}
	b := m.Append(nil, []byte("body"))
	if got, ok := ParseMarker(b); !ok || got != m || len(b) != MarkerLen+4 {
		t.Errorf("%+v %v", got, ok)
	}
}

// FuzzMarker: what parses is written back byte by byte the same.
func FuzzMarker(f *testing.F) {
	f.Add(Marker{Type: MarkerAccept, SPI: 7}.Append(nil, []byte("body")))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, ok := ParseMarker(b)
		if ok && string(m.Append(nil, b[MarkerLen:])) != string(b) {
			t.Fatal("round trip changed the datagram")
		}
	})
}
