package agent

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/esp"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/crypto/mka"
	"github.com/meshcrypt/meshcrypt/mesh/link"
	"github.com/meshcrypt/meshcrypt/mesh/link/linktest"
	"github.com/meshcrypt/meshcrypt/node/admit"
	"github.com/meshcrypt/meshcrypt/node/dataplane"
	"github.com/meshcrypt/meshcrypt/node/gateway"
	"github.com/meshcrypt/meshcrypt/node/loop"
	"github.com/meshcrypt/meshcrypt/node/pages"
	"github.com/meshcrypt/meshcrypt/node/probe"
	"github.com/meshcrypt/meshcrypt/node/protocol"
	"github.com/meshcrypt/meshcrypt/node/tun/tuntest"
)

const hangLimit = 30 * time.Second

// fixture is an agent whose loop the test itself turns: events and ticks happen
// when it says so, by a clock of its own. Packets are real, over the twins.
type fixture struct {
	testing.TB
	*Agent
	index      identity.Index
	sim        *linktest.Network
	device     *tuntest.Device
	host       *movingHost
	clock      atomic.Int64
	arbiter    identity.Key
	line       *scriptedLine    // of the present stream
	said       []*protocol.Node // to the arbiter, not yet asked for
	left       []string
	behind     map[identity.NodeID][]registry.Part // whose flows to copy
	replica    *protocol.Replica
	history    []protocol.Known
	insideMTU  int              // of the inside interface
	next       byte             // numbers sessions
	faults     []string         // of the host
	fences     []protocol.Fence // saved
	unsaved    error            // why a fence cannot be
	superseded bool
}

// movingHost remembers which inside addresses are held.
type movingHost struct {
	held   map[netip.Addr]bool
	hidden map[netip.Prefix]netip.Addr
	reach  pages.Addresses[*admit.Rule]
	fail   error
}

func (h *movingHost) HoldAddress(a netip.Addr) error {
	if h.fail == nil {
		h.held[a] = true
	}
	return h.fail
}

func (h *movingHost) Hide(part netip.Prefix, behind netip.Addr) error {
	if h.hidden == nil {
		h.hidden = map[netip.Prefix]netip.Addr{}
	}
	h.hidden[part] = behind
	return h.fail
}

func (h *movingHost) Reach(reach pages.Addresses[*admit.Rule]) { h.reach = reach }

func (h *movingHost) ReleaseAddress(a netip.Addr) error {
	delete(h.held, a)
	return h.fail
}

// scriptedLine is the connection of an arbiter's stream that nobody reads from.
type scriptedLine struct {
	net.Conn
	closed chan struct{}
	once   sync.Once
}

func newScriptedLine() *scriptedLine { return &scriptedLine{closed: make(chan struct{})} }

func (l *scriptedLine) Read([]byte) (int, error)         { <-l.closed; return 0, io.EOF }
func (l *scriptedLine) Write(b []byte) (int, error)      { return len(b), nil }
func (l *scriptedLine) SetReadDeadline(time.Time) error  { return nil }
func (l *scriptedLine) SetWriteDeadline(time.Time) error { return nil }
func (l *scriptedLine) Close() error                     { l.once.Do(func() { close(l.closed) }); return nil }

func (l *scriptedLine) isClosed() bool {
	select {
	case <-l.closed:
		return true
	default:
		return false
	}
}

// stream is what the agent makes of the line.
func (f *fixture) stream() Stream {
	return Stream{Stream: loop.New(f.line, protocol.NewStream, loop.Nodes(), MaxOutbox), Arbiter: f.arbiter.Public()}
}

const (
	own      = identity.Index(1)
	dataPort = 6484
	inPort   = 6486
)

func inside(ix identity.Index) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 0, byte(ix)}) }
func outer(ix identity.Index) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(ix)}), dataPort)
}
func idOf(ix identity.Index) identity.NodeID { return identity.PublicKey{byte(ix)}.ID() }
func probeKey() []byte                       { return []byte("0123456789abcdef0123456789abcdef") }

func newFixture(t testing.TB) *fixture {
	t.Helper()
	return newFixtureIn(t, linktest.New(1), own)
}

