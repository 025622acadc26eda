package sim

import (
	"context"
	"fmt"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/e2e/sim/raftmodel"
)

// replica is a daemon's copy of the log. What the model signals in one instant reaches the
// daemon in several: a loop that could take either would take any.
type replica struct {
	*raftmodel.Replica
	changes    chan struct{}
	leadership chan consensus.Leadership
}

// Between two signals of one instant.
const apart = time.Microsecond

// openLog starts the daemon's replica, and what serves when it leads.
func (d *daemon) openLog(ctx context.Context) {
	d.member.keepsLog = true
	r := &replica{
		Replica: d.world.cluster.Open(d.number-1, d.furthest()...),
		changes: make(chan struct{}, 1), leadership: make(chan consensus.Leadership, 1),
	}
	d.replica.Store(r)
	d.running.Go(func() { r.pass(ctx, d) })
	d.running.Go(func() { d.keepLeading(ctx, r) })
}

// pass hands on the model's signals.
func (r *replica) pass(ctx context.Context, d *daemon) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.Replica.Changes():
			d.world.leave("l"+d.name, func() { d.world.after(apart, func() { offer(r.changes, struct{}{}) }) })
		case l := <-r.Replica.Leadership():
			d.world.leave("l"+d.name, func() { d.world.after(2*apart, func() { r.tell(l) }) })
		}
	}
}

// tell replaces what nobody has heard yet.
func (r *replica) tell(l consensus.Leadership) {
	select {
	case <-r.leadership:
	default:
	}
	r.leadership <- l
}

func offer[T any](to chan T, what T) {
	select {
	case to <- what:
	default:
	}
}

// Changes implements arbiter.Store.
func (r *replica) Changes() <-chan struct{} { return r.changes }

// Leadership is that of the replica.
func (r *replica) Leadership() <-chan consensus.Leadership { return r.leadership }

// newCluster is the log's model on this world's time and network.
func (w *World) newCluster() *raftmodel.Cluster {
	var servers []identity.NodeID
	for _, n := range w.mesh.members {
		servers = append(servers, n.key.ID())
	}
	return raftmodel.New(raftmodel.Config{
		Servers: servers, Network: wire{w}, Clock: clock{w}, Seed: w.seed,
		Observer: raftmodel.Observer{
			Line:    func(server int, line string) { w.trace.note(w.mesh.members[server].name, "log: %s", line) },
			Applied: func(server int, e raftmodel.Applied) { w.watch.applied(server, e) },
		},
	})
}

// wire carries the model's messages. They go by TCP: what is lost comes late.
type wire struct{ *World }

// Send implements raftmodel.Network.
func (w wire) Send(from, to, bytes int, deliver func()) {
	w.leave(fmt.Sprintf("r%d%d%06d", from, to, bytes), func() {
		near, far := w.mesh.members[from].host, w.mesh.members[to].host
		takes := w.net.takes(near, far)
		if w.net.loses(near, far) {
			takes += resendFirst
		}
		w.after(takes, func() {
			if w.net.open(near, far) {
				deliver()
			}
		})
	})
}

// clock is the model's.
type clock struct{ *World }

// Now implements raftmodel.Clock.
func (c clock) Now() time.Duration { return c.now() }

// After implements raftmodel.Clock.
func (c clock) After(d time.Duration, do func()) {
	due := c.now() + d
	c.leave("w", func() { c.after(due-c.now(), do) })
}
