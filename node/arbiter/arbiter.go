// Package arbiter is what a node does while it leads: it proves that it leads,
// opens the mesh's secrets, takes the streams of nodes and clients, lets
// node/session decide, commits, and only then tells anybody.
//
// One control loop owns all of its state and lasts one term. The package does
// not decide placement (node/session), keep truth (consensus/registry) or
// touch packets.
package arbiter

import (
	"context"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus"
	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/crypto/mka"
	"github.com/meshcrypt/meshcrypt/crypto/pki"
	"github.com/meshcrypt/meshcrypt/crypto/record"
	"github.com/meshcrypt/meshcrypt/crypto/vault"
	"github.com/meshcrypt/meshcrypt/node/clocks"
	"github.com/meshcrypt/meshcrypt/node/port"
	"github.com/meshcrypt/meshcrypt/node/protocol"
	"github.com/meshcrypt/meshcrypt/node/session"
	"github.com/meshcrypt/meshcrypt/node/trunk"
	"github.com/meshcrypt/meshcrypt/node/trust"
)

// Store is the replicated registry as its leader uses it.
type Store interface {
	// Propose commits a command and returns what Apply answered.
	Propose(context.Context, registry.Command) (registry.Result, error)
	// Enqueue is Propose in two steps, so that several commands are on their way.
	Enqueue(context.Context, registry.Command) (wait func() (registry.Result, error), err error)
	// Barrier returns once every entry of earlier terms is applied here.
	Barrier(context.Context) error
	// View lends the state for reading.
	View(func(*registry.State))
	// Changes is signalled after commits.
	Changes() <-chan struct{}
	// Misses says that the log lacks what was committed.
	Misses(consensus.Known) bool
	Electorate
}

// Names of the secrets sealed in the registry.
const (
	SecretCA     = "ca"
	SecretGossip = "gossip"
)

// ProbeKeyLabel binds the key of the nodes' probes to its use.
const ProbeKeyLabel = "meshcrypt node probes 1"

// Config is what a term is served with.
type Config struct {
	Trust  *trust.Trust
	Boot   identity.BootID // of this process
	Store  Store
	Port   *port.Port
	Random io.Reader
	Now    func() time.Duration // CLOCK_BOOTTIME
	Wall   func() time.Time
	Log    *slog.Logger
	Ledger record.Ledger // nil in production
	// Trunk makes a trunk of a gateway's connection; nil: trunk.New.
	Trunk func(net.Conn) *trunk.Trunk
	// Answers says whether the replica of another server of the log answered this
	// node over the Raft port within the last seconds.
	Answers func(identity.NodeID) bool
	// Clocks is what voters said of their clocks when this node asked them, because it
	// could not hear them; see clocks.Reading.
	Clocks func() []clocks.Reading
	// Serving is told of the arbiter once its doors are open, and of nil when
	// its term is over.
	Serving func(*Arbiter)
}

// Arbiter serves one term. All fields below config are owned by the loop.
type Arbiter struct {
	config    Config
	term      uint64
	fence     protocol.Fence
	cluster   registry.Cluster
	authority *pki.Authority
	data      vault.DataKey
	gossipKey []byte
	probeKey  []byte // of every term, while the gossip key stays

	events     chan event
	over       chan struct{} // closed at the end of the term
	proposals  chan proposal
	judge      *session.Arbitrator
	nodes      map[identity.NodeID]*nodeStream
	clients    map[registry.RequestID]*clientStream
	served     map[registry.SessionID]*clientStream // those of them that have one
	arrivals   arrivals
	parking    parking
	book       *book
	measures   map[registry.SessionID]*measures
	moved      map[registry.SessionID]uint64           // bytes, as far as it was said in this term
	lateFlows  map[registry.SessionID]*measures        // of them, those that the egress is to be told later
	offers     map[registry.SessionID]map[uint8]*offer // by number
	electing   bool                                    // a change of the electorate is under way
	renewal    *renewal
	counting   bool // CountVoters without outcome
	enlarging  bool // Enlarge without outcome
	newest     bool // in this term every server of the log could read the newest commands, so that it may hold some
	mustRead   byte // version of commands that who keeps the log has to read, at the last look
	warned     bool // that the data key cannot be renewed
	leavers    map[identity.NodeID]*leaver
	copies     map[identity.NodeID]*copies
	expelled   map[identity.NodeID]bool          // servers an operator removed, until their next stream
	replicas   map[identity.NodeID]replica       // of the servers of the log, at the last look
	passed     map[identity.NodeID]time.Duration // nodes that could not keep the log, and when that was given up
	violations map[identity.NodeID][]Violation
	alarms     map[string]*alarm                 // by client
	guesses    guesses                           // is asked by connections; has a lock of its own
	accounts   accounts                          // the same
	passing    accounts                          // of gateways, by their nodes: lines of the log
	trunks     trunks                            // the same
	wrong      map[identity.NodeID]time.Duration // clocks, as the nodes were told
	quit       error                             // why this node cannot go on
	entrances  []entrance                        // see gates; nil: to be found
	told       string                            // gateways as clients were told last
	began      time.Duration
	tickedAt   time.Duration // up to when the registry's time was advanced, or is being
	advance    advance
	turnedAt   time.Duration // the loop, last
	aliveAt    time.Duration
	known      *protocol.Known // as nodes were told last; nil: not in this term
	knownAt    time.Duration
	missed     string // what a node was told of and the log lacks, in words
	tickCount  uint64
}

