package gateway

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/meshcrypt/meshcrypt/crypto/esp"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/mesh/link"
	"github.com/meshcrypt/meshcrypt/node/dataplane"
)

// silent is a socket that records what is sent, and has nobody who reads it.
type silent struct {
	mu     sync.Mutex
	sent   []sending
	fault  error
	quiet  bool // record nothing
	closed bool
}

type sending struct {
	length, segment int
	path            link.Path
}

func (s *silent) Send(b []byte, segment int, path link.Path) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.quiet {
		return nil
	}
	s.sent = append(s.sent, sending{len(b), segment, path})
	return s.fault
}

func (s *silent) LocalAddr() netip.AddrPort { return netip.AddrPort{} }
func (s *silent) Lost() uint64              { return 0 }

func (s *silent) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return nil
}

// Receive makes it an outer socket, whose receiver the test is.
func (s *silent) Receive([]byte) (link.Train, error) { return link.Train{}, link.ErrClosed }

// rig is a gateway with nodes 1 and 2 alive and 3 dead.
type rig struct {
	t     *testing.T
	g     *Gateway
	outer *silent
	ports []*silent
	now   atomic.Int64
	fault error // of OpenPort
}

func nodeAt(ix int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(ix)}), 6484)
}

func newRig(t *testing.T, c Config) *rig {
	r := &rig{t: t, outer: new(silent)}
	c.Clock = r.now.Load
	c.OpenPort = func(func([]byte, link.Train)) (link.Sender, error) {
		if r.fault != nil {
			return nil, r.fault
		}
		r.ports = append(r.ports, new(silent))
		return r.ports[len(r.ports)-1], nil
	}
	g, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	r.g = g
	g.Publish(NewNodes([]Node{
		{Index: 1, Outer: nodeAt(1), Alive: true},
		{Index: 2, Outer: nodeAt(2), Hosts: []netip.AddrPort{nodeAt(2), netip.MustParseAddrPort("[2001:db8::2]:6484"), netip.MustParseAddrPort("[::ffff:198.51.100.2]:6484")}, Alive: true},
		{Index: 3, Outer: nodeAt(3)},
	}))
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
		s := g.Stats()
		left := s.Received - s.Forwarded - s.Answered
		for _, d := range s.Dropped {
			left -= d
		}
		if left != 0 {
			t.Errorf("I8: %d datagrams unaccounted for: %+v", left, s)
		}
	})
	return r
}

// client is the n-th client; 200 of them share a /24.
func client(n int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, byte(n / 200), byte(n % 200)}), 5000)
}

// serial makes every packet another one.
var serial atomic.Uint32

func packet(ix, size int) []byte {
	b := make([]byte, max(size, 8))
	binary.BigEndian.PutUint32(b, esp.MakeSPI(identity.Index(ix), 5))
	binary.BigEndian.PutUint32(b[4:], serial.Add(1))
	return b[:size]
}

// send forwards a train and reports whether it went out.
func (r *rig) send(from netip.AddrPort, b []byte, segment int) bool {
	before := r.g.counters.forwarded.Load()
	path := link.Path{Local: netip.MustParseAddr("192.0.2.1"), Remote: from}
	r.g.Forward(b, link.Train{Path: path, Len: len(b), Segment: segment}, r.outer)
	return r.g.counters.forwarded.Load() > before
}

// answer gives port p a train from a node.
func (r *rig) answer(p int, from netip.AddrPort, b []byte) {
	t := link.Train{Path: link.Path{Remote: from}, Len: len(b), Segment: len(b)}
	r.g.answer(r.g.make.ports[p], b, t)
}

func (r *rig) wantDropped(reason Reason, n uint64) {
	r.t.Helper()
	if got := r.g.Stats().Dropped[reason]; got != n {
		r.t.Errorf("%v: %d dropped, want %d", reason, got, n)
	}
}

