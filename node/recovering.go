package node

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus"
	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/crypto/vault"
	"github.com/meshcrypt/meshcrypt/node/arbiter"
	"github.com/meshcrypt/meshcrypt/node/control"
	"github.com/meshcrypt/meshcrypt/node/datadir"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// Errors of Recover.
var (
	// ErrNoCopy means that this host keeps no copy of the registry.
	ErrNoCopy = errors.New("node: this host keeps no copy of the registry")
	// ErrRecoveryKey means that the mesh's secrets are not wrapped to this node.
	ErrRecoveryKey = errors.New("node: the mesh's secrets do not open with this node's own key")
	// ErrSnapshot means that a file is no snapshot, or damaged.
	ErrSnapshot = errors.New("node: the file is no snapshot")
	// ErrForeign means that a snapshot is of another mesh, or from before this
	// node was a member.
	ErrForeign = errors.New("node: the snapshot does not know this node")
)

// RecoverConfig is what makes a stopped node the only voter of its mesh.
type RecoverConfig struct {
	DataDir  string
	Recovery string // the recovery key, where the node's own does not do
	Snapshot []byte // restore this; nil: go on from what the node has
	Log      *slog.Logger
}

// Recovered is what the mesh goes on with.
type Recovered struct {
	Cluster     identity.ClusterID
	Incarnation uint64
	Nodes       int
	Clients     int
	Sessions    int
}

// Recover rewrites the log of a node whose daemon is stopped: the node is its
// only voter, the incarnation is raised, so that every node refuses whoever
// still leads by the old log, and all join tokens are void. Sessions resume.
func Recover(c RecoverConfig) (done Recovered, err error) {
	dir, err := datadir.Open(c.DataDir)
	if err != nil {
		return done, err
	}
	defer dir.Close()
	self, err := dir.Node()
	if err != nil {
		return done, err
	}
	keys, err := dir.Keys()
	if err != nil {
		return done, err
	}
	r := recovery{config: c, self: self}
	if r.known, err = readKnown(dir, c.Log); err != nil {
		return done, err
	}
	if r.key, r.wrap, err = openKeys(keys); err != nil {
		return done, err
	}
	err = consensus.Rewrite(consensus.RewriteConfig{
		Dir: dir.Path(datadir.RaftDir), ID: r.key.ID(), Log: c.Log, Empty: c.Snapshot != nil, Term: r.known.Fence.Term,
	}, r.next)
	if errors.Is(err, consensus.ErrNoLog) {
		return done, fmt.Errorf("%w: %w", ErrNoCopy, err)
	}
	return r.done, damagedWords(err, dir.Path(datadir.RaftDir))
}

// recovery is one run of Recover.
type recovery struct {
	config RecoverConfig
	self   datadir.Node
	known  protocol.Known // what this node was told last
	key    identity.Key
	wrap   vault.Recipient
	done   Recovered
}

// next is the state to go on from, after the one that the node has. Its incarnation is
// above all that the node was told of, by arbiters and by voters (consensus.Rewrite): where the
// clock of a host that was recovered before was ahead, no clock makes it so.
func (r *recovery) next(present *registry.State) (*registry.State, error) {
	state := present
	if r.config.Snapshot != nil {
		var err error
		if state, err = registry.DecodeSnapshot(r.config.Snapshot); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrSnapshot, err)
		}
		if state.Cluster.ID != r.self.Cluster {
			return nil, fmt.Errorf("%w: it is of mesh %s, this node of %s", ErrForeign, state.Cluster.ID, r.self.Cluster)
		}
		if state.NewestEpoch() > latestEpochs+lostEpochs*mostLost {
			return nil, fmt.Errorf("%w: hardly any epochs are left for its slices", ErrSnapshot)
		}
		state.Succeed(present)
	}
	if n := state.Nodes[r.key.ID()]; !state.Founded() || n == nil || n.Removed {
		return nil, ErrForeign
	}
	if err := r.openSecrets(state); err != nil {
		return nil, err
	}
	last, wall := max(state.Cluster.Incarnation, present.Cluster.Incarnation, r.known.Fence.Incarnation), time.Now()
	err := r.apply(state, registry.Command{Reincarnate: &registry.Reincarnate{
		Incarnation: nextIncarnation(last, wall), Epochs: epochsGivenUp(state.NewestEpoch(), last, wall),
	}})
	r.done = Recovered{
		Cluster: state.Cluster.ID, Incarnation: state.Cluster.Incarnation, Nodes: len(state.Members()),
		Clients: state.Clients.Len(), Sessions: len(state.ActiveSessions()),
	}
	return state, err
}

// incarnationBits are those of an incarnation that tell recoveries of one second apart. What
// is above them are seconds, so it stays below 2^53, and whole in JSON, until the year 2242.
const incarnationBits = 20

