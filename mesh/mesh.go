// Package mesh is gossip: which nodes are there, and how loaded they say they
// are. It owns the memberlist adapter, the codec of the hint each node
// gossips, and the table of members as last heard.
//
// Gossip is a hint (I9). Whoever holds the gossip key can say anything in
// anybody's name, so nothing here grants, removes or moves anything: a node's
// address, roles and rights come from the arbiter's stream, and a name that
// the registry does not know is dropped on arrival. The package knows nothing
// of the registry; it asks the Known function it was given.
//
// mesh/link moves data datagrams and shares nothing with gossip but the host.
// meshtest holds the in-memory twin of the network below.
package mesh

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

var (
	// ErrConfig says that a Config cannot work.
	ErrConfig = errors.New("mesh: invalid configuration")
	// ErrUnreachable says that none of the addresses given to Join answered
	// as a member of this mesh.
	ErrUnreachable = errors.New("mesh: no member reached")
)

// KeySize is the length in bytes of the gossip key, AES-256.
const KeySize = 32

// Transport is the network below gossip: nil in Config for UDP and TCP.
type Transport = memberlist.NodeAwareTransport

// Config says who this node is and where it gossips.
type Config struct {
	Name    identity.NodeID
	Cluster identity.ClusterID
	// Bind is the address of both the UDP and the TCP port. Advertise is
	// what other nodes are told; zero means Bind.
	Bind, Advertise netip.AddrPort
	// Key is the gossip key, KeySize bytes.
	Key []byte
	// Known reports whether a name is in the registry. It is called under
	// the library's lock: it must be quick and must not call the mesh.
	Known func(identity.NodeID) bool
	Log   *slog.Logger
	// Transport is set by tests only.
	Transport Transport
}

func (c Config) check() error {
	switch {
	case c.Name.IsZero():
		return fmt.Errorf("%w: no name", ErrConfig)
	case c.Cluster == identity.ClusterID{}:
		return fmt.Errorf("%w: no cluster", ErrConfig)
	case len(c.Key) != KeySize:
		return fmt.Errorf("%w: gossip key of %d bytes, want %d", ErrConfig, len(c.Key), KeySize)
	case c.Known == nil || c.Log == nil:
		return fmt.Errorf("%w: Known and Log are required", ErrConfig)
	case c.Transport == nil && !c.Bind.IsValid():
		return fmt.Errorf("%w: no address to bind", ErrConfig)
	}
	return nil
}

// Mesh is this node's place in the gossip.
type Mesh struct {
	members *members
	config  *memberlist.Config
	library *memberlist.Memberlist
	log     *slog.Logger
	hangUp  func()        // ends the streams that this node opens
	changed chan struct{} // the hint is to be sent; capacity 1
	done    chan struct{} // closed by Close
	running sync.WaitGroup

	mu     sync.Mutex // orders Leave and Close; the library panics otherwise
	closed bool
}

// Open starts to listen. The node is alone until Join, or until another joins it.
func Open(c Config) (*Mesh, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	m := &Mesh{
		members: newMembers(c.Name, c.Known),
		log:     c.Log,
		hangUp:  func() {}, // over a test's network
		changed: make(chan struct{}, 1),
		done:    make(chan struct{}),
	}
	if c.Transport == nil {
		s, err := listen(c.Bind, c.Log)
		if err != nil {
			return nil, fmt.Errorf("mesh: listen on %s (UDP and TCP): %w", c.Bind, err)
		}
		c.Transport, m.hangUp = s, s.hangUp
	}
	m.config = libraryConfig(c, m.members)
	var err error
	if m.library, err = memberlist.Create(m.config); err != nil {
		_ = c.Transport.Shutdown() // what failed is said
		return nil, fmt.Errorf("mesh: %w", err)
	}
	m.running.Go(m.announce)
	return m, nil
}