// event is something that happened; apply runs in the control loop.
type event interface{ apply(*Arbiter) }

// Serve is one term as leader. It returns when ctx ends, which is when the
// leadership does, or with why this node cannot serve.
func Serve(ctx context.Context, config Config, term uint64) error {
	if err := config.Store.Barrier(ctx); err != nil {
		return fmt.Errorf("arbiter: barrier: %w", err)
	}
	a := newArbiter(config, term)
	if err := a.openSecrets(); err != nil {
		return err
	}
	if err := config.Trust.BecomeArbiter(a.authority); err != nil {
		return fmt.Errorf("arbiter: certificate: %w", err)
	}
	defer config.Trust.Resign()
	config.Log.Info("this node is the arbiter", "term", term, "incarnation", a.fence.Incarnation)
	defer config.Serving(nil)
	a.run(ctx)
	config.Log.Info("this node is no longer the arbiter", "term", term)
	return a.quit
}

// newArbiter is the arbiter of a term before it has opened anything.
func newArbiter(config Config, term uint64) *Arbiter {
	if config.Trunk == nil {
		config.Trunk = trunk.New
	}
	start := config.Now()
	return &Arbiter{
		config: config, term: term, tickedAt: start, turnedAt: start, began: start,
		events:     make(chan event, MaxEvents),
		over:       make(chan struct{}),
		proposals:  make(chan proposal, MaxProposals),
		judge:      session.New(session.Config{Self: config.Trust.Key.ID(), Start: start, Random: config.Random}),
		nodes:      make(map[identity.NodeID]*nodeStream),
		clients:    make(map[registry.RequestID]*clientStream),
		served:     make(map[registry.SessionID]*clientStream),
		parking:    parking{sessions: make(map[registry.SessionID]parked), inLine: make(map[registry.SessionID]bool)},
		book:       newBook(),
		measures:   make(map[registry.SessionID]*measures),
		moved:      make(map[registry.SessionID]uint64),
		lateFlows:  make(map[registry.SessionID]*measures),
		offers:     make(map[registry.SessionID]map[uint8]*offer),
		leavers:    make(map[identity.NodeID]*leaver),
		copies:     make(map[identity.NodeID]*copies),
		expelled:   make(map[identity.NodeID]bool),
		replicas:   make(map[identity.NodeID]replica),
		passed:     make(map[identity.NodeID]time.Duration),
		violations: make(map[identity.NodeID][]Violation),
		alarms:     make(map[string]*alarm),
	}
}

// openSecrets unwraps the data key with this node's own key and opens what
// the registry keeps sealed.
func (a *Arbiter) openSecrets() (err error) {
	own := a.config.Trust.Key.ID().String()
	a.config.Store.View(func(s *registry.State) {
		a.cluster = s.Cluster
		a.fence = protocol.Fence{Incarnation: s.Cluster.Incarnation, Term: a.term}
		wrapped, ok := s.Wraps[own]
		if !ok {
			err = errors.New("arbiter: the data key is not wrapped to this node")
			return
		}
		if a.data, err = a.config.Trust.Wrap.Unwrap(wrapped, s.Cluster.ID, s.DataKey); err != nil {
			return
		}
		seed, caErr := a.data.Open(s.Cluster.ID, SecretCA, s.Secrets[SecretCA].Box)
		gossip, gossipErr := a.data.Open(s.Cluster.ID, SecretGossip, s.Secrets[SecretGossip].Box)
		if err = errors.Join(caErr, gossipErr); err != nil {
			return
		}
		a.gossipKey = gossip
		if a.probeKey, err = probeKeyOf(gossip, s.Cluster.ID); err != nil {
			return
		}
		a.authority, err = pki.AuthorityFromKey(s.Cluster.CA, seed)
	})
	if err != nil {
		return fmt.Errorf("arbiter: secrets: %w", err)
	}
	return nil
}

// probeKeyOf is the key of the nodes' probes. All terms have the same: nodes hear of
// a new arbiter seconds apart, and would not understand each other meanwhile.
func probeKeyOf(gossipKey []byte, cluster identity.ClusterID) ([]byte, error) {
	return hkdf.Key(sha256.New, gossipKey, cluster[:], ProbeKeyLabel, sha256.Size)
}

