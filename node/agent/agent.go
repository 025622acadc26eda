// Package agent is the obedient half of a node: it keeps one stream to the
// arbiter, holds the slices it was granted, answers their clients' key
// agreement, probes the nodes it feeds, and publishes the forwarding tables of
// the packet engine and the gateway.
//
// One control loop owns all of its state; everything else only enqueues
// events. The package places nothing and grants nothing (node/arbiter), and it
// never touches a packet after the tables are published (node/dataplane).
package agent

import (
	"context"
	"io"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/esp"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/crypto/mka"
	"github.com/meshcrypt/meshcrypt/mesh/link"
	"github.com/meshcrypt/meshcrypt/node/admit"
	"github.com/meshcrypt/meshcrypt/node/ask"
	"github.com/meshcrypt/meshcrypt/node/dataplane"
	"github.com/meshcrypt/meshcrypt/node/gateway"
	"github.com/meshcrypt/meshcrypt/node/loop"
	"github.com/meshcrypt/meshcrypt/node/pages"
	"github.com/meshcrypt/meshcrypt/node/probe"
	"github.com/meshcrypt/meshcrypt/node/protocol"
	"github.com/meshcrypt/meshcrypt/node/said"
	"github.com/meshcrypt/meshcrypt/node/turns"
)

// Host moves a pool part's inside address to and from this host, and hides the
// part's leases behind it where the mesh masquerades. Reach tells it, by lease,
// what the clients here may reach; neither that nor the rules change.
type Host interface {
	HoldAddress(netip.Addr) error
	ReleaseAddress(netip.Addr) error
	Hide(part netip.Prefix, behind netip.Addr) error
	Reach(pages.Addresses[*admit.Rule])
}

// Stream is an open, mutually authenticated connection to an arbiter.
type Stream struct {
	*loop.Stream[protocol.Node]
	Arbiter identity.PublicKey // signs this arbiter's grants
	// Fenced is told that the arbiter has spoken, and whether it takes trunks; nil:
	// nobody wants to know.
	Fenced func(trunks bool)
}

// Config is what an Agent is built from. All fields are required unless said
// otherwise.
type Config struct {
	Key   identity.Key
	Boot  identity.BootID
	Start uint64 // how often this node has started before: no SPI is one of the last time
	Index identity.Index
	Port  uint16 // of outer datagrams, on every node
	// InsidePort is that of hand-on and probes between nodes.
	InsidePort uint16
	// InsideMTU is the present MTU of the inside interface; 0 when not known.
	InsideMTU func() int
	Engine    *dataplane.Engine
	Gateway   *gateway.Gateway
	Host      Host
	Inside    link.Socket // sends probes to other nodes' inside addresses
	// Whole sends there too, and never in fragments; nil: the ways to other nodes
	// are not measured.
	Whole  link.Socket
	Outer  link.Socket // pairs answer their clients from it
	Ledger esp.Ledger  // nil in production
	// KeyLog hears of every traffic key; nil but in test builds (I1).
	KeyLog func(spi uint32, key esp.Key)

	// Own is this host's addresses that are not of the inside network, as long as
	// SetOwn says nothing else.
	Own []netip.Addr

	// Exposed: strangers reach the inside interface, as long as SetExposed says
	// nothing else.
	Exposed bool

	// Dial opens a stream to whoever is arbiter now.
	Dial func(context.Context) (Stream, error)
	// Facts is what the node says of itself at the start of a stream.
	Facts func() protocol.NodeHello
	// Faults are what is wrong on this host just now, in words; it does not wait.
	Faults func() []string
	// Load is what the arbiter is told of this host twice a second.
	Load func() protocol.Load
	// Learned is called from the loop with the members and the fence whenever either
	// changes.
	Learned func([]protocol.NodeRow, protocol.Fence, *protocol.View)
	// Follow is called from the loop with the egresses whose masqueraded flows
	// this node is to copy, whenever a part changes.
	Follow func(map[identity.NodeID][]registry.Part)
	// Standby is called when the arbiter wants this node to keep the log.
	Standby func(protocol.Standby)
	// Replica is what this node's copy of the log is worth now; nil while it keeps
	// none.
	Replica func() *protocol.Replica
	// Told is called from the loop with how far the log is committed, by the arbiter's word.
	Told func(protocol.Known)
	// Recovered reports whether an arbiter signed a word of this incarnation, or a later
	// one. It does not wait: the node that claims so may be asked meanwhile. Nil: none did.
	Recovered func(by protocol.NodeRow, incarnation uint64) bool
	// Fenced keeps a fence across restarts, before anything of a newer term is obeyed. It
	// is not called from the loop: a disk may take seconds, in which others would take
	// this node for dead.
	Fenced func(protocol.Fence) error
	// Superseded is called when another process runs with this node's key. The packet
	// engine is halted by then.
	Superseded func()
	// Left is called when this node is no longer a member.
	Left func(reason string)

	Random io.Reader
	// Now is CLOCK_BOOTTIME: it goes on while the host sleeps.
	Now func() time.Duration
	Log *slog.Logger
}

