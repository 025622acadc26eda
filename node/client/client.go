// Package client is the client's half: it opens a session with the arbiter
// through any gateway, agrees keys with the agent of every slice, keeps each
// slice under probes, moves to another gateway when all fall silent, and
// resumes without a password when its control connection breaks.
//
// One control loop owns all of its state. The package does not touch packets
// (node/dataplane), nor the host's routes (node/host), and it never decides
// who serves it: it only says which slices are silent.
package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/esp"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/crypto/mka"
	"github.com/meshcrypt/meshcrypt/mesh/link"
	"github.com/meshcrypt/meshcrypt/node/dataplane"
	"github.com/meshcrypt/meshcrypt/node/host"
	"github.com/meshcrypt/meshcrypt/node/pmtu"
	"github.com/meshcrypt/meshcrypt/node/protocol"
	"github.com/meshcrypt/meshcrypt/node/said"
	"github.com/meshcrypt/meshcrypt/node/turns"
	"github.com/meshcrypt/meshcrypt/slicing"
)

// Why Run ended by itself.
var (
	ErrEnded = errors.New("client: the session is over")
	// ErrRevoked is beside ErrEnded where the client is not to come again as it is.
	ErrRevoked = errors.New("client: this client is revoked")
	// ErrUnreachable is for the first connection only: a session that was
	// open is resumed for as long as headless time lasts.
	ErrUnreachable = errors.New("client: no gateway led to an arbiter")
	ErrHeadless    = errors.New("client: no word from an arbiter for too long")
)

// Host shapes the client's own stack around the session.
type Host interface {
	// Up gives the leases to the TUN and routes the pushed prefixes into it.
	Up(leases []netip.Addr, update protocol.Update) error
	// SetMTU makes the TUN's MTU that of the session. Until then it is
	// pmtu.MinMTU.
	SetMTU(mtu int) error
}

// Config is what a Client is built from; all fields are required unless said
// otherwise.
type Config struct {
	Profile Profile
	// Tick is how often the client looks after itself; 0: TickEvery. It is longer where
	// thousands are one process, as in a load generator.
	Tick time.Duration
	// ParkAfter is after how much rest the client asks whether it may park, and how soon it
	// asks again; 0: ParkAfter. It is shorter where a run is, as in the simulation.
	ParkAfter time.Duration
	// Login authenticates the first hello; resumption needs it no more.
	Login func(binding Binding) (Login, error)
	// Bandwidth wanted in bit/s; 0 leaves it to the mesh.
	Bandwidth uint64
	Device    mka.DeviceID  // whose earlier session a login ends; zero: the session key stands for it
	Mode      registry.Mode // wanted; empty leaves it to the mesh
	Shares    registry.Shares
	Peer      string // node to reach itself; empty: none
	SprayUDP  bool   // wanted: one flow of UDP may take several slices
	// Suites are offered for the session, best first; the same at every resumption.
	Suites []esp.Suite
	Engine *dataplane.Engine
	Host   Host
	// Network is watched for changes; nil leaves them to silence.
	Network Network
	// Dial connects to a gateway, for the control connection and where UDP is blocked; nil
	// is the host's own way.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Open makes the socket of one slice; each agent gets its own source port.
	Open   func() (link.Socket, error)
	Ledger esp.Ledger // nil in production
	// KeyLog hears of every traffic key; nil but in test builds (I1).
	KeyLog func(spi uint32, key esp.Key)
	// Mark is put on the control connection's packets (SO_MARK), so that
	// they do not follow the routes into the tunnel.
	Mark int
	// Ready is called once the arbiter confirmed a slice; may be nil.
	Ready func()
	// Waiting is called once when a first login does not get through at once,
	// with why not and for how long it is tried; may be nil.
	Waiting func(err error, within time.Duration)
	Random  io.Reader
	// Now is CLOCK_BOOTTIME; Wall is for certificates.
	Now  func() time.Duration
	Wall func() time.Time
	Log  *slog.Logger
}

// Login is what a client proves of itself, and how it has the mesh prove itself.
type Login struct {
	Auth protocol.Auth
	// Confirm judges the welcome's proof; nil: the CA's word is enough.
	Confirm func(proof []byte) error
}

// Client runs one session. Run may be called once.
type Client struct {
	config Config
	key    identity.Key // of the session: resumes it
	// request is the first login's, however often it is tried until it is refused: an answer
	// that was lost must not leave a session that nobody knows (design 5). The dialer's.
	request  [16]byte
	events   chan event
	outside  chan event // what strangers may cause, apart: they may cause much
	refusals refusals   // of what came from outside
	inband   *turns.Queue[sliceKey, event]
	failed   chan error

	session   *session // nil before the first welcome
	slices    map[sliceKey]*slice
	ended     uint64 // bytes that slices and keys moved that there are no more
	gateways  gatewayList
	transport transport
	control   *controlState // nil while no arbiter is heard
	parking   parking
	redial    chan haste              // asks the dialer to hurry
	attempts  uint64                  // of control connections; the dialer's
	queues    bool                    // the present one takes no appointment; the dialer's
	nextWait  atomic.Int64            // before the next attempt, if this one does not last
	onLast    atomic.Bool             // without a connection: one slice is left, and none on its way
	dialing   atomic.Pointer[attempt] // the dialer's present one
	appointed atomic.Pointer[appointment]
	stuck     atomic.Bool // it has packets, and nobody carries them
	unsent    unsent
	life      life        // TLS connections; has a lock of its own
	copied    atomic.Bool // this machine was, and nothing was done about it yet
	exit      host.Exit   // to the gateway in use, as last seen
	wordAt    time.Duration
	stood     bool // this process stood still for long since that word
	stalls    said.Line
	outdated  bool // a connection under way may have named slices that are gone
	tickAt    time.Duration
	calm      calm
	aliveAt   time.Duration
	auto      slicing.Auto // step 0: a slice per flow, 1: spraying
	spreading slicing.Mode // how runs are spread now
	flow      slicing.Dataflow
	spread    *dataplane.Spread
	mtu       int         // of the session: what any slice carries
	path      pmtu.Search // of the way that was settled last; zero: nothing is known
	dirty     bool

	pathDoubted bool // this host's network is another one since
}