// newFixtureIn is a further node of a network.
func newFixtureIn(t testing.TB, sim *linktest.Network, index identity.Index) *fixture {
	t.Helper()
	f := &fixture{TB: t, sim: sim, index: index, device: tuntest.New(1), host: &movingHost{held: map[netip.Addr]bool{}}}
	f.clock.Store(int64(time.Hour))
	f.arbiter = f.key()
	f.Agent = New(f.config(), protocol.Fence{Incarnation: 1, Term: 5})
	f.ok(f.Agent.config.Engine.Start())
	t.Cleanup(func() {
		f.ok(errors.Join(f.Agent.config.Engine.Close(), f.Agent.config.Gateway.Close()))
	})
	return f
}

func (f *fixture) config() Config {
	f.Helper()
	out, err := f.sim.Listen(outer(f.index))
	f.ok(err)
	in, err := f.sim.Listen(netip.AddrPortFrom(inside(f.index), inPort))
	f.ok(err)
	forwarder, err := gateway.New(gateway.Config{Clock: f.clock.Load, OpenPort: func(func([]byte, link.Train)) (link.Sender, error) {
		return nil, link.ErrClosed
	}})
	f.ok(err)
	engine, err := dataplane.New(dataplane.Config{
		Device: f.device, Outer: []link.Socket{out}, Inside: []link.Socket{in}, Clock: f.clock.Load, Forwarder: forwarder,
		Marked: func(from link.Socket, path link.Path, m dataplane.Marker, d []byte) {
			f.Agent.ReceiveMarked(from, path, m, d)
		},
	})
	f.ok(err)
	return Config{
		Key: f.key(), Boot: identity.BootID{7}, Index: f.index, Port: dataPort, InsidePort: inPort,
		InsideMTU: func() int { return f.insideMTU },
		Engine:    engine, Gateway: forwarder, Host: f.host, Inside: in, Outer: out,
		Dial:   func(context.Context) (Stream, error) { return Stream{}, errors.New("no arbiter here") },
		Facts:  func() protocol.NodeHello { return protocol.NodeHello{Version: "test"} },
		Faults: func() []string { return f.faults },
		Load:   func() protocol.Load { return protocol.Load{Used: 0.25} }, Learned: func([]protocol.NodeRow, protocol.Fence, *protocol.View) {},
		Follow:     func(behind map[identity.NodeID][]registry.Part) { f.behind = behind },
		Fenced:     func(fence protocol.Fence) error { f.fences = append(f.fences, fence); return f.unsaved },
		Superseded: func() { f.superseded = true },
		Told:       func(k protocol.Known) { f.history = append(f.history, k) },
		Standby:    func(protocol.Standby) {}, Replica: func() *protocol.Replica { return f.replica }, Left: func(reason string) { f.left = append(f.left, reason) },
		Random: rand.Reader, Now: func() time.Duration { return time.Duration(f.clock.Load()) },
		Log: slog.New(slog.DiscardHandler),
	}
}

