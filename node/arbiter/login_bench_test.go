package arbiter

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/esp"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/crypto/mka"
	"github.com/meshcrypt/meshcrypt/crypto/pki"
	"github.com/meshcrypt/meshcrypt/node/auth"
	"github.com/meshcrypt/meshcrypt/node/channel"
	"github.com/meshcrypt/meshcrypt/node/port"
	"github.com/meshcrypt/meshcrypt/node/protocol"
	"github.com/meshcrypt/meshcrypt/node/session"
)

// replicated is a memory store that does the work of three replicas: each entry is
// encoded once, and decoded and applied by all.
type replicated struct {
	*memoryStore
	others  []*registry.State
	entries atomic.Int64
}

func (r *replicated) Propose(ctx context.Context, c registry.Command) (registry.Result, error) {
	raw, err := registry.EncodeCommand(c)
	if err != nil {
		return registry.Result{}, err
	}
	r.entries.Add(1)
	for i, s := range r.others {
		again, err := registry.DecodeCommand(raw)
		if err != nil {
			return registry.Result{}, err
		}
		registry.Apply(s, r.index+1, 2, again)
		if i == 0 {
			c = again
		}
	}
	return r.memoryStore.Propose(ctx, c)
}

func (r *replicated) Enqueue(ctx context.Context, c registry.Command) (wait func() (registry.Result, error), err error) {
	result, err := r.Propose(ctx, c)
	return func() (registry.Result, error) { return result, err }, nil
}

var (
	benchPool   = netip.MustParsePrefix("10.64.0.0/14")
	benchOuter  = netip.MustParseAddrPort("192.0.2.9:6484")
	benchInside = netip.MustParseAddr("10.0.0.9")
)

// benchClients log in, so that no more logins of one are under way than one may guess.
const benchClients = 64

func benchClient(n int) string { return fmt.Sprint("c", n%benchClients) }

// benchAgent is an agent's end of its stream: it takes every grant.
type benchAgent struct {
	key  identity.Key
	cert *tls.Certificate
	boot identity.BootID
	row  *registry.Node
	held []protocol.SliceRef
	spi  uint32
	conn *protocol.Conn[protocol.Node]
}

func (f *fixture) benchAgent(n int) *benchAgent {
	f.Helper()
	j := f.joiner(fmt.Sprint("n", n))
	cert, err := f.authority.IssueNode(pki.MakeRequest(j.key), []string{"agent", "gateway"}, time.Now())
	f.ok(err)
	f.commit(registry.Command{JoinNode: &registry.JoinNode{Token: f.token(dataRoles, 1, 3600).ID, Node: registry.Node{
		Key: j.key.Public(), WrapKey: j.wrap.Public(), Name: j.name, Outer: benchOuter, Inside: benchInside, Capacity: 8000,
	}}})
	f.commit(registry.Command{SetRoles: &registry.SetRoles{ID: j.key.ID(), Is: dataRoles}})
	return &benchAgent{key: j.key, boot: identity.BootID{byte(n)}, row: f.store.state.Nodes[j.key.ID()],
		cert: pki.Certificate(j.key, cert, f.authority.Certificate())}
}

// slice is one granted on the next of its SPIs.
func (g *benchAgent) slice(number uint8) registry.Slice {
	g.spi++
	return registry.Slice{Number: number, Suite: 1, Agent: g.key.ID(), Boot: g.boot, SPI: uint32(g.row.Index)<<20 | g.spi, Weight: 1}
}

// serve opens its stream, and reads it until it ends.
func (g *benchAgent) serve(f *fixture) {
	raw, err := f.dial(port.ALPNStream, g.cert)
	f.ok(err)
	f.ok(raw.SetDeadline(time.Time{}))
	g.conn = protocol.NewStream(raw)
	f.ok(g.conn.Write(&protocol.Node{Hello: &protocol.NodeHello{
		Boot: g.boot, Held: g.held, Reads: registry.CommandVersion, Judges: true, Calls: true, Inside: benchInside, Capacity: 8000, Outer: benchOuter,
	}}))
	go func() {
		for {
			m, err := g.conn.Read()
			if err != nil {
				return
			}
			if m.Grant == nil {
				continue
			}
			grant, err := mka.ParseGrant(m.Grant.Grant, f.trust.Key.Public())
			ref := protocol.SliceRef{Session: grant.Session, Number: grant.Slice, Epoch: grant.Epoch}
			_ = g.conn.Write(&protocol.Node{Ack: &protocol.SliceAck{Slice: ref, Ok: err == nil}})
		}
	}()
}

// stock gives the arbiter prekeys.
func (g *benchAgent) stock(f *fixture, n int) {
	for n > 0 {
		var keys [][]byte
		for range min(n, 200) {
			g.spi++
			_, signed, err := mka.NewPrekey(rand.Reader, g.key, g.boot, uint32(g.row.Index)<<20|g.spi, 3600)
			f.ok(err)
			keys = append(keys, signed)
		}
		n -= len(keys)
		f.ok(g.conn.Write(&protocol.Node{Prekeys: &protocol.Prekeys{Keys: keys}}))
	}
}

