package dataplane_test

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/crypto/esp"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/mesh/link"
	"github.com/meshcrypt/meshcrypt/mesh/link/linktest"
	"github.com/meshcrypt/meshcrypt/node/admit"
	. "github.com/meshcrypt/meshcrypt/node/dataplane"
	"github.com/meshcrypt/meshcrypt/node/gateway"
	"github.com/meshcrypt/meshcrypt/node/pages"
	"github.com/meshcrypt/meshcrypt/node/tun"
	"github.com/meshcrypt/meshcrypt/node/tun/tuntest"
	"github.com/meshcrypt/meshcrypt/slicing"
)

const dataPort = 6484

func lease() netip.Addr                 { return netip.MustParseAddr("10.99.0.5") }
func outer(ix int) netip.Addr           { return netip.AddrFrom4([4]byte{192, 0, 2, byte(ix)}) }
func inside(ix int) netip.Addr          { return netip.AddrFrom4([4]byte{10, 0, 0, byte(ix)}) }
func at(a netip.Addr) netip.AddrPort    { return netip.AddrPortFrom(a, dataPort) }
func to(a netip.AddrPort) link.Path     { return link.Path{Remote: a} }
func spiOf(ix int, local uint32) uint32 { return esp.MakeSPI(identity.Index(ix), local) }

// host is a node or the client.
type host struct {
	device  *tuntest.Device
	engine  *Engine
	table   Table
	in      map[uint32]*Pair // of the table, and so are the next two
	granted map[uint32]*Pair
	routes  map[netip.Addr]*Route
	gateway *gateway.Gateway
	outer   link.Socket
	inside  link.Socket
}

// world is one network with nodes 1..n, of which node 1 is the gateway in
// use, and a client with a slice on each agent.
type world struct {
	t        testing.TB
	network  *linktest.Network
	nodes    map[int]*host
	client   *host
	pairs    map[int][2]*Pair // by node: the client's end, the agent's end
	nextPort atomic.Uint32
	hosts    int
	trace    func(uint64, Action)
	hung     atomic.Bool
}

// hangLimit ends a test that waits for what will not come.
const hangLimit = 30 * time.Second

func newWorld(t testing.TB, nodes int, agents ...int) *world {
	w := &world{
		t: t, network: linktest.New(1), nodes: map[int]*host{}, pairs: map[int][2]*Pair{},
	}
	w.nextPort.Store(50000)
	for ix := 1; ix <= nodes; ix++ {
		w.nodes[ix] = w.node(ix, nodes)
	}
	w.client = w.host(Config{})
	w.client.table = Table{DataPort: dataPort}
	for i, ix := range agents {
		w.slice(ix, i, uint16(40000+i))
	}
	w.client.table.Default = w.route(agents, 0)
	return w
}

