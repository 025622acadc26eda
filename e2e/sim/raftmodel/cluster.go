// Package raftmodel is Raft for the simulation of the control plane: the servers of a
// mesh's log in one process, in virtual time, over a network that loses, delays and cuts.
// It has what the mesh relies on as hashicorp/raft does it under consensus: terms and
// votes on disk, pre-votes, a leader's lease, one change of the servers at a time,
// snapshots, and the floor that a disk which was put back is held to. Committed entries
// meet the real registry.Apply at every replica.
//
// The package owns replicas and their disks. It owns neither time nor the network, which
// are passed in, nor anything that uses the log. It has no goroutines; a seed and the
// order of what comes in decide everything.
package raftmodel

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// Network carries messages between servers, which are numbers: late, in another order or
// never, as it likes. It calls deliver at most once, later, and not within Send.
type Network interface {
	Send(from, to, bytes int, deliver func())
}

// Clock is virtual time. It calls do later, and not within After.
type Clock interface {
	Now() time.Duration
	After(d time.Duration, do func())
}

// Observer is told what happens, in order. Nil functions are not.
type Observer struct {
	Line    func(server int, line string)
	Applied func(server int, e Applied)
}

// Applied is a committed command as one replica took it.
type Applied struct {
	Index, Term uint64
	Command     []byte // as registry.EncodeCommand made it
}

// Config is what a cluster is made of.
type Config struct {
	Servers  []identity.NodeID // all that may ever be; a server's number is its place here
	Network  Network
	Clock    Clock
	Seed     uint64
	Observer Observer

	Threshold uint64 // entries that make a snapshot; zero: consensus.SnapshotThreshold
	Trailing  uint64 // entries kept behind one; zero: consensus.TrailingLogs
}

// Cluster is all servers. One lock guards all of it, and is never held while anything
// outside is called.
type Cluster struct {
	config  Config
	numbers map[identity.NodeID]int
	flaws   flaws

	mu      sync.Mutex // protects what follows, and the replicas
	disks   []*disk
	running []*Replica // nil: no process
	effects []func()
	era     uint64 // of all replicas
}

// flaws are bugs that the tests plant, to see that they are seen.
type flaws struct {
	votesTwice  bool // in one term
	countsOlder bool // commits an older term's entry because a majority has it
	oneByOne    bool // sends entries so; no bug, but without it the one above hardly shows
	heedless    bool // of the floor
}

// New is a cluster none of whose servers runs yet.
func New(c Config) *Cluster {
	if c.Threshold == 0 {
		c.Threshold = consensus.SnapshotThreshold
	}
	if c.Trailing == 0 {
		c.Trailing = consensus.TrailingLogs
	}
	cluster := &Cluster{
		config: c, numbers: make(map[identity.NodeID]int),
		disks: make([]*disk, len(c.Servers)), running: make([]*Replica, len(c.Servers)),
	}
	for i, id := range c.Servers {
		cluster.numbers[id], cluster.disks[i] = i, &disk{}
	}
	return cluster
}

// Bootstrap makes a server with an empty disk the only voter of a new log.
func (c *Cluster) Bootstrap(server int) {
	c.turn(func() {
		alone := []consensus.Server{{ID: c.config.Servers[server], Voter: true}}
		c.disks[server].write(func(i *Image) {
			i.term = 1
			i.entries = []entry{{place: place{index: 1, term: 1}, kind: servers, servers: alone}}
		})
	})
}

// Open starts a server's process from its disk. known is how far the log went as the node
// was told, and as others say.
func (c *Cluster) Open(server int, known ...consensus.Known) (r *Replica) {
	c.turn(func() {
		if c.running[server] != nil {
			panic("raftmodel: a server that runs was opened")
		}
		r = newReplica(c, server)
		c.running[server] = r
		r.open(known)
	})
	return r
}

// Crash ends a server's process without a word; what it wrote stays.
func (c *Cluster) Crash(server int) {
	c.turn(func() {
		if r := c.running[server]; r != nil {
			r.end("crashes")
		}
	})
}

// Stop has a server's process stand still, as SIGSTOP does.
func (c *Cluster) Stop(server int) {
	c.turn(func() {
		if r := c.running[server]; r != nil {
			r.stopped = true
			r.say("stands still")
		}
	})
}

// Continue lets it go on: what came meanwhile waits for it, and so do its timers, in an
// order that nobody promises.
func (c *Cluster) Continue(server int) {
	c.turn(func() {
		if r := c.running[server]; r != nil && r.stopped {
			r.say("goes on")
			r.goOn()
		}
	})
}

// Image is a copy of a server's disk as it is now.
func (c *Cluster) Image(server int) (i Image) {
	c.turn(func() { i = c.disks[server].Image })
	return i
}

// PutBack replaces the disk of a server that does not run.
func (c *Cluster) PutBack(server int, i Image) { c.replace(server, i, "has an older disk") }

// Empty takes the disk of a server that does not run away.
func (c *Cluster) Empty(server int) { c.replace(server, Image{}, "has an empty disk") }

// Lose undoes the last writes to the disk of a server that does not run, as a disk does
// that said too early that it had written. At most MaxPast of them can be undone.
func (c *Cluster) Lose(server, writes int) {
	c.turn(func() {
		d := c.disks[server]
		writes = min(writes, len(d.past))
		if writes > 0 {
			c.put(server, d.past[len(d.past)-writes], fmt.Sprintf("lost its last %d writes", writes))
		}
	})
}

func (c *Cluster) replace(server int, i Image, line string) {
	c.turn(func() { c.put(server, i, line) })
}

func (c *Cluster) put(server int, i Image, line string) {
	if c.running[server] != nil {
		panic("raftmodel: the disk of a server that runs was replaced")
	}
	i.entries = slices.Clip(i.entries) // what is appended is not seen in the image
	c.disks[server] = &disk{Image: i}
	c.say(server, line)
}

// turn changes the model, and then does outside what follows from it.
func (c *Cluster) turn(change func()) {
	c.mu.Lock()
	change()
	effects := c.effects
	c.effects = nil
	c.mu.Unlock()
	for _, effect := range effects {
		effect()
	}
}

func (c *Cluster) effect(do func()) { c.effects = append(c.effects, do) }

func (c *Cluster) say(server int, line string) {
	if c.config.Observer.Line != nil {
		c.effect(func() { c.config.Observer.Line(server, line) })
	}
}

// chance is a replica's own, so that no other's order of things changes it.
func (c *Cluster) chance(server int) *rand.Rand {
	c.era++
	return rand.New(rand.NewPCG(c.config.Seed, uint64(server)<<32|c.era))
}