func (f *fixture) ok(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

func (f *fixture) key() identity.Key {
	f.Helper()
	k, err := identity.NewKey(rand.Reader)
	f.ok(err)
	return k
}

// do gives the loop one event, as Run does.
func (f *fixture) do(e event) {
	f.turn(e)
	f.publishIfDirty()
	f.pump()
}

// pump takes what packet workers queued, and what was said to the arbiter.
func (f *fixture) pump() {
	for {
		select {
		case e := <-f.outside:
			f.turn(e)
			f.publishIfDirty()
			continue
		case e := <-f.events:
			f.turn(e)
			f.publishIfDirty()
			continue
		case e := <-f.nodes:
			f.turn(e)
			f.publishIfDirty()
			continue
		case e := <-f.handshakes:
			f.turn(e)
			f.publishIfDirty()
			continue
		case <-f.inband.Ready():
			if e, ok := f.inband.Take(); ok {
				f.turn(e)
				f.publishIfDirty()
			}
			continue
		default:
		}
		if f.Agent.stream == nil {
			return
		}
		m := f.Agent.stream.Take()
		if m == nil {
			return
		}
		f.said = append(f.said, m)
	}
}

// advance lets time pass in ticks.
func (f *fixture) advance(d time.Duration) {
	for ; d > 0; d -= TickEvery {
		f.clock.Add(int64(TickEvery))
		f.tick()
		f.publishIfDirty()
		f.pump()
	}
}

// until turns the loop, without time passing, until something is so.
func (f *fixture) until(what string, holds func() bool) {
	f.Helper()
	for end := time.Now().Add(hangLimit); !holds(); f.pump() {
		if time.Now().After(end) {
			f.Fatalf("never happened: %s", what)
		}
		runtime.Gosched()
	}
}

// open gives the agent a new stream of the arbiter, not fenced yet.
func (f *fixture) open() *streamState {
	f.line = newScriptedLine()
	s := &streamState{Stream: f.stream()}
	f.do(streamOpened{s})
	return s
}

// obey opens a stream and passes its fence.
func (f *fixture) obey(term uint64) *streamState {
	s := f.open()
	f.hear(&protocol.Node{Fence: &protocol.Fence{Incarnation: 1, Term: term}})
	return s
}

// hear is a message of the present stream, as serveStream passes it on.
func (f *fixture) hear(m *protocol.Node) {
	if s := f.Agent.stream; !f.Agent.keepFence(m.Fence) {
		s.Close()
	} else {
		f.do(received{s, m})
	}
}

// saying takes from what was said what picks chooses.
func saying[M any](f *fixture, picks func(*protocol.Node) *M) (all []*M) {
	var rest []*protocol.Node
	for _, m := range f.said {
		if picked := picks(m); picked != nil {
			all = append(all, picked)
		} else {
			rest = append(rest, m)
		}
	}
	f.said = rest
	return all
}

// view is a mesh of count nodes, this one among them.
func (f *fixture) view(count int) *protocol.View {
	v := &protocol.View{
		Full: true, Pool: []netip.Prefix{netip.MustParsePrefix("10.77.0.0/24")}, ProbeKey: probeKey(),
		Policy: &registry.Policy{Headless: 900},
	}
	for ix := own; ix <= identity.Index(count); ix++ {
		row := protocol.NodeRow{ID: idOf(ix), Name: string(rune('a' + ix)), Index: ix, Outer: outer(ix), Inside: inside(ix), Up: true}
		if ix == f.index {
			row.ID = f.Agent.config.Key.ID()
		}
		v.Nodes = append(v.Nodes, row)
	}
	return v
}

// onlyPart is the pool's one part.
func (f *fixture) onlyPart() *part {
	for _, p := range f.Agent.view.parts {
		return p
	}
	return nil
}

// answer is a node's reply to the last probe of a kind.
func (f *fixture) answer(from identity.Index, asked byte) {
	f.reply(probe.Node{From: from, Asked: asked})
}

// reply is that with all that it says but for its number.
func (f *fixture) reply(m probe.Node) {
	m.Type, m.Sequence = probe.TypeReply, f.probes.sequence
	f.do(nodeDatagram{m})
}

// customer is a client with one slice at the agent.
type customer struct {
	*fixture
	key     identity.Key
	grant   mka.Grant
	share   mka.Share
	rule    *protocol.RuleRow // told with the grant
	signed  mka.SignedGrant
	machine *mka.Client
	accept  []byte
	socket  *linktest.Socket
	pair    *dataplane.Pair // to seal with
}

// offered is the newest prekeys said to the arbiter.
func (f *fixture) offered() (keys []mka.SignedPrekey) {
	for _, p := range saying(f, func(m *protocol.Node) *protocol.Prekeys { return m.Prekeys }) {
		if p.Fresh {
			keys = nil
		}
		for _, k := range p.Keys {
			keys = append(keys, k)
		}
	}
	return keys
}

// customer makes a client and the grant of its slice on a prekey.
func (f *fixture) customer(sp mka.SignedPrekey, edit func(*mka.Grant)) *customer {
	f.Helper()
	f.next++
	c := &customer{fixture: f, key: f.key()}
	hello := mka.Hello{Versions: []uint16{mka.Version}, Suites: []esp.Suite{esp.AES256GCM}, SessionKey: c.key.Public()}.Marshal()
	p, err := mka.ParsePrekey(sp)
	f.ok(err)
	c.share = mka.Share{f.next}
	c.grant = mka.Grant{
		Version: mka.Version, Cluster: identity.ClusterID{1}, Incarnation: f.floor.Incarnation, Term: f.floor.Term, Index: 9, Session: [16]byte{f.next},
		Epoch: 1, Suite: esp.AES256GCM, Weight: 1, Mode: "burst", Agent: p.Agent, AgentKey: p.AgentKey, Boot: p.Boot,
		SPI: p.SPI, Gateways: []netip.AddrPort{outer(2)}, SessionKey: c.key.Public(),
		Leases: []netip.Addr{netip.AddrFrom4([4]byte{10, 77, 0, 16 + f.next})}, HelloHash: mka.HashHello(hello),
	}
	if edit != nil {
		edit(&c.grant)
	}
	c.signed = mka.SignGrant(f.arbiter, c.grant)
	var keys mka.Keys
	share := c.share
	c.machine, c.accept, keys, err = mka.NewClient(rand.Reader, c.key, c.signed, f.arbiter.Public(), sp, &share, hello, 1000+uint32(f.next))
	f.ok(err)
	c.socket, err = f.sim.Listen(netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, f.next}), 40000))
	f.ok(err)
	c.pair = c.seal(keys)
	return c
}