// run opens the doors, says so, loops, and closes them again.
func (a *Arbiter) run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	proposed := make(chan struct{})
	go func() {
		defer close(proposed)
		a.propose(ctx)
	}()
	withdraw := a.openDoors(ctx)
	a.config.Serving(a)
	a.loop(ctx)
	close(a.over)
	withdraw()
	cancel()
	a.closeStreams()
	<-proposed
}

func (a *Arbiter) loop(ctx context.Context) {
	ticker := time.NewTicker(TickEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-a.events:
			if a.leadsStill(ctx) {
				e.apply(a)
			}
		case <-a.config.Store.Changes():
			if a.leadsStill(ctx) {
				a.pushViews()
			}
		case <-ticker.C:
			if a.leadsStill(ctx) {
				a.tick()
			}
		}
		if a.quit != nil {
			return
		}
	}
}

// leadsStill proves once more that this node leads if it stood still for so long that
// others may have elected another: nothing is decided by a process that was stopped and
// does not know yet that its term is over. It returns false when ctx ends, as it does
// with the leadership.
func (a *Arbiter) leadsStill(ctx context.Context) bool {
	for a.config.Now()-a.turnedAt > StoodStill {
		proof, cancel := context.WithTimeout(ctx, ProposeWithin)
		err := a.config.Store.Barrier(proof)
		cancel()
		if err == nil || ctx.Err() != nil { // the end of the term is said by itself
			break
		}
		a.config.Log.Warn("this node stood still, and does not know whether it is the arbiter", "error", err)
		select {
		case <-ctx.Done():
			return false
		case <-time.After(TickEvery):
		}
	}
	a.turnedAt = a.config.Now()
	return ctx.Err() == nil
}

// tick lets time pass: for the arbitrator, for the registry, for the peers.
func (a *Arbiter) tick() {
	now := a.config.Now()
	a.tickCount++
	var actions []session.Action
	a.config.Store.View(func(s *registry.State) { actions = a.judge.Tick(now, s) })
	a.do(actions)
	a.advanceTime(now)
	if now-a.aliveAt >= AliveEvery {
		a.aliveAt = now
		a.sayAlive()
	}
	a.tellFlows(now)
	a.callWaiting(now)
	a.arrivals.expire(now)
	a.tellKnown(now)
	if a.tickCount%ElectorateTicks == 0 {
		a.tendLeavers()
		a.tendElectorate()
		a.countVoters()
		a.enlarge()
		a.pushGateways()
		a.tendClocks()
	}
	if a.tickCount%AskTicks == 0 {
		a.askHolders()
		a.tellExposed()
	}
	a.tendCertificate()
}

// tendCertificate mints this term's certificate anew in time.
func (a *Arbiter) tendCertificate() {
	if !a.config.Trust.ArbiterStale() {
		return
	}
	if err := a.config.Trust.BecomeArbiter(a.authority); err != nil {
		a.config.Log.Error("arbiter certificate not renewed", "error", err)
	}
}

// step hands one event to the arbitrator and does what it answers.
func (a *Arbiter) step(e session.Event) {
	var actions []session.Action
	a.config.Store.View(func(s *registry.State) { actions = a.judge.Step(a.config.Now(), s, e) })
	a.do(actions)
}

// do carries out the arbitrator's actions in their order.
func (a *Arbiter) do(actions []session.Action) {
	for _, action := range actions {
		switch action := action.(type) {
		case session.Propose:
			a.submit(proposal{tag: action.Tag, judged: true, command: a.accounted(action.Command)})
		case session.SendGrant:
			a.sendGrant(action)
		case session.SendClient:
			a.sendClient(action)
		case session.Refuse:
			a.refuse(action)
		case session.CloseClient:
			if c := a.clients[action.Request]; c != nil {
				go c.Close() // a goodbye may wait, for a client or a gateway that takes nothing
			}
		case session.CallClient:
			a.callFor(action.Session)
		case session.RevokeSlice:
			a.revoke(action)
		case session.DropPrekey:
			a.dropPrekey(action)
		case session.KeepPart:
			a.keepPart(action)
		case session.NodeDrained:
			a.config.Log.Info("node is drained", "node", a.nodeName(action.Node))
		case session.AlertOperator:
			a.config.Log.Warn(action.Text)
		}
	}
}

func (a *Arbiter) commandID() (id registry.CommandID) {
	rand.Read(id[:])
	return id
}

// must hands an event to the loop and waits for room; false when ctx ended.
func (a *Arbiter) must(ctx context.Context, e event) bool {
	select {
	case a.events <- e:
		return true
	case <-ctx.Done():
		return false
	case <-a.over:
		return false
	}
}

func (a *Arbiter) nodeName(id identity.NodeID) (name string) {
	name = id.Short()
	a.config.Store.View(func(s *registry.State) {
		if n := s.Nodes[id]; n != nil {
			name = n.Name
		}
	})
	return name
}

// newShare makes r_A, the arbiter's part of one slice's keys.
func newShare() (s mka.Share) {
	rand.Read(s[:])
	return s
}
