package arbiter

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus"
	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/crypto/mka"
	"github.com/meshcrypt/meshcrypt/crypto/pki"
	"github.com/meshcrypt/meshcrypt/crypto/vault"
	"github.com/meshcrypt/meshcrypt/node/clocks"
	"github.com/meshcrypt/meshcrypt/node/loop"
	"github.com/meshcrypt/meshcrypt/node/port"
	"github.com/meshcrypt/meshcrypt/node/protocol"
	"github.com/meshcrypt/meshcrypt/node/trust"
)

const hangLimit = 30 * time.Second

// memoryStore is the registry without a log: what is proposed is committed.
type memoryStore struct {
	mu      sync.Mutex // protects what follows
	state   *registry.State
	index   uint64
	denied  uint64 // of the newest revocation
	servers []consensus.Server
	log     []string // changes of the electorate, in order
	changes chan struct{}
	lose    func(registry.Command) loss // nil: no proposal is lost
	full    error                       // why no server can be added
	deposed error                       // why there is no barrier
	closed  map[identity.NodeID]bool    // servers whose Raft port does not answer
}

// loss is what becomes of a proposal.
type loss int

const (
	arrives loss = iota
	lost         // neither committed nor answered
	deaf         // committed, but the answer is lost
)

func (m *memoryStore) Propose(_ context.Context, c registry.Command) (registry.Result, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	fate := arrives
	if m.lose != nil {
		fate = m.lose(c)
	}
	if fate == lost {
		return registry.Result{}, consensus.ErrOutcomeUnknown
	}
	m.index++
	m.note(c.PutSecrets)
	select {
	case m.changes <- struct{}{}:
	default:
	}
	result := registry.Apply(m.state, m.index, 2, c)
	if fate == deaf {
		return registry.Result{}, consensus.ErrOutcomeUnknown
	}
	return result, nil
}

// note writes down who gets a data key; the caller holds mu.
func (m *memoryStore) note(c *registry.PutSecrets) {
	switch {
	case c == nil:
	case c.Generation > m.state.DataKey:
		m.log = append(m.log, "renew")
	default:
		for id := range c.Wraps {
			m.log = append(m.log, "wrap "+id[:8])
		}
	}
}

func (m *memoryStore) Enqueue(ctx context.Context, c registry.Command) (wait func() (registry.Result, error), err error) {
	r, err := m.Propose(ctx, c)
	return func() (registry.Result, error) { return r, err }, nil
}

func (m *memoryStore) Barrier(context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.deposed
}

func (m *memoryStore) Changes() <-chan struct{} { return m.changes }

func (m *memoryStore) View(read func(*registry.State)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	read(m.state)
}

func (m *memoryStore) Stats() consensus.Stats {
	m.mu.Lock()
	defer m.mu.Unlock()
	return consensus.Stats{Leader: true, Term: 2, Commit: m.index, Denied: m.denied}
}

// lostLeadership is one of the present term that the log has nothing of.
const lostLeadership = "lost"

func (m *memoryStore) Misses(k consensus.Known) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return k.Index > m.index || k.By == lostLeadership
}

func (m *memoryStore) answers(id identity.NodeID) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return !m.closed[id]
}

func (m *memoryStore) Reach(_ context.Context, id identity.NodeID) error {
	if !m.answers(id) {
		return errors.New("it does not answer")
	}
	return nil
}

func (m *memoryStore) Servers() []consensus.Server {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.servers)
}

func (m *memoryStore) change(what string, id identity.NodeID, voter, keep bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if keep && m.full != nil {
		return m.full
	}
	m.log = append(m.log, what+" "+id.Short())
	m.servers = slices.DeleteFunc(m.servers, func(s consensus.Server) bool { return s.ID == id })
	if keep {
		m.servers = append(m.servers, consensus.Server{ID: id, Voter: voter})
	}
	return nil
}

func (m *memoryStore) AddStandby(_ context.Context, id identity.NodeID) error {
	return m.change("standby", id, false, true)
}
func (m *memoryStore) AddVoter(_ context.Context, id identity.NodeID) error {
	return m.change("voter", id, true, true)
}
func (m *memoryStore) Demote(_ context.Context, id identity.NodeID) error {
	return m.change("demote", id, false, true)
}
func (m *memoryStore) RemoveServer(_ context.Context, id identity.NodeID) error {
	return m.change("remove", id, false, false)
}

