package node

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus"
	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/crypto/pki"
	"github.com/meshcrypt/meshcrypt/node/agent"
	"github.com/meshcrypt/meshcrypt/node/arbiter"
	"github.com/meshcrypt/meshcrypt/node/datadir"
	"github.com/meshcrypt/meshcrypt/node/port"
	"github.com/meshcrypt/meshcrypt/node/protocol"
	"github.com/meshcrypt/meshcrypt/node/said"
)

// raftLayer carries the log's streams over the one TCP port.
type raftLayer struct {
	net.Listener
	node *Node
}

// Dial opens a stream to a server wherever the members' list says it is.
func (l raftLayer) Dial(ctx context.Context, server identity.NodeID) (conn net.Conn, err error) {
	row := l.node.members.find(server)
	if row.Index == 0 {
		return nil, fmt.Errorf("node: no address is known for voter %s", server.Short())
	}
	dialer := tls.Dialer{Config: l.node.trust.ToNode(port.ALPNRaft, server)}
	for _, at := range l.node.reach(row) {
		err = l.node.reserve.Open(func() (err error) {
			conn, err = dialer.DialContext(ctx, "tcp", at.String())
			return err
		})
		if err == nil {
			return conn, nil
		}
	}
	return nil, err
}

// openStoreIfKept opens the log if this node keeps one: the founder, a voter,
// a standby. One that kept it and has lost it opens none before an arbiter asks it to.
func (n *Node) openStoreIfKept() error {
	kept, err := consensus.HasLog(n.dir.Path(datadir.RaftDir))
	_, founding, foundingErr := n.dir.Founding()
	switch {
	case err != nil || foundingErr != nil:
		return damagedWords(cmp.Or(err, foundingErr), n.dir.Path(datadir.RaftDir))
	case kept:
		return damagedWords(n.openStore(false, n.askKnown()), n.dir.Path(datadir.RaftDir))
	case founding:
		return n.openStore(true, consensus.Known{})
	}
	switch {
	case n.lostLog() && len(n.voters()) == 1:
		n.config.Log.Error("the log of this node is gone, and no other one votes, so there is no arbiter before it is back; meshcrypt status says what brings it back", "missing", n.dir.Path(datadir.RaftDir))
	case n.lostLog():
		n.config.Log.Error("the log of this voter is gone; it becomes a voter anew when an arbiter is heard", "missing", n.dir.Path(datadir.RaftDir))
	}
	return nil
}

// ErrDamagedLog means that what is in the log's place is none. It says what to do.
var ErrDamagedLog = consensus.ErrDamagedLog

// damagedWords say what becomes of a log that cannot be read.
func damagedWords(err error, path string) error {
	if !errors.Is(err, ErrDamagedLog) {
		return err
	}
	return fmt.Errorf("%w. Move %s away. Where other voters live, start again then: this one becomes a voter anew by itself. "+
		"If it is the only one: meshcrypt operator snapshot restore FILE --make-this-node-the-only-voter, and start", err, path)
}

// lostLog says that this node was a voter, as it was told last, and keeps no log.
func (n *Node) lostLog() bool { return n.store.Load() == nil && n.members.find(n.trust.Key.ID()).Voter }

// openStore starts this node's replica. The Raft port admits only keys of the
// Raft configuration, or those an arbiter named when it asked for a standby:
// the library itself would take entries from anyone it can talk to.
func (n *Node) openStore(bootstrap bool, known consensus.Known) error {
	check := func(raw [][]byte) error { return n.trust.Voter(raw, n.inElectorate) }
	store, err := consensus.Open(consensus.Config{
		Told: floorOf(n.memory.furthest()), Known: known, Dir: n.dir.Path(datadir.RaftDir), ID: n.trust.Key.ID(), Bootstrap: bootstrap, Log: n.config.Log, Repeats: repeats(bootTime),
		Layer: raftLayer{n.port.Listener(port.ALPNRaft, pki.Server(port.ALPNRaft, n.trust.Certificate, check)), n},
	})
	if err != nil {
		return err
	}
	n.store.Store(store)
	close(n.kept) // once in a process: there is one log
	return nil
}

// repeats is how often the log's replica says what repeats: as often as the agent does.
func repeats(now func() time.Duration) func() (left []any, ok bool) {
	var line said.Line
	return func() ([]any, bool) {
		unsaid, ok := line.Say(now(), agent.SaidFree, agent.SaidRate)
		return said.Left(unsaid), ok
	}
}

func (n *Node) inElectorate(id identity.NodeID) bool {
	n.members.mu.Lock()
	admitted := n.members.admit[id]
	n.members.mu.Unlock()
	if admitted {
		return true
	}
	store := n.store.Load()
	if store == nil {
		return false
	}
	for _, server := range store.Servers() {
		if server.ID == id {
			return true
		}
	}
	return false
}

