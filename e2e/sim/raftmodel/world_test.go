package raftmodel

import (
	"container/heap"
	"context"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// occasion is something that happens at a time; of equal times the earlier one made.
type occasion struct {
	at     time.Duration
	number uint64
	do     func()
}

type calendar []occasion

func (c calendar) Len() int { return len(c) }
func (c calendar) Less(i, j int) bool {
	return c[i].at < c[j].at || c[i].at == c[j].at && c[i].number < c[j].number
}
func (c calendar) Swap(i, j int) { c[i], c[j] = c[j], c[i] }
func (c *calendar) Push(o any)   { *c = append(*c, o.(occasion)) }
func (c *calendar) Pop() any {
	last := (*c)[len(*c)-1]
	*c = (*c)[:len(*c)-1]
	return last
}

// world is time and a network for a cluster, and what was seen of it.
type world struct {
	cluster  *Cluster
	replicas []*Replica
	random   *rand.Rand
	seed     uint64

	now      time.Duration
	calendar calendar
	made     uint64
	cut      [][]bool // from, to
	loss     float64
	slowest  time.Duration

	trace     []string
	committed map[uint64]Applied // by index
	highest   uint64
	leaders   map[uint64]int  // by term
	done      map[string]bool // commands whose proposer was told that they are committed
	wrong     []string        // what must not be
	inOrder   []uint64        // index applied last, by server
}

func newWorld(seed uint64, size int) *world {
	w := &world{
		seed: seed, random: rand.New(rand.NewPCG(seed, 1)), slowest: 5 * time.Millisecond,
		committed: make(map[uint64]Applied), leaders: make(map[uint64]int), done: make(map[string]bool),
		inOrder: make([]uint64, size),
	}
	var ids []identity.NodeID
	for i := range size {
		ids = append(ids, identity.NodeID{byte(i + 1)})
		w.cut = append(w.cut, make([]bool, size))
	}
	w.cluster = New(Config{
		Servers: ids, Network: w, Clock: w, Seed: seed, Threshold: 40, Trailing: 10,
		Observer: Observer{Line: w.line, Applied: w.applied},
	})
	w.replicas = make([]*Replica, size)
	return w
}

// Send is the network.
func (w *world) Send(from, to, bytes int, deliver func()) {
	if w.cut[from][to] || w.random.Float64() < w.loss {
		return
	}
	w.After(time.Duration(1+w.random.Int64N(int64(w.slowest))), func() {
		if !w.cut[from][to] {
			deliver()
		}
	})
}

func (w *world) Now() time.Duration { return w.now }

func (w *world) After(d time.Duration, do func()) {
	w.made++
	heap.Push(&w.calendar, occasion{w.now + d, w.made, do})
}

// run lets time pass, and looks at what must hold after each occasion.
func (w *world) run(d time.Duration) {
	end := w.now + d
	for len(w.calendar) > 0 && w.calendar[0].at <= end {
		o := heap.Pop(&w.calendar).(occasion)
		w.now = o.at
		o.do()
		w.look()
	}
	w.now = end
}

func (w *world) line(server int, line string) {
	w.trace = append(w.trace, fmt.Sprintf("%v server %d %s", w.now, server, line))
}

func (w *world) fault(format string, args ...any) {
	w.wrong = append(w.wrong, fmt.Sprintf("seed %d at %v: ", w.seed, w.now)+fmt.Sprintf(format, args...))
}

// applied holds State Machine Safety.
func (w *world) applied(server int, a Applied) {
	w.trace = append(w.trace, fmt.Sprintf("%v server %d applies %d.%d %x", w.now, server, a.Term, a.Index, a.Command))
	was, known := w.committed[a.Index]
	switch {
	case !known:
		w.committed[a.Index], w.highest = a, max(w.highest, a.Index)
	case was.Term != a.Term || string(was.Command) != string(a.Command):
		w.fault("server %d applied another command at index %d (term %d) than was applied there before (term %d)",
			server, a.Index, a.Term, was.Term)
	}
	if a.Index <= w.inOrder[server] {
		w.fault("server %d applied index %d after %d", server, a.Index, w.inOrder[server])
	}
	w.inOrder[server] = a.Index
}

// look holds Election Safety, and Leader Completeness of each new leader.
func (w *world) look() {
	for i, r := range w.cluster.running {
		if r == nil || r.role != leader {
			continue
		}
		switch was, known := w.leaders[r.disk.term]; {
		case !known:
			w.leaders[r.disk.term] = i
			w.complete(r)
		case was != i:
			w.fault("servers %d and %d both led term %d", was, i, r.disk.term)
		}
	}
}

func (w *world) complete(r *Replica) {
	for index := r.disk.snapshot.index + 1; index <= w.highest; index++ {
		have, ok := r.disk.at(index)
		if was, known := w.committed[index]; known && was.Term < r.disk.term && (!ok || have.term != was.Term) {
			w.fault("server %d leads term %d without the committed entry %d.%d", r.number, r.disk.term, was.Term, index)
			return
		}
	}
}

func (w *world) open(server int) {
	w.inOrder[server] = w.cluster.disks[server].snapshot.index
	w.replicas[server] = w.cluster.Open(server)
}

// propose asks whoever thinks that it leads.
func (w *world) propose() {
	for _, r := range w.replicas {
		if r == nil || r.ended || r.role != leader {
			continue
		}
		id := registry.CommandID{byte(w.made), byte(w.made >> 8), byte(w.made >> 16), 1}
		c := registry.Command{ID: id, AdvanceTick: &registry.AdvanceTick{Elapsed: 1}}
		raw, _ := registry.EncodeCommand(c)
		r.ProposeThen(c, func(result registry.Result, err error) {
			if err != nil {
				return
			}
			if was := w.committed[result.Index]; string(was.Command) != string(raw) {
				w.fault("a proposal was said to be committed at %d, where another command is", result.Index)
			}
			w.done[string(raw)] = true
		})
	}
}

// leader is the server that leads the newest term; nobody: none does.
func (w *world) leader() int {
	best := nobody
	for i, r := range w.cluster.running {
		if r != nil && r.role == leader && (best == nobody || r.disk.term > w.cluster.running[best].disk.term) {
			best = i
		}
	}
	return best
}

// begun asks for a change without waiting for it.
func begun(change func(context.Context, identity.NodeID) error, id identity.NodeID) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = change(ctx, id) // its outcome shows in the configuration
}

func (w *world) hash() uint64 {
	h := fnv.New64a()
	for _, line := range w.trace {
		h.Write([]byte(line))
		h.Write([]byte{'\n'})
	}
	return h.Sum64()
}