// Agent runs one control loop. Only Status, Post-like methods and Run may be
// called from outside it.
type Agent struct {
	config Config
	events chan event
	// outside is what strangers may cause: a flood of it must not keep the
	// loop from events.
	outside chan event
	// nodes is datagrams that other nodes authenticated, handshakes what may be theirs,
	// and inband what is said inside SAs.
	nodes, handshakes chan event

	inband *turns.Queue[sender, event]
	floor  mka.Fence // highest fence seen; owned by the loop
	obeys  bool      // an arbiter was obeyed since the start
	kept   mka.Fence // highest fence saved; owned by who reads the stream

	stream  *streamState // nil while no arbiter is heard
	redial  redial
	wordAt  time.Duration
	prekeys *prekeyPool
	slices  *sliceTable
	ended   map[registry.SessionID]bool // the arbiter asked when nothing of them runs
	view    *viewState
	probes  *proberState
	links   *links
	rules   rules
	parking parking
	inside  insideState
	rejects *rejects
	sound   soundness
	stalls  said.Line // of this process
	lates   said.Line // of this loop alone
	footing footing
	ailing  bool          // the host has faults just now
	toldAt  time.Duration // the arbiter, of them
	changes changes       // that the published tables lack
	tables  *tables
	ticks   uint64
	looks   uint64 // at slices so far: what ticks have cost
	// handOnMost is the largest packet that is handed on in one piece; written
	// by the loop, read by packet workers.
	handOnMost atomic.Int32
	probeKey   atomic.Pointer[[]byte] // the view's key; written and read likewise
	tickAt     time.Duration          // the last one
	rivalPace  rivalPace              // of any goroutine

	strangers  map[netip.Addr]time.Duration // inside addresses of nobody known, since when
	rekeyAfter time.Duration                // RekeyAfter; tests shorten it
	forgedMost uint64                       // MaxForged; tests lower it
}

// event is something that happened; apply runs in the control loop.
type event interface{ apply(*Agent) }

// New prepares an agent; floor is the highest fence known from before.
func New(config Config, floor protocol.Fence) *Agent {
	seen := mka.Fence{Incarnation: floor.Incarnation, Term: floor.Term}
	a := &Agent{
		config:     config,
		events:     make(chan event, MaxEvents),
		outside:    make(chan event, MaxOutside),
		nodes:      make(chan event, MaxFromNodes),
		handshakes: make(chan event, MaxHandshakes),
		inband:     turns.New[sender, event](MaxControlEach, MaxControl),
		floor:      seen,
		kept:       seen,
		prekeys:    newPrekeyPool(newSPIOrder(config.Random, config.Start)),
		slices:     newSliceTable(),
		ended:      make(map[registry.SessionID]bool),
		parking:    parking{calls: make(map[registry.SessionID]*call)},
		redial:     redial{now: make(chan struct{}, 1)},
		view:       newViewState(),
		probes:     newProberState(config.Random),
		links:      newLinks(),
		rules:      newRules(config.Own),
		inside:     insideState{exposed: config.Exposed},
		rejects:    newRejects(),
		sound:      newSoundness(config.Now()),
		tables:     newTables(),

		strangers:  make(map[netip.Addr]time.Duration),
		rekeyAfter: RekeyAfter,
		forgedMost: MaxForged,
		tickAt:     config.Now(),
	}
	return a
}