// fixture is a founded mesh with one node, whose clocks the test sets.
type fixture struct {
	testing.TB
	store     *memoryStore
	authority *pki.Authority
	trust     *trust.Trust
	port      *port.Port
	ahead     atomic.Int64 // of the wall clock
	now       atomic.Int64
	arbiter   *Arbiter // once serving
	recovery  vault.Recipient
	joined    map[identity.NodeID]joiner // by member
	asked     []clocks.Reading           // what voters say of their clocks
}

func (f *fixture) wall() time.Time { return time.Now().Add(time.Duration(f.ahead.Load())) }

func (f *fixture) ok(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

func newFixture(t testing.TB) *fixture {
	t.Helper()
	f := &fixture{TB: t, store: &memoryStore{state: registry.New(), changes: make(chan struct{}, 1)}, joined: make(map[identity.NodeID]joiner)}
	f.now.Store(int64(time.Hour))
	key, err := identity.NewKey(rand.Reader)
	f.ok(err)
	wrap, err := vault.NewRecipient(rand.Reader)
	f.ok(err)
	cluster := identity.ClusterID{1, 2}
	f.authority, err = pki.NewAuthority(rand.Reader, cluster, time.Now())
	f.ok(err)
	f.recovery, err = vault.NewRecipient(rand.Reader)
	f.ok(err)
	f.joined[key.ID()] = joiner{key, wrap, "n1"}
	f.trust = f.trustOf(key.ID())
	f.port, err = port.Listen(netip.MustParseAddrPort("127.0.0.1:0"), nil, slog.New(slog.DiscardHandler))
	f.ok(err)
	t.Cleanup(func() { _ = f.port.Close() })
	f.found(key, wrap)
	return f
}

// trustOf is what a member keeps of its own.
func (f *fixture) trustOf(id identity.NodeID) *trust.Trust {
	f.Helper()
	j := f.joined[id]
	cert, err := f.authority.IssueNode(pki.MakeRequest(j.key), []string{"agent", "gateway", "voter"}, time.Now())
	f.ok(err)
	t, err := trust.New(trust.Config{
		Cluster: f.authority.Cluster(), CA: f.authority.Certificate(), Certificate: cert,
		Identity: j.key.Seed(), Wrap: j.wrap.Seed(), Save: func([]byte) error { return nil }, Wall: f.wall,
	})
	f.ok(err)
	return t
}

func (f *fixture) found(key identity.Key, wrap vault.Recipient) {
	f.Helper()
	data, err := vault.NewDataKey(rand.Reader, 1)
	f.ok(err)
	id := f.authority.Cluster()
	secrets := make(map[string]registry.Sealed)
	for name, secret := range map[string][]byte{SecretCA: f.authority.Seed(), SecretGossip: make([]byte, 32)} {
		box, err := data.Seal(rand.Reader, id, name, secret)
		f.ok(err)
		secrets[name] = registry.Sealed{Generation: 1, Box: box}
	}
	wrapped, err := vault.Wrap(data, wrap.Public(), id)
	f.ok(err)
	recovery, err := vault.Wrap(data, f.recovery.Public(), id)
	f.ok(err)
	pool := netip.MustParsePrefix("10.77.0.0/24")
	all := registry.RoleVoter | registry.RoleGateway | registry.RoleAgent
	f.commit(registry.Command{Found: &registry.Found{
		Cluster: registry.Cluster{ID: id, Incarnation: 1, CA: f.authority.Certificate(), Pool: []netip.Prefix{pool},
			Egress: registry.EgressRouted, Recovery: f.recovery.Public()},
		Parts: []registry.Part{{Prefix: pool, Epoch: 1}}, Secrets: secrets,
		Wraps: map[string][]byte{key.ID().String(): wrapped, registry.RecoveryWrap: recovery},
		Founder: registry.Node{
			Key: key.Public(), WrapKey: wrap.Public(), Name: "n1", May: all, Is: all,
			Outer: f.port.Addr(), Inside: netip.MustParseAddr("10.0.0.1"), Capacity: 1000,
		},
	}})
	f.store.servers = []consensus.Server{{ID: key.ID(), Voter: true}}
}

// commit applies a command that must take effect.
func (f *fixture) commit(c registry.Command) {
	f.Helper()
	rand.Read(c.ID[:])
	r, err := f.store.Propose(context.Background(), c)
	f.ok(errors.Join(err, r.Err()))
}

func (f *fixture) config() Config {
	return Config{
		Trust: f.trust, Store: f.store, Port: f.port, Random: rand.Reader, Wall: f.wall,
		Now: func() time.Duration { return time.Duration(f.now.Load()) },
		Log: slog.New(slog.DiscardHandler), Serving: func(*Arbiter) {}, Answers: f.store.answers,
		Clocks: func() []clocks.Reading { return f.asked },
	}
}

// serve runs a real term until the test ends.
func (f *fixture) serve() *fixture { f.Helper(); return f.serveAs(f.config()) }

// serveAs is the same with another configuration.
func (f *fixture) serveAs(config Config) *fixture {
	f.Helper()
	serving := make(chan *Arbiter, 2)
	config.Serving = func(a *Arbiter) { serving <- a }
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- Serve(ctx, config, 2) }()
	f.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			f.Errorf("the term ended with %v", err)
		}
	})
	select {
	case f.arbiter = <-serving:
	case err := <-ended:
		ended <- nil
		f.Fatalf("not serving: %v", err)
	case <-time.After(hangLimit):
		f.Fatal("never serves")
	}
	return f
}