func TestTrainGoesUnsplitAndTheAnswerComesBack(t *testing.T) {
	r := newRig(t, Config{})
	if !r.send(client(1), packet(2, 14000), 1400) {
		t.Fatal("not forwarded")
	}
	want := sending{14000, 1400, link.Path{Remote: nodeAt(2)}}
	if got := r.ports[0].sent[0]; got != want {
		t.Errorf("sent %+v, want %+v", got, want)
	}
	r.answer(0, nodeAt(2), packet(0, 900))
	back := link.Path{Local: netip.MustParseAddr("192.0.2.1"), Remote: client(1)}
	if got := r.outer.sent[0]; got != (sending{900, 900, back}) {
		t.Errorf("answered %+v", got)
	}
	if s := r.g.Stats(); s.Forwarded != 10 || s.Answered != 1 || s.Confirmed != 1 || s.Rows != 1 {
		t.Errorf("%+v", s)
	}
}

// TestPortsAreSharedByNodes: a row's port is unique among the rows of its
// node, and serves one row of every node.
func TestPortsAreSharedByNodes(t *testing.T) {
	r := newRig(t, Config{})
	for c := range 3 {
		for ix := 1; ix <= 2; ix++ {
			r.send(client(c), packet(ix, 100), 100)
			r.send(client(c), packet(ix, 100), 100) // the same row
		}
	}
	if s := r.g.Stats(); s.Rows != 6 || s.Ports != 3 || len(r.ports) != 3 {
		t.Errorf("%+v, want 6 rows on 3 ports", s)
	}
	for p := range 3 {
		for ix := 1; ix <= 2; ix++ {
			r.answer(p, nodeAt(ix), packet(0, 100))
		}
	}
	seen := map[netip.AddrPort]int{}
	for _, s := range r.outer.sent {
		seen[s.path.Remote]++
	}
	if len(seen) != 3 || seen[client(0)] != 2 || seen[client(1)] != 2 || seen[client(2)] != 2 {
		t.Errorf("answers went to %v", seen)
	}
}

func TestForwardReasons(t *testing.T) {
	r := newRig(t, Config{})
	accept := func(kind dataplane.MarkerType, size int) []byte {
		m := dataplane.Marker{Type: kind, SPI: esp.MakeSPI(2, 5)}
		return m.Append(nil, make([]byte, size-dataplane.MarkerLen))
	}
	cases := []struct {
		want Reason
		from netip.AddrPort
		b    []byte
	}{
		{DropFromNode, netip.AddrPortFrom(nodeAt(2).Addr(), 999), packet(1, 100)},
		{DropFromNode, netip.MustParseAddrPort("[2001:db8::2]:999"), packet(1, 100)},
		{DropFromNode, netip.MustParseAddrPort("198.51.100.2:999"), packet(1, 100)},
		{DropImplausible, client(1), packet(2, minESP-1)},
		{DropImplausible, client(1), packet(2, 4)},
		{DropImplausible, client(1), accept(dataplane.MarkerAccept, minAccept-1)},
		{DropImplausible, client(1), accept(dataplane.MarkerAccept, maxAccept+1)},
		{DropImplausible, client(1), accept(dataplane.MarkerConfirm, minAccept)},
		{DropImplausible, client(1), accept(dataplane.MarkerHandOn, minAccept)},
		{DropUnknownIndex, client(1), packet(9, 100)},
		{DropUnknownIndex, client(1), packet(0, 100)},
		{DropDead, client(1), packet(3, 100)},
	}
	for _, c := range cases {
		before := r.g.Stats().Dropped[c.want]
		if r.send(c.from, c.b, len(c.b)) {
			t.Errorf("%v: forwarded", c.want)
		}
		r.wantDropped(c.want, before+1)
	}
	if s := r.g.Stats(); s.Rows != 0 || s.Ports != 0 {
		t.Errorf("rows made for nothing: %+v", s)
	}
	if !r.send(client(1), accept(dataplane.MarkerAccept, maxAccept), maxAccept) {
		t.Error("an accept at its limit was not forwarded")
	}
	r.ports[0].fault = errors.New("no buffer")
	r.send(client(1), packet(2, 100), 100)
	r.wantDropped(DropSend, 1)
}