// loginMesh is three agents, an arbiter, and sessions of three slices.
type loginMesh struct {
	*fixture
	store    *replicated
	agents   []*benchAgent
	password identity.Key
	asked    atomic.Uint32
	line     func() net.Conn // to the arbiter, if not by its port
}

func newLoginMesh(b testing.TB, sessions int) *loginMesh {
	m := &loginMesh{fixture: newFixture(b)}
	m.fixture.store.state.Feed = &registry.Feed{}
	widen(m.fixture.store.state)
	key, err := identity.NewKey(rand.Reader)
	m.ok(err)
	m.password = key
	for n := range benchClients {
		m.commit(registry.Command{PutClient: &registry.PutClient{Client: registry.Client{Name: benchClient(n), PasswordKey: key.Public()}}})
	}
	for n := range 3 {
		m.agents = append(m.agents, m.benchAgent(n+2))
	}
	for i := range sessions {
		m.open(i)
	}
	m.store = &replicated{memoryStore: m.fixture.store}
	for range 2 {
		m.store.others = append(m.store.others, m.fixture.store.state.Clone())
	}
	return m
}

// start serves a term to the agents, by the true time.
func (m *loginMesh) start() {
	config, began := m.config(), time.Now()
	config.Store = m.store
	config.Now = func() time.Duration { return time.Hour + time.Since(began) }
	m.serveAs(config)
	for _, g := range m.agents {
		g.serve(m.fixture)
	}
	m.until(func(a *Arbiter) bool { return len(a.nodes) == len(m.agents) && a.tickCount > ElectorateTicks })
}

// stock waits until each agent has given so many prekeys.
func (m *loginMesh) stock(n int) {
	for _, g := range m.agents {
		g.stock(m.fixture, n)
	}
	m.until(func(a *Arbiter) bool {
		for _, stream := range a.nodes {
			if len(stream.prekeys) < n {
				return false
			}
		}
		return true
	})
}

// until waits for the arbiter.
func (m *loginMesh) until(holds func(*Arbiter) bool) {
	pause := time.NewTicker(TickEvery)
	defer pause.Stop()
	for met := false; !met; <-pause.C {
		m.ok(m.arbiter.ask(context.Background(), func() { met = holds(m.arbiter) }))
	}
}

// widen gives the mesh a pool that is large enough.
func widen(s *registry.State) {
	s.Cluster.Pool, s.Parts = []netip.Prefix{benchPool}, []registry.Part{{Prefix: benchPool, Epoch: 1}}
}

// open commits a session whose client is away.
func (m *loginMesh) open(i int) {
	id := crowded(i)
	c := &registry.OpenSession{
		Session: registry.Session{ID: id, Client: benchClient(i), Request: registry.RequestID(id), Key: identity.PublicKey{1},
			Identity: make([]byte, 32), Hello: make([]byte, 32), Device: registry.DeviceID(id)},
		Part: benchPool, Track: true,
	}
	var marks []registry.MarkSlice
	for n, g := range m.agents {
		c.Slices = append(c.Slices, g.slice(uint8(n)))
		marks = append(marks, registry.MarkSlice{Session: id, Number: uint8(n), Epoch: 1, State: registry.SliceUp})
		g.held = append(g.held, protocol.SliceRef{Session: id, Number: uint8(n), Epoch: 1})
	}
	m.commit(registry.Command{OpenSession: c})
	m.commit(registry.Command{MarkSlices: &registry.MarkSlices{Marks: marks}})
}

// login is one client's, until it is told that replies find their way back.
func (m *loginMesh) login() { m.stay(true).Close() }

// stay is login, of a client that stays; leaves says that it knows the channel.
func (m *loginMesh) stay(leaves bool) *channel.Conn {
	secure := m.reach()
	conn := channel.Client(secure, nil)
	c := protocol.NewConn[protocol.Client](conn)
	m.introduce(secure, c, m.password, leaves)
	m.awaitUp(c)
	return conn
}

// reach is TLS to the arbiter, as a client has it.
func (m *loginMesh) reach() *tls.Conn {
	dial := func() net.Conn {
		raw, err := net.Dial("tcp", m.port.Addr().String())
		m.ok(err)
		return raw
	}
	if m.line != nil {
		dial = m.line
	}
	raw := dial()
	m.ok(raw.SetDeadline(time.Now().Add(hangLimit)))
	secure := tls.Client(channel.Below(raw), pki.Client(port.ALPNClient, nil, func(raw [][]byte) error {
		_, err := pki.VerifyArbiter(raw, m.authority.Hash(), m.authority.Cluster(), m.wall())
		return err
	}))
	m.ok(secure.Handshake())
	return secure
}