// nextIncarnation is above the last one, and none that another recovery has: neither of the same
// host, of which nothing was left the second time, nor of another one that was recovered at the
// same time, where two operators did not know of each other. Of those the higher one wins, and
// two of one incarnation would both go on. It is the later one, as far as clocks agree.
func nextIncarnation(last uint64, wall time.Time) uint64 {
	var random [8]byte
	rand.Read(random[:])
	began := uint64(max(0, wall.Unix())) << incarnationBits
	return max(last, began) + 1 + binary.BigEndian.Uint64(random[:])>>(64-incarnationBits)
}

const (
	// lostEpochs are more than one slice was granted in what a log lacks.
	lostEpochs = 1 << 20
	// latestEpochs are given up in the year 2072, and by each recovery of a host whose clock was
	// as far ahead; the rest is for those that come after it, of which mostLost are far too many.
	latestEpochs = 3 << 30
	mostLost     = 512
)

// epochsGivenUp is above all epochs that may have been granted before, also in a mesh that was
// recovered at another host meanwhile, whose log is lost: the second of the recovery, for a slice
// moves less than once in a second. Where a clock was ahead it is far above what is known of that.
func epochsGivenUp(newest uint32, last uint64, wall time.Time) uint32 {
	second := func(t uint64) uint32 { return uint32(min(t, latestEpochs)) }
	began, known := second(uint64(max(0, wall.Unix()))), max(newest, second(last>>incarnationBits))
	if began > known {
		return began
	}
	return known + min(lostEpochs, (math.MaxUint32-known)/2) // a slice has at least half of what is left
}

func (r *recovery) apply(state *registry.State, command registry.Command) error {
	rand.Read(command.ID[:])
	return registry.Apply(state, state.Index, state.Term, command).Err()
}

// openSecrets sees that this node can open the mesh's secrets: by its own wrap
// of the data key, or by the recovery key, which then makes it one. A mesh that
// was founded without the recovery key's public half learns it here.
func (r *recovery) openSecrets(state *registry.State) error {
	opens, knows := r.opensOwn(state), len(state.Cluster.Recovery) > 0
	switch {
	case opens && (knows || r.config.Recovery == ""):
		return nil
	case r.config.Recovery == "":
		return ErrRecoveryKey
	}
	recipient, err := vault.ParseRecoveryText(r.config.Recovery)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrRecoveryKey, err)
	}
	cluster := state.Cluster.ID
	data, err := recipient.Unwrap(state.Wraps[registry.RecoveryWrap], cluster, state.DataKey)
	if err != nil {
		return fmt.Errorf("%w, nor with this recovery key: %w", ErrRecoveryKey, err)
	}
	wrapped, err := vault.Wrap(data, r.wrap.Public(), cluster)
	if err != nil {
		return err
	}
	put := &registry.PutSecrets{
		Generation: data.Generation(), Wraps: map[string][]byte{r.key.ID().String(): bytes.Clone(wrapped)},
	}
	if !knows {
		put.Recovery = recipient.Public()
	}
	return r.apply(state, registry.Command{PutSecrets: put})
}

// opensOwn says that this node's own wrap of the data key does.
func (r *recovery) opensOwn(state *registry.State) bool {
	wrapped, ok := state.Wraps[r.key.ID().String()]
	if !ok {
		return false
	}
	data, err := r.wrap.Unwrap(wrapped, state.Cluster.ID, state.DataKey)
	if err == nil {
		_, err = data.Open(state.Cluster.ID, arbiter.SecretCA, state.Secrets[arbiter.SecretCA].Box)
	}
	return err == nil
}

// saveSnapshot is the registry as the arbiter has it.
func (n *Node) saveSnapshot(r *http.Request, _ control.Nothing) (out control.Snapshot, err error) {
	store := n.store.Load()
	if store == nil {
		return out, consensus.ErrNotLeader
	}
	if err := store.Barrier(r.Context()); err != nil {
		n.config.Log.Warn("no snapshot saved: it might not be the newest", "error", err)
		return out, control.Errorf(control.CodeDegraded, "meshcrypt status says what the mesh lacks; then the same command again",
			"the arbiter does not hear most of the voters, so it may lead no more: nothing was saved")
	}
	out.Schema = "meshcrypt.snapshot/v1"
	var state *registry.State // a copy: to write it takes longer than commits may wait
	store.View(func(s *registry.State) { state = s.Clone() })
	out.Index = state.Index
	out.Data, err = registry.EncodeSnapshot(state)
	if err == nil && len(out.Data) > control.MaxAnswer/2 {
		err = control.Errorf(control.CodeFailed, "stop a voter and copy its data directory",
			"the registry of %d bytes is too large for one answer", len(out.Data))
	}
	return out, err
}