func libraryConfig(c Config, table *members) *memberlist.Config {
	lib := memberlist.DefaultLANConfig()
	lib.Name = c.Name.String()
	lib.Label = c.Cluster.String()
	lib.SecretKey = bytes.Clone(c.Key)
	lib.Transport = c.Transport
	lib.BindAddr, lib.BindPort = c.Bind.Addr().String(), int(c.Bind.Port())
	if c.Advertise.IsValid() {
		lib.AdvertiseAddr, lib.AdvertisePort = c.Advertise.Addr().String(), int(c.Advertise.Port())
	} else {
		lib.AdvertisePort = lib.BindPort
	}
	lib.EnableCompression = false // a hint is 28 bytes
	lib.TCPTimeout = streamTimeout
	lib.UDPBufferSize = packetBytes
	lib.HandoffQueueDepth = queueDepth
	lib.DeadNodeReclaimTime = reclaimAfter
	lib.Delegate, lib.Events, lib.Alive, lib.Merge = table, table, table, table
	lib.Logger = quiet(c.Log)
	return lib
}

// Join exchanges members with every address given, one after the other; one answer is enough.
// The end of ctx is that of this node, which opens no stream from then on: a join waits
// streamTimeout for an address that does not answer, and a node that is cut off from a mesh
// has as many of those as there are other nodes.
func (m *Mesh) Join(ctx context.Context, peers []netip.AddrPort) error {
	stop := context.AfterFunc(ctx, m.hangUp)
	defer stop()
	var errs []error
	answers := 0
	for _, p := range peers {
		if ctx.Err() != nil {
			errs = append(errs, ctx.Err())
			break
		}
		n, err := m.library.Join([]string{p.String()})
		answers, errs = answers+n, append(errs, err)
	}
	if answers == 0 {
		return fmt.Errorf("%w: %w", ErrUnreachable, errors.Join(errs...))
	}
	m.say()
	return nil
}

// SetHint changes what this node says of itself. It returns at once; hints
// that follow each other quickly are sent as the last of them.
func (m *Mesh) SetHint(h Hint) {
	m.members.setHint(h)
	m.say()
}

// say asks announce to send the hint; requests that wait are one.
func (m *Mesh) say() {
	select {
	case m.changed <- struct{}{}:
	default:
	}
}

// Hints returns all members as last heard, this node included, sorted by
// NodeID. Names that the registry has forgotten meanwhile are not among them.
func (m *Mesh) Hints() []Member { return m.members.list() }

// Watch returns the channel that receives when Hints has changed. Changes
// that nobody has taken yet are one. It has one reader: the control loop.
func (m *Mesh) Watch() <-chan struct{} { return m.members.watch }

// Addr is the address that other nodes are told.
func (m *Mesh) Addr() netip.AddrPort {
	n := m.library.LocalNode()
	return address(n.Addr, n.Port)
}

// Leave says goodbye, so that others see Left and not Dead. Close still has
// to be called.
func (m *Mesh) Leave() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil
	}
	m.members.setLeaving()
	if err := m.library.UpdateNode(LeaveTimeout); err != nil {
		m.log.Debug("leaving without having said so", "error", err)
	}
	if err := m.library.Leave(LeaveTimeout); err != nil {
		return fmt.Errorf("mesh: leave: %w", err)
	}
	return nil
}

// Close stops listening. Without Leave before it the others find this node dead.
func (m *Mesh) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil
	}
	m.closed = true
	close(m.done)
	m.running.Wait() // a hint under way gets out while the library still runs
	return m.library.Shutdown()
}

// announce sends the hint when it has changed, no closer than hintSpacing, and
// again when it did not get out. The library's queue can lose a broadcast: an
// update that replaces the only one in it shares its number with a later one,
// which, if as long, overwrites it (memberlist 0.7.0, TransmitLimitedQueue).
func (m *Mesh) announce() {
	for {
		select {
		case <-m.done:
			return
		case <-m.changed:
		}
		if err := m.library.UpdateNode(sendTimeout); err != nil {
			m.log.Debug("hint not sent, trying again", "error", err)
			m.say()
		}
		select {
		case <-m.done:
			return
		case <-time.After(hintSpacing(m.config, m.library.NumMembers())):
		}
	}
}

// address gives an IPv4 address as a plain one.
func address(ip net.IP, port uint16) netip.AddrPort {
	a, _ := netip.AddrFromSlice(ip)
	return netip.AddrPortFrom(a.Unmap(), port)
}

func byName(a, b Member) int { return bytes.Compare(a.Node[:], b.Node[:]) }

func sorted(list []Member) []Member {
	slices.SortFunc(list, byName)
	return list
}