// introduce says who the next client is; by proves it.
func (m *loginMesh) introduce(secure *tls.Conn, c *protocol.Conn[protocol.Client], by identity.Key, leaves bool) {
	var id registry.RequestID
	nth := m.asked.Add(1)
	binary.BigEndian.PutUint32(id[4:], nth)
	user := benchClient(int(nth))
	key, err := identity.NewKey(rand.Reader)
	m.ok(err)
	hello := mka.Hello{Versions: []uint16{mka.Version}, Suites: []esp.Suite{esp.AES256GCM}, Request: id, SessionKey: key.Public()}.Marshal()
	state := secure.ConnectionState()
	exporter, err := state.ExportKeyingMaterial(mka.ExporterLabel, nil, mka.ExporterSize)
	m.ok(err)
	m.ok(c.Write(&protocol.Client{Hello: &protocol.Hello{Hello: hello, Signature: mka.SignHello(key, exporter, hello), Channel: leaves, Beats: true,
		Device: id[:], DeviceProof: mka.SignDevice(key, exporter, hello, mka.DeviceID(id))}}))
	proof := auth.SignPassword(by, auth.Binding{Exporter: [32]byte(exporter), Hello: sha256.Sum256(hello)}, user)
	m.ok(c.Write(&protocol.Client{Auth: &protocol.Auth{Method: protocol.MethodPassword, User: user, Proof: proof}}))
}

func (m *loginMesh) awaitUp(c *protocol.Conn[protocol.Client]) {
	for {
		said, err := c.Next()
		m.ok(err)
		switch {
		case said == nil: // a beat
		case said.Refused != nil:
			m.Fatalf("refused: %+v", said.Refused)
		case said.Welcome != nil && len(said.Welcome.Slices) != len(m.agents):
			m.Fatalf("%d slices", len(said.Welcome.Slices))
		case said.Welcome != nil:
			for _, o := range said.Welcome.Slices {
				grant, err := mka.ParseGrant(o.Grant, m.trust.Key.Public())
				m.ok(err)
				m.ok(c.Write(&protocol.Client{Up: &protocol.SliceRef{Session: grant.Session, Number: grant.Slice, Epoch: grant.Epoch}}))
			}
		case said.Up != nil:
			return
		}
	}
}

// handshake is one of TLS 1.3, both ends with a certificate.
func (m *loginMesh) handshake() {
	near, far := net.Pipe()
	no := func([][]byte) error { return nil }
	own := func() *tls.Certificate { return m.agents[0].cert }
	server := tls.Server(far, pki.Server("x", own, no))
	ended := make(chan error, 1)
	go func() { ended <- server.Handshake() }()
	client := tls.Client(near, pki.Client("x", own, no))
	m.ok(client.Handshake())
	m.ok(<-ended)
	near.Close()
	far.Close()
}

// cpu is what this process has used.
func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // cannot fail with these arguments
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// each is the CPU of f, which runs so often, so many at a time.
func each(times, together int, f func()) time.Duration {
	before := cpu()
	var wg sync.WaitGroup
	for n := range together {
		wg.Go(func() {
			for i := n; i < times; i += together {
				f()
			}
		})
	}
	wg.Wait()
	return (cpu() - before) / time.Duration(times)
}

// BenchmarkLogin is the CPU of a login beside 10,000 sessions, of client, arbiter, three
// replicas of the registry and the agents' streams together, beside that of a TLS
// handshake in which both ends prove a key. It lacks the disks, and what agents do with keys.
func BenchmarkLogin(b *testing.B) {
	for _, together := range []int{1, 32} {
		b.Run(fmt.Sprint(together, " at a time"), func(b *testing.B) {
			m := newLoginMesh(b, 10_000)
			handshake := each(200, 1, m.handshake)
			m.start()
			before := m.store.entries.Load()
			var used time.Duration
			done := 0
			for b.Loop() {
				b.StopTimer()
				m.stock(together)
				b.StartTimer()
				used += each(together, together, m.login)
				done++
			}
			login := used / time.Duration(done)
			b.ReportMetric(float64(login)/float64(handshake), "handshakes/login")
			b.ReportMetric(float64(login.Microseconds()), "cpu-us/login")
			b.ReportMetric(float64(handshake.Microseconds()), "cpu-us/handshake")
			b.ReportMetric(float64(m.store.entries.Load()-before)/float64(done*together), "entries/login")
		})
	}
}

// BenchmarkAtRest is the CPU of an arbiter, with two more replicas and the streams of
// three agents, of 10,000 sessions of which nothing is to be done.
func BenchmarkAtRest(b *testing.B) {
	m := newLoginMesh(b, 10_000)
	m.start()
	const settles, watched = session.RebuildGrace + time.Second, 10 * time.Second
	<-time.After(settles)
	for b.Loop() {
		before := cpu()
		<-time.After(watched)
		b.ReportMetric(100*float64(cpu()-before)/float64(watched), "%core")
	}
}