// Run is the control loop; it returns when ctx ends and its goroutines did.
func (a *Agent) Run(ctx context.Context) {
	streamDone := make(chan struct{})
	go func() {
		defer close(streamDone)
		a.keepStream(ctx)
	}()
	ticker := time.NewTicker(TickEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			a.drain(streamDone)
			return
		case e := <-a.events:
			a.turn(e)
		case e := <-a.outside:
			a.turn(e)
		case e := <-a.nodes:
			a.turn(e)
		case e := <-a.handshakes:
			a.turn(e)
		case <-a.inband.Ready():
			if e, ok := a.inband.Take(); ok {
				a.turn(e)
			}
		case <-ticker.C:
			a.tick()
		case <-a.unpublished():
		}
		a.publishIfDirty()
	}
}

// always is ready.
var always = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// unpublished is ready while routes are left to be made anew.
func (a *Agent) unpublished() <-chan struct{} {
	if a.changes.any() {
		return always
	}
	return nil
}

// turn applies an event, after the tick that is overdue: keys whose time is
// over must not answer what waited in the queue while this process stood still.
func (a *Agent) turn(e event) {
	if a.config.Now()-a.tickAt > dataplane.StallLimit {
		a.tick()
	}
	e.apply(a)
}

// drain keeps the queue moving until the stream has ended: its goroutine may
// stand before a full one.
func (a *Agent) drain(streamDone chan struct{}) {
	for {
		select {
		case <-streamDone:
			return
		case <-a.events:
		}
	}
}

// tick does what time demands: probes, loads, rekeys, retirements.
func (a *Agent) tick() {
	a.ticks++
	now := a.config.Now()
	late := now - a.tickAt
	a.tickAt = now
	if !a.superviseEngine(now) {
		if a.ticks > 1 { // before the first it had not begun
			a.sayLate(now, late)
		}
		a.hearNodes()
		a.probes.excuse(now)
	}
	a.probe(now)
	a.superviseFooting(now)
	a.superviseSoundness(now)
	a.superviseParts(now)
	a.superviseSlices(now)
	a.tellFreed()
	a.superviseCalls(now)
	a.superviseLinks(now)
	a.judgeStrangers(now)
	if a.ticks%LoadTicks == 0 {
		load := a.config.Load()
		a.probes.own.store(probe.LoadOf(load.Used))
		a.superviseHandOn()
		a.say(&protocol.Node{Load: &load})
		if replica := a.config.Replica(); replica != nil {
			a.say(&protocol.Node{Replica: replica})
		}
	}
	a.superviseModes(now)
	if a.ticks%UsageTicks == 0 {
		a.reportUsage(now)
	}
}

// enqueue hands an event to the loop; when the queue is full the event is
// lost, which every sender must survive (its peer repeats, or a tick notices).
func (a *Agent) enqueue(e event) bool {
	select {
	case a.events <- e:
		return true
	default:
		return false
	}
}

// must hands over an event that may not be lost; it blocks until ctx ends.
func (a *Agent) must(ctx context.Context, e event) {
	select {
	case a.events <- e:
	case <-ctx.Done():
	}
}

// ask runs f in the loop and waits for it: how other goroutines read state. f
// has run if ask says so, and never does otherwise.
func (a *Agent) ask(ctx context.Context, f func()) bool {
	q := ask.New(f)
	a.must(ctx, asked{q})
	return q.Wait(ctx, nil)
}

// asked is a question in the loop.
type asked struct{ *ask.Question }

func (q asked) apply(*Agent) { q.Answer() }

// say sends to the arbiter if there is a stream; what is said without one is
// said again by the full state at the next stream's start.
func (a *Agent) say(m *protocol.Node) {
	if a.stream != nil {
		a.stream.Say(m)
	}
}