func (w *world) listen(a netip.AddrPort) link.Socket {
	s, err := w.network.Listen(a)
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

func (w *world) host(c Config) *host {
	h := &host{
		device: tuntest.New(1), in: map[uint32]*Pair{}, granted: map[uint32]*Pair{}, routes: map[netip.Addr]*Route{},
	}
	w.hosts++
	number := uint64(w.hosts) << 56 // makes packet ids unique among hosts
	c.Device, c.Clock = h.device, func() int64 { return 1 }
	c.Trace = func(id uint64, a Action) {
		if w.trace != nil {
			w.trace(number|id, a)
		}
	}
	var err error
	if h.engine, err = New(c); err != nil {
		w.t.Fatal(err)
	}
	return h
}

func (w *world) node(ix, nodes int) *host {
	g, err := gateway.New(gateway.Config{
		Clock: func() int64 { return 1 },
		OpenPort: func(receive func([]byte, link.Train)) (link.Sender, error) {
			return w.network.Open(netip.AddrPortFrom(outer(ix), uint16(w.nextPort.Add(1))), receive)
		},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	out, in := w.listen(at(outer(ix))), w.listen(at(inside(ix)))
	h := w.host(Config{Outer: []link.Socket{out}, Inside: []link.Socket{in}, Forwarder: g})
	h.gateway, h.outer, h.inside = g, out, in
	h.table = Table{
		Own: identity.Index(ix), Peers: map[netip.Addr]bool{}, Nodes: map[netip.Addr]bool{}, DataPort: dataPort,
	}
	var all []gateway.Node
	for other := 1; other <= nodes; other++ {
		h.table.Nodes[outer(other)] = true
		h.table.Peers[inside(other)] = other != ix
		all = append(all, gateway.Node{
			Index: identity.Index(other), Outer: at(outer(other)), Alive: true,
		})
	}
	g.Publish(gateway.NewNodes(all))
	return h
}

func key(t testing.TB, b byte) esp.Key {
	k, err := esp.NewKey(esp.AES256GCM, bytes.Repeat([]byte{b}, 36))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// sas makes one direction of a slice.
func sas(t testing.TB, spi uint32, material byte) (*esp.Outbound, *esp.Inbound) {
	o, err := esp.NewOutbound(spi, key(t, material), esp.DefaultLimits(), nil)
	if err != nil {
		t.Fatal(err)
	}
	i, err := esp.NewInbound(spi, key(t, material), esp.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	return o, i
}

// slice gives the client a slice on a node, through gateway 1. The SPI in use
// differs from that of the grant, as after a rekey.
func (w *world) slice(ix, n int, port uint16) {
	up, upIn := sas(w.t, spiOf(ix, 70), byte(10+2*n))
	down, downIn := sas(w.t, uint32(1000+n), byte(11+2*n))
	socket := w.listen(netip.AddrPortFrom(netip.MustParseAddr("198.51.100.7"), port))
	c := &Pair{In: downIn, Out: up, Leases: []netip.Addr{lease()}, Socket: socket}
	c.SetPath(to(at(outer(1))))
	a := &Pair{In: upIn, Out: down, Leases: []netip.Addr{lease()}, Agent: true, Socket: w.nodes[ix].outer}
	a.SetRule(admit.Any())
	w.client.in[uint32(1000+n)] = c
	w.nodes[ix].in[spiOf(ix, 70)] = a
	w.nodes[ix].granted[spiOf(ix, 7)] = a
	w.pairs[ix] = [2]*Pair{c, a}
}

// link gives two nodes an SA pair, and both refuse what comes in clear.
func (w *world) link(a, b int) {
	there, thereIn := sas(w.t, spiOf(b, 900), 90)
	back, backIn := sas(w.t, spiOf(a, 900), 91)
	for ix, pair := range map[int]*Pair{a: {In: backIn, Out: there, Node: identity.Index(b)}, b: {In: thereIn, Out: back, Node: identity.Index(a)}} {
		t := &w.nodes[ix].table
		t.Sealed, t.Links = true, map[uint32]*Pair{pair.In.SPI(): pair}
	}
}

// route is the slices as seen by the client (0) or by an egress.
func (w *world) route(agents []int, egress int) *Route {
	r := &Route{Set: &slicing.Set{}, Spread: NewSpread(1), Rule: admit.Any()}
	for _, ix := range agents {
		s := RouteSlice{SPI: spiOf(ix, 7), HandOn: new(to(at(inside(ix))))}
		switch egress {
		case 0:
			s.Pair = w.pairs[ix][0]
		case ix:
			s.Pair = w.pairs[ix][1]
		}
		r.Slices = append(r.Slices, s)
		r.Set.Weights = append(r.Set.Weights, 1)
	}
	return r
}

// publish gives the host's engine its table.
func (h *host) publish() {
	h.table.In, h.table.Granted, h.table.Routes = pages.Numbered(h.in), pages.Numbered(h.granted), pages.At(h.routes)
	h.engine.Publish(&h.table)
}

// start publishes all tables and starts all engines.
func (w *world) start() {
	watch := time.AfterFunc(hangLimit, func() {
		w.hung.Store(true)
		for _, h := range w.nodes {
			_ = h.device.Close()
		}
		_ = w.client.device.Close()
	})
	w.t.Cleanup(func() { watch.Stop() })
	for _, h := range w.nodes {
		h.publish()
		if err := h.engine.Start(); err != nil {
			w.t.Fatal(err)
		}
	}
	w.client.publish()
	if err := w.client.engine.Start(); err != nil {
		w.t.Fatal(err)
	}
	for _, p := range w.pairs {
		if err := w.client.engine.Attach(p[0].Socket); err != nil {
			w.t.Fatal(err)
		}
	}
}

// stop closes everything and holds I8 at every engine and gateway.
func (w *world) stop() {
	w.t.Helper()
	hosts := []*host{w.client}
	for _, h := range w.nodes {
		hosts = append(hosts, h)
	}
	for _, h := range hosts {
		if err := h.engine.Close(); err != nil {
			w.t.Error(err)
		}
		if s := h.engine.Stats(); s.Balance() != 0 {
			w.t.Errorf("I8: %d packets unaccounted for: %+v", s.Balance(), s)
		}
		if h.gateway == nil {
			continue
		}
		if err := h.gateway.Close(); err != nil {
			w.t.Error(err)
		}
		s := h.gateway.Stats()
		left := s.Received - s.Forwarded - s.Answered
		for _, d := range s.Dropped {
			left -= d
		}
		if left != 0 {
			w.t.Errorf("I8: gateway: %d datagrams unaccounted for: %+v", left, s)
		}
	}
}

// stream is a TCP-like flow for one direction.
type stream struct {
	src, dst string
	seq      uint32
	data     []byte
}

// inject sends the stream as super-packets of up to 60,000 bytes.
func (s *stream) inject(t testing.TB, d *tuntest.Device) {
	t.Helper()
	for done := 0; done < len(s.data); {
		n := min(60000, len(s.data)-done)
		h, p := NewTCP(s.src, s.dst, s.seq+uint32(done), s.data[done:done+n]).Super(1300)
		if !d.Inject(h, p) {
			t.Fatal("device full")
		}
		done += n
	}
}

// collect takes what the devices write until the whole stream is there, in
// any order, and compares.
func (s *stream) collect(t testing.TB, devices ...*tuntest.Device) (packets int) {
	t.Helper()
	got := make([]byte, len(s.data))
	for missing := len(s.data); missing > 0; packets++ {
		p, ok := next(devices)
		if !ok {
			t.Fatalf("device closed with %d bytes missing", missing)
		}
		headers := 20 + int(p.Data[32]>>4)*4
		if p.Header.GSOType == tun.GSONone && !Sound(p.Data) {
			t.Fatal("packet with a wrong checksum")
		}
		at := binary.BigEndian.Uint32(p.Data[24:]) - s.seq
		copy(got[at:], p.Data[headers:])
		missing -= len(p.Data) - headers
	}
	if !bytes.Equal(got, s.data) {
		t.Fatal("the stream arrived changed")
	}
	return packets
}

// next waits for a packet on any of the devices.
func next(devices []*tuntest.Device) (tuntest.Packet, bool) {
	if len(devices) == 1 {
		return devices[0].Wait()
	}
	for end := time.Now().Add(hangLimit); time.Now().Before(end); {
		for _, d := range devices {
			if p, ok := d.Take(); ok {
				return p, true
			}
		}
		yield()
	}
	return tuntest.Packet{}, false
}

// wait waits until something is so.
func (w *world) wait(until func() bool) {
	w.t.Helper()
	for !until() {
		if w.hung.Load() {
			w.t.Fatal("waited in vain")
		}
		yield()
	}
}

// known waits until agents know where their client is.
func (w *world) known(agents ...int) {
	w.t.Helper()
	for _, ix := range agents {
		w.wait(func() bool {
			path, ok := w.pairs[ix][1].Path()
			return ok && w.pairs[ix][1].Proven(path.Remote)
		})
	}
}

func yield() { runtime.Gosched() }