func TestAnswerReasons(t *testing.T) {
	r := newRig(t, Config{})
	r.send(client(1), packet(2, 100), 100)
	r.answer(0, client(7), packet(0, 100))
	r.answer(0, netip.AddrPortFrom(nodeAt(2).Addr(), 9), packet(0, 100)) // another process of that host
	r.wantDropped(DropStranger, 2)
	r.answer(0, nodeAt(1), packet(0, 100))
	r.wantDropped(DropNoRow, 1)
	r.answer(0, nodeAt(2), packet(2, 10))
	mark := func(kind dataplane.MarkerType) []byte {
		return dataplane.Marker{Type: kind}.Append(nil, make([]byte, 40))
	}
	r.answer(0, nodeAt(2), mark(dataplane.MarkerProbe))
	r.wantDropped(DropImplausible, 2)
	if r.g.Stats().Confirmed != 0 {
		t.Error("confirmed by nonsense")
	}
	r.answer(0, nodeAt(2), mark(dataplane.MarkerConfirm))
	if r.g.Stats().Confirmed != 1 {
		t.Error("not confirmed by the node's confirm")
	}
}

func TestConfigIsChecked(t *testing.T) {
	if _, err := New(Config{}); !errors.Is(err, ErrConfig) {
		t.Errorf("got %v", err)
	}
}

func TestForwardDoesNotAllocate(t *testing.T) {
	r := newRig(t, Config{})
	b := packet(2, 1400)
	r.send(client(0), b, 1400)
	r.ports[0].quiet = true
	path := link.Path{Local: netip.MustParseAddr("192.0.2.1"), Remote: client(0)}
	train := link.Train{Path: path, Len: len(b), Segment: len(b)}
	forward := func() {
		b[7]++ // not a copy
		r.g.Forward(b, train, r.outer)
	}
	if n := testing.AllocsPerRun(50, forward); n != 0 {
		t.Errorf("%v allocations for a train", n)
	}
}

type nowhere struct{ link.Socket }

func (nowhere) Send([]byte, int, link.Path) error { return nil }

// FuzzForward: whatever comes from outside is forwarded or dropped by name.
func FuzzForward(f *testing.F) {
	f.Add(packet(2, 100), 100)
	f.Add(packet(3, 36), 1)
	f.Add(dataplane.Marker{Type: dataplane.MarkerAccept}.Append(nil, make([]byte, 1195)), 1207)
	g, err := New(Config{
		Clock:    func() int64 { return 1 },
		OpenPort: func(func([]byte, link.Train)) (link.Sender, error) { return new(silent), nil },
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = g.Close() })
	g.Publish(NewNodes([]Node{{Index: 2, Outer: nodeAt(2), Alive: true}}))
	f.Fuzz(func(t *testing.T, b []byte, segment int) {
		if len(b) == 0 || segment <= 0 || segment > len(b) {
			return
		}
		train := link.Train{Path: link.Path{Remote: client(0)}, Len: len(b), Segment: segment}
		g.Forward(b, train, nowhere{})
		g.answer(&port{}, b, train)
		s := g.Stats()
		var dropped uint64
		for _, d := range s.Dropped {
			dropped += d
		}
		if s.Received != s.Forwarded+s.Answered+dropped {
			t.Fatalf("I8: %+v", s)
		}
	})
}

// BenchmarkForward is the way of a train without its send, among many rows.
func BenchmarkForward(b *testing.B) {
	for _, rows := range []int{1, 1000} {
		g, err := New(Config{
			Clock:    func() int64 { return 1 },
			OpenPort: func(func([]byte, link.Train)) (link.Sender, error) { return quiet{}, nil },
		})
		if err != nil {
			b.Fatal(err)
		}
		g.Publish(NewNodes([]Node{{Index: 2, Outer: nodeAt(2), Alive: true}}))
		data := packet(2, 1400)
		b.Run(fmt.Sprint(rows), func(b *testing.B) {
			b.ReportAllocs()
			var next atomic.Int64
			b.RunParallel(func(pb *testing.PB) {
				n, data := int(next.Add(1)), slices.Clone(data)
				for pb.Next() {
					n++
					binary.BigEndian.PutUint32(data[4:], uint32(n)) // not a copy
					path := link.Path{Remote: client(n % rows)}
					g.Forward(data, link.Train{Path: path, Len: 1400, Segment: 1400}, quiet{})
				}
			})
		})
		if err := g.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// quiet is a socket that keeps nothing.
type quiet struct{}

func (quiet) Receive([]byte) (link.Train, error) { return link.Train{}, link.ErrClosed }
func (quiet) Send([]byte, int, link.Path) error  { return nil }
func (quiet) LocalAddr() netip.AddrPort          { return netip.AddrPort{} }
func (quiet) Lost() uint64                       { return 0 }
func (quiet) Close() error                       { return nil }