// still is an arbiter whose loop the test itself turns.
func (f *fixture) still() *Arbiter { f.Helper(); return f.stillOn(f.trust) }

// stillOn is the same on another node.
func (f *fixture) stillOn(t *trust.Trust) *Arbiter {
	f.Helper()
	config := f.config()
	config.Trust = t
	a := newArbiter(config, 2)
	a.tickedAt, a.began = 0, 0
	f.ok(a.openSecrets())
	return a
}

// proposed takes what waits for the log.
func proposed(a *Arbiter) (all []registry.Command) {
	for {
		select {
		case p := <-a.proposals:
			all = append(all, p.command)
		default:
			return all
		}
	}
}

// rawConn is a TLS connection that leads nowhere: enough to be closed.
func rawConn(t testing.TB) *tls.Conn {
	near, far := net.Pipe()
	t.Cleanup(func() { near.Close(); far.Close() })
	return tls.Client(near, &tls.Config{InsecureSkipVerify: true})
}

// toClient is a client's stream that nobody runs.
func toClient(t testing.TB, room int) *loop.Stream[protocol.Client] {
	return loop.New(rawConn(t), protocol.NewAsked[protocol.Client], loop.Clients(), room)
}

// ended reports whether a stream has.
func ended[M any](s *loop.Stream[M]) bool {
	select {
	case <-s.Done():
		return true
	default:
		return false
	}
}

// stub is a node's stream without a connection.
func stub(t testing.TB, id identity.NodeID) *nodeStream {
	return &nodeStream{
		Stream: loop.New(rawConn(t), protocol.NewStream, loop.Nodes(), MaxOutbox),
		node:   id, hello: protocol.NodeHello{Reads: registry.CommandVersion, Standby: true}, prekeys: map[uint32]mka.SignedPrekey{},
		usage: map[sliceKey]moved{}, silent: map[identity.NodeID]bool{},
	}
}

// token commits a join token.
func (f *fixture) token(may registry.Roles, uses int, life registry.Tick) pki.Token {
	f.Helper()
	token, verify, err := pki.NewToken(rand.Reader, f.authority.Hash())
	f.ok(err)
	f.commit(registry.Command{CreateToken: &registry.CreateToken{Token: registry.Token{
		ID: token.ID, Verify: verify, May: may, Uses: uses, Expires: life,
	}}})
	return token
}

// dial opens TLS to the arbiter's port; cert is of a node, or nil.
func (f *fixture) dial(alpn string, cert *tls.Certificate) (*tls.Conn, error) {
	f.Helper()
	check := func(raw [][]byte) error {
		_, err := pki.VerifyArbiter(raw, f.authority.Hash(), f.authority.Cluster(), f.wall())
		return err
	}
	var own func() *tls.Certificate
	if cert != nil {
		own = func() *tls.Certificate { return cert }
	}
	dialer := tls.Dialer{Config: pki.Client(alpn, own, check)}
	ctx, cancel := context.WithTimeout(context.Background(), hangLimit)
	defer cancel()
	conn, err := dialer.DialContext(ctx, "tcp", f.port.Addr().String())
	if err != nil {
		return nil, err
	}
	f.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(hangLimit))
	return conn.(*tls.Conn), nil
}