func (c *customer) seal(keys mka.Keys) *dataplane.Pair {
	c.Helper()
	in, err := esp.NewInbound(keys.SPIIn, keys.In, esp.DefaultLimits())
	c.ok(err)
	out, err := esp.NewOutbound(keys.SPIOut, keys.Out, esp.DefaultLimits(), nil)
	c.ok(err)
	p := &dataplane.Pair{In: in, Out: out, Socket: c.socket}
	p.SetPath(link.Path{Remote: outer(c.index)})
	return p
}

// granted has the agent take the grant; it returns its answer.
func (c *customer) granted() *protocol.SliceAck {
	c.Helper()
	c.hear(&protocol.Node{Grant: &protocol.Grant{Grant: c.signed, Share: bytes.Clone(c.share[:]), Rule: c.rule}})
	acks := saying(c.fixture, func(m *protocol.Node) *protocol.SliceAck { return m.Ack })
	if len(acks) != 1 {
		c.Fatalf("%d answers to a grant", len(acks))
	}
	return acks[0]
}

func (c *customer) sliceKey() sliceKey {
	return sliceKey{registry.SessionID(c.grant.Session), c.grant.Slice, c.grant.Epoch}
}

// up takes the slice to where both sides seal.
func (c *customer) up() *customer {
	c.Helper()
	c.keyed().ping()
	pair := c.Agent.slices.byKey[c.sliceKey()].pair
	c.until("the agent knows where its client is", func() bool {
		path, ok := pair.Path()
		return ok && pair.Proven(path.Remote)
	})
	return c
}

// keyed takes the slice to its Confirm; nothing was sealed yet.
func (c *customer) keyed() *customer {
	c.Helper()
	if ack := c.granted(); !ack.Ok {
		c.Fatalf("grant refused: %s", ack.Reason)
	}
	c.ok(c.socket.Send(c.accept, len(c.accept), link.Path{Remote: outer(own)}))
	c.ok(c.machine.Confirm(c.receive()))
	return c
}

// ping sends a probe and waits for its reply.
func (c *customer) ping() {
	c.Helper()
	c.ok(c.pair.SendControl(probe.Ask(1, 0)))
	if body := c.control(); body[0] != probe.KindReply {
		c.Fatalf("control message %d, want a reply", body[0])
	}
}

// receive waits for the agent's next datagram.
func (c *customer) receive() []byte {
	c.Helper()
	buffer := make([]byte, link.MaxTrain)
	var size int
	c.until("a datagram of the agent", func() bool {
		t, ok := c.socket.TryReceive(buffer)
		size = t.Len
		return ok
	})
	return buffer[:size]
}

// control waits for the agent's next control message. It shows where it is when it is
// asked, as a client does.
func (c *customer) control() []byte {
	c.Helper()
	for {
		body, _, _, err := c.pair.In.Open(c.receive())
		c.ok(err)
		echo, asked := probe.EchoSeen(body)
		if !asked {
			return body
		}
		c.ok(c.pair.SendControl(echo))
	}
}