// keepLog obeys the arbiter's wish for a standby.
func (n *Node) keepLog(wish protocol.Standby) {
	n.members.mu.Lock()
	n.members.admit = make(map[identity.NodeID]bool)
	for _, id := range wish.Voters {
		n.members.admit[id] = true
	}
	n.members.mu.Unlock()
	if n.store.Load() != nil {
		return
	}
	if err := n.openStore(false, consensus.Known{}); err != nil {
		n.config.Log.Error("the log cannot be kept", "error", err)
	}
}

// closeStore passes the lead on before it ends the log, so that nobody waits
// for an election.
func (n *Node) closeStore() {
	store := n.store.Load()
	if store == nil {
		return
	}
	if leader, known := store.Leader(); known && leader == n.trust.Key.ID() {
		ctx, cancel := context.WithTimeout(context.Background(), GoodbyeWithin)
		_ = store.TransferLeadership(ctx) // without success they elect
		cancel()
	}
	if err := store.Close(); err != nil {
		n.config.Log.Error("log not closed", "error", err)
	}
}

// keepLeading serves a term whenever this node leads; it returns only with a
// failure of the log that ends the daemon, or when ctx ends.
func (n *Node) keepLeading(ctx context.Context) error {
	store := n.awaitStore(ctx)
	if store == nil {
		return nil
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-store.Failed():
			return err
		case now := <-store.Leadership():
			n.heedLeader(now.ID)
			for now.Leader && ctx.Err() == nil {
				now = n.lead(ctx, store, now)
				n.heedLeader(now.ID)
			}
		}
	}
}

// lead serves one term and returns the leadership that ended it.
func (n *Node) lead(ctx context.Context, store *consensus.Raft, now consensus.Leadership) consensus.Leadership {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	served := make(chan error, 1)
	go func() { served <- n.serveTerm(ctx, store, now.Term) }()
	for {
		select {
		case next := <-store.Leadership():
			if next == now {
				continue
			}
			cancel()
			<-served
			n.redirect()
			return next
		case err := <-served:
			if err != nil {
				n.config.Log.Log(ctx, gravity(err), "this node cannot be the arbiter", "error", err)
			}
			n.redirect()
			return n.giveUpLead(ctx, store, now)
		}
	}
}

// gravity is how loudly it is said why a term did not begin or end: that somebody else was
// elected first is ordinary.
func gravity(err error) slog.Level {
	if errors.Is(err, consensus.ErrNotLeader) {
		return slog.LevelDebug
	}
	return slog.LevelError
}

// giveUpLead has somebody else lead, who may be able to. It returns this node's next
// term, or the same one again when there is nobody else.
func (n *Node) giveUpLead(ctx context.Context, store *consensus.Raft, now consensus.Leadership) consensus.Leadership {
	if ctx.Err() != nil {
		return consensus.Leadership{}
	}
	err := store.TransferLeadership(ctx)
	if err == nil {
		return consensus.Leadership{} // what comes next is told
	}
	n.config.Log.Log(ctx, min(gravity(err), slog.LevelWarn), "nobody else can be the arbiter either", "error", err)
	select {
	case <-ctx.Done():
	case next := <-store.Leadership():
		return next
	case <-time.After(LeadAgain):
	}
	return now
}

func (n *Node) serveTerm(ctx context.Context, store *consensus.Raft, term uint64) error {
	if err := n.clockFails(); err != nil {
		return err
	}
	if err := n.found(ctx, store); err != nil {
		return err
	}
	return arbiter.Serve(ctx, arbiter.Config{
		Trust: n.trust, Boot: n.boot, Store: store, Port: n.port, Random: rand.Reader,
		Now: bootTime, Wall: n.wall, Log: n.config.Log, Serving: n.heedServing, Answers: n.replicas.answers,
		Clocks: n.clocks.recent, Ledger: n.forward.ledger,
	}, term)
}

// found commits the first commands of a new mesh, once.
func (n *Node) found(ctx context.Context, store *consensus.Raft) error {
	founding, ok, err := n.dir.Founding()
	if err != nil || !ok {
		return err
	}
	commands := []registry.Command{{ID: founding.ID[0], Found: &founding.Found}}
	for i := range founding.Tokens {
		commands = append(commands, registry.Command{ID: founding.ID[1], CreateToken: &registry.CreateToken{Token: founding.Tokens[i]}})
	}
	for _, command := range commands {
		result, err := store.Propose(ctx, command)
		if err == nil {
			err = result.Err()
		}
		if err != nil {
			return fmt.Errorf("founding: %w", err)
		}
	}
	n.config.Log.Info("mesh founded", "cluster", n.self.Cluster)
	return n.dir.ForgetFounding()
}

// awaitStore returns this node's replica once it keeps one; nil when ctx ends.
func (n *Node) awaitStore(ctx context.Context) *consensus.Raft {
	select {
	case <-ctx.Done():
		return nil
	case <-n.kept:
		return n.store.Load()
	}
}