// session is what the arbiter said in its welcome.
type session struct {
	welcome protocol.Welcome
	ready   bool // at least one slice carried traffic both ways
	resumed bool // once or more
}

type event interface{ apply(*Client) }

// New prepares a client.
func New(config Config) (*Client, error) {
	if len(config.Profile.Gateways) == 0 {
		return nil, fmt.Errorf("%w: no gateway", ErrProfile)
	}
	key, err := identity.NewKey(config.Random)
	if err != nil {
		return nil, err
	}
	var request [16]byte
	if _, err := io.ReadFull(config.Random, request[:]); err != nil {
		return nil, err
	}
	return &Client{
		config:    config,
		key:       key,
		request:   request,
		events:    make(chan event, MaxEvents),
		outside:   make(chan event, MaxOutside),
		inband:    turns.New[sliceKey, event](MaxControlEach, MaxControl),
		failed:    make(chan error, 1),
		slices:    make(map[sliceKey]*slice),
		gateways:  gatewayList{all: config.Profile.Gateways},
		auto:      slicing.NewAuto(1),
		spreading: slicing.Pin,
		spread:    dataplane.NewSpread(config.Engine.Queues()),
		redial:    make(chan haste, 1),
		mtu:       pmtu.MinMTU,
		transport: transport{wanted: make(chan netip.AddrPort, 1)},
		wordAt:    config.Now(),
		tickAt:    config.Now(),
	}, nil
}

// Run is the control loop. It returns nil when ctx ends (after saying bye), or
// why the session cannot go on.
func (c *Client) Run(ctx context.Context) error {
	// The connection outlives ctx: a clean end is said over it.
	dialCtx, stop := context.WithCancel(context.WithoutCancel(ctx))
	dialed := make(chan struct{})
	go func() {
		defer close(dialed)
		c.keepControl(dialCtx)
	}()
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		c.watchNetwork(dialCtx)
	}()
	guarded := make(chan struct{})
	go func() {
		defer close(guarded)
		c.watchGeneration(dialCtx)
	}()
	streamed := make(chan struct{})
	go func() {
		defer close(streamed)
		c.keepStreams(dialCtx)
	}()
	err := c.loop(ctx)
	if err == nil {
		c.comeToPart()
	}
	c.sayBye(err)
	stop()
	c.drain(dialed)
	c.drain(watched)
	c.drain(guarded)
	c.drain(streamed)
	c.closeSlices()
	c.closeStreams()
	return err
}

func (c *Client) loop(ctx context.Context) error {
	c.config.Engine.Tick() // who sleeps before the first tick has slept, too
	ticker := time.NewTicker(cmp.Or(c.config.Tick, TickEvery))
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-c.failed:
			return err
		case e := <-c.events:
			c.turn(e)
		case e := <-c.outside:
			c.turn(e)
		case <-c.inband.Ready():
			if e, ok := c.inband.Take(); ok {
				c.turn(e)
			}
		case <-ticker.C:
			c.tick()
		}
		c.publishIfDirty()
	}
}

// turn applies an event, after the tick that is overdue: keys whose time is
// over must not answer what waited in the queue while this process stood still.
func (c *Client) turn(e event) {
	c.superviseCopies()
	if c.config.Now()-c.tickAt > dataplane.StallLimit {
		c.tick()
	}
	c.calm.is = false
	e.apply(c)
}

// drain keeps the queue moving until one who fills it has ended.
func (c *Client) drain(ended chan struct{}) {
	for {
		select {
		case <-ended:
			return
		case e := <-c.events:
			discard(e)
		}
	}
}

// discard closes a stream that came too late to be used.
func discard(e event) {
	if late, ok := e.(streamOpened); ok && late.stream != nil {
		late.stream.Close()
	}
}

// fail ends Run with the first reason given.
func (c *Client) fail(err error) {
	select {
	case c.failed <- err:
	default:
	}
}

func (c *Client) tick() {
	now := c.config.Now()
	c.tickAt = now
	c.superviseCopies()
	c.superviseEngine(now)
	c.superviseFloods()
	if c.undisturbed(now) {
		return
	}
	c.superviseNetwork()
	c.superviseKeys(now)
	c.superviseAccepts(now)
	c.tellUps(now, true)
	c.superviseLiveness(now)
	c.superviseSizes(now)
	c.superviseTransport(now)
	c.superviseDirect(now)
	c.superviseDataflow(now)
	c.superviseMode(now)
	c.superviseRetired(now)
	c.superviseStuck(now)
	c.superviseParking(now)
	c.superviseControl(now)
	c.noteCalm(now)
}

// speaks lets an agent's message wait for its slice's turn: an agent that says too
// much loses its own, and no other's.
func (c *Client) speaks(key sliceKey, payload []byte) {
	if c.inband.Full(key) || !c.inband.Put(key, controlMessage{key, append([]byte(nil), payload...)}) {
		c.refusals.control.Add(1)
	}
}

func (c *Client) must(ctx context.Context, e event) {
	select {
	case c.events <- e:
	case <-ctx.Done():
	}
}

// publishIfDirty hands the engine a new table: one default route over every
// slice that may carry traffic.
func (c *Client) publishIfDirty() {
	if !c.dirty {
		return
	}
	c.dirty = false
	c.config.Engine.Publish(c.table())
}
