package consensus

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// waiters is how many tests run at a time: they wait for elections, and the package's take
// a tenth of a processor.
const waiters = "8"

func TestMain(m *testing.M) {
	if err := flag.Set("test.parallel", waiters); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// cluster is some replicas in this process.
type cluster struct {
	*testing.T
	network  *memory
	nodes    []*Raft // nil: down
	dirs     []string
	commands uint64
	tune     func(*Config)
}

func key(n int) (k identity.PublicKey) { k[0] = byte(n + 1); return k }

func id(n int) identity.NodeID { return key(n).ID() }

// newCluster founds a mesh on node 0 and gives the others their votes.
func newCluster(t *testing.T, size int, tune func(*Config)) *cluster {
	t.Helper()
	c := &cluster{T: t, network: newMemory(), nodes: make([]*Raft, size), tune: tune}
	for range size {
		c.dirs = append(c.dirs, t.TempDir())
	}
	t.Cleanup(func() {
		for i := range c.nodes {
			c.stop(i)
		}
	})
	c.start(0, true)
	c.leader()
	c.must(c.nodes[0], registry.Command{Found: founding()})
	for n := 1; n < size; n++ {
		c.start(n, false)
		c.byLeader("a standby", func(leader *Raft) error { return leader.AddStandby(c.ctx(), id(n)) })
	}
	for n := 1; n < size; n++ { // back to back: two voters are worse than one
		c.byLeader("a voter", func(leader *Raft) error { return leader.AddVoter(c.ctx(), id(n)) })
	}
	c.until("every replica knows every voter", func() bool {
		return !slices.ContainsFunc(c.nodes, func(r *Raft) bool { return voters(r) != size })
	})
	return c
}

// voters is how many a replica knows. A replica that has not heard of a new
// voter refuses it its vote, so a test that takes the leader away waits for it.
func voters(r *Raft) (n int) {
	for _, s := range r.Servers() {
		if s.Voter {
			n++
		}
	}
	return n
}

func founding() *registry.Found {
	pool := netip.MustParsePrefix("10.80.0.0/24")
	roles := registry.RoleVoter | registry.RoleAgent
	return &registry.Found{
		Cluster: registry.Cluster{
			ID: identity.ClusterID{1}, CA: []byte("ca"), Pool: []netip.Prefix{pool}, Egress: registry.EgressRouted,
		},
		Parts:   []registry.Part{{Prefix: pool}},
		Founder: registry.Node{Key: key(0), Name: "n0", May: roles, Is: roles},
	}
}

func (c *cluster) config(n int) Config {
	config := Config{
		Dir: c.dirs[n], ID: id(n), Log: slog.New(slog.DiscardHandler),
		Heartbeat: 200 * time.Millisecond, Election: 200 * time.Millisecond, Lease: 150 * time.Millisecond,
	}
	if c.tune != nil {
		c.tune(&config)
	}
	return config
}

// listening is a node's config with its place on the network, which it had not before.
func (c *cluster) listening(n int) Config {
	config := c.config(n)
	config.Layer = c.network.layer(id(n))
	return config
}

func (c *cluster) start(n int, bootstrap bool) {
	c.Helper()
	config := c.listening(n)
	config.Bootstrap = bootstrap
	r, err := Open(config)
	c.ok(err)
	c.nodes[n] = r
}

func (c *cluster) stop(n int) {
	c.Helper()
	if c.nodes[n] != nil {
		c.ok(c.nodes[n].Close())
		c.nodes[n] = nil
	}
}

func (c *cluster) ok(err error) {
	c.Helper()
	if err != nil {
		c.Fatal(err)
	}
}

func (c *cluster) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	c.Cleanup(cancel)
	return ctx
}

// until waits for a condition.
func (c *cluster) until(what string, holds func() bool) {
	c.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for ctx := c.ctx(); !holds(); {
		select {
		case <-tick.C:
		case <-ctx.Done():
			c.Fatalf("never happened: %s", what)
		}
	}
}

// leader waits until a reachable node leads and has applied all that came before.
func (c *cluster) leader() (found *Raft) {
	c.Helper()
	c.until("a leader", func() bool {
		for n, r := range c.nodes {
			if r != nil && !c.cut(n) && r.look().Leader && r.Barrier(c.ctx()) == nil {
				found = r
				return true
			}
		}
		return false
	})
	return found
}

func (c *cluster) cut(n int) bool {
	c.network.mu.Lock()
	defer c.network.mu.Unlock()
	return c.network.isolated[id(n)]
}

func (c *cluster) command(body registry.Command) registry.Command {
	c.commands++
	binary.BigEndian.PutUint64(body.ID[:], c.commands)
	return body
}

func tick(seconds uint64) registry.Command {
	return registry.Command{AdvanceTick: &registry.AdvanceTick{Elapsed: seconds}}
}

// must commits a command at a replica that leads. On a busy machine it may lead no more:
// then the same command is proposed to whoever does.
func (c *cluster) must(r *Raft, body registry.Command) (result registry.Result) {
	c.Helper()
	command := c.command(body)
	err := errors.New("not tried")
	for tries := 0; err != nil && tries < 20; tries++ {
		if result, err = r.Propose(c.ctx(), command); errors.Is(err, ErrNotLeader) || errors.Is(err, ErrOutcomeUnknown) {
			r = c.leader()
		}
	}
	c.ok(err)
	c.ok(result.Err())
	return result
}

// byLeader does what only a leader can, at whoever leads then.
func (c *cluster) byLeader(what string, do func(leader *Raft) error) {
	c.Helper()
	c.until(what, func() bool { return do(c.leader()) == nil })
}

// ticks is how many seconds a replica has seen: each command counts once.
func ticks(r *Raft) (seen registry.Tick) {
	r.View(func(s *registry.State) { seen = s.Tick })
	return seen
}

// agree waits until every running replica has seen that many seconds.
func (c *cluster) agree(want registry.Tick) {
	c.Helper()
	for n, r := range c.nodes {
		if r != nil {
			c.until("replica "+string(rune('0'+n))+" catches up", func() bool { return ticks(r) == want })
		}
	}
}

func (c *cluster) number(r *Raft) int {
	for n, o := range c.nodes {
		if o == r {
			return n
		}
	}
	return -1
}

// silence lets so many election timeouts pass.
func (c *cluster) silence(timeouts int) {
	c.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(timeouts)*c.config(0).Election)
	defer cancel()
	<-ctx.Done()
}
